/**
 * Control files that are read again and again: kept open, so that a look is one pread(2) and no walk through a path.
 *
 * The kernel makes the text anew whenever it is read from its beginning. A descriptor does not hold a group: the group can be removed, and what is read then is ENODEV.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';

/** Longest text that is read, in bytes: memory.stat has some 2 KiB, io.stat 100 for each disk. */
const LONGEST = 1 << 16;
const buffer = Buffer.allocUnsafeSlow(LONGEST);

export interface OpenControls<Name extends string> {
  /** Text of a file; undefined where the host has none. @throws the system error as it is: ENODEV when the group is gone */
  read(name: Name): string | undefined;
  close(): void;
}

/**
 * Open what there is of the files. What is missing stays missing until they are opened anew.
 * @param paths absolute, by the name under which they are read
 */
export function openControls<Name extends string>(paths: Partial<Record<Name, string>>): OpenControls<Name> {
  const open = new Map<Name, number>();
  for (const [name, path] of Object.entries(paths) as [Name, string][]) {
    try {
      open.set(name, openSync(path, constants.O_RDONLY));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // EOPNOTSUPP: pressure of a kernel that was booted without it.
      if (code === 'ENOENT' || code === 'ENODEV' || code === 'EOPNOTSUPP' || code === 'ENOTSUP') continue;
      for (const fd of open.values()) closeSync(fd);
      throw error;
    }
  }
  return {
    read(name) {
      const fd = open.get(name);
      return fd === undefined ? undefined : buffer.toString('latin1', 0, readSync(fd, buffer, 0, LONGEST, 0));
    },
    close() {
      for (const fd of open.values()) closeSync(fd);
      open.clear();
    },
  };
}
