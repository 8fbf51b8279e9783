/** Whom the kernel killed for want of memory, as its log says: `oom-kill:constraint=CONSTRAINT_MEMCG,...,task_memcg=/veld-main/101,task=stress,pid=4711,uid=165536`. */
import { closeSync, constants, openSync, readSync } from 'node:fs';

export interface OomVictim {
  /** Pid on the host. */
  pid: number;
  /** Name that the process had given itself, at most 15 bytes: hostile text. */
  name: string;
}

/** Lines of the log that are looked at, the newest count. */
const MOST = 100_000;

/**
 * The last victims in a group or below it, oldest first; empty where the log cannot be read or has forgotten them.
 * @param group path from the mount point of its hierarchy
 * @param count how many there should be
 */
export function oomVictims(group: string, count: number): OomVictim[] {
  return victimsIn(kernelLog(), group, count);
}

/** The same of lines. */
export function victimsIn(lines: Iterable<string>, group: string, count: number): OomVictim[] {
  const found: OomVictim[] = [];
  for (const line of lines) {
    // The name is whatever the process likes, commas included: what comes behind it is matched from the end.
    const match = /oom-kill:constraint=.*,task_memcg=([^,]*),task=(.*),pid=(\d+),uid=\d+$/.exec(line);
    if (match && (match[1] === group || match[1]!.startsWith(`${group}/`))) found.push({ pid: Number(match[3]), name: match[2]! });
  }
  return found.slice(-Math.max(1, count));
}

/** What is in the kernel's log now, a record each: only their first lines. */
function* kernelLog(): Generator<string> {
  let fd: number;
  try {
    fd = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return; // a container, or a kernel that shows it to nobody
  }
  const buffer = Buffer.allocUnsafe(8192);
  try {
    for (let i = 0; i < MOST; i += 1) {
      let length: number;
      try {
        length = readSync(fd, buffer, 0, buffer.length, null);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EPIPE') continue; // overwritten meanwhile: goes on with the next one
        return; // EAGAIN: that was all
      }
      const text = buffer.toString('latin1', 0, length);
      yield text.slice(text.indexOf(';') + 1).split('\n', 1)[0]!;
    }
  } finally {
    closeSync(fd);
  }
}
