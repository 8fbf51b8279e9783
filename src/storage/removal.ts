/** Removal of trees that a VE filled with anything. */
import { renameSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { mountsBelow } from '../kernel/mounts.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { run } from '../lib/run.ts';

/** What a tree on its way out is called, in the folder where it was. */
export const TRASH = /^\.trash-[0-9a-f]{16}$/;

/** Such a name, a new one. */
export const trashName = (): string => `.trash-${randomBytes(8).toString('hex')}`;

/** How long a caller waits for a removal before it goes on without it, in milliseconds. */
const PATIENCE = 5000;

export interface Remover {
  /**
   * Take a tree away: at once under its name (a rename), soon from the disk. Resolves when all is gone or after 5 s; what takes longer
   * goes on meanwhile, and is found under its trash name after a crash.
   * @throws VeldError `storage.failed` when something is mounted in it, or it cannot be removed
   */
  remove(path: string): Promise<void>;
  /** Whether the tree of this trash name is being removed now. */
  isBusy(name: string): boolean;
}

/**
 * Make a remover. One per storage, so that it knows what is under way.
 * @param fast removes a tree faster than by its names, where it can: what is there afterwards is removed by these
 */
export function createRemover(fast: (path: string) => Promise<void> | undefined = () => undefined): Remover {
  const busy = new Map<string, Promise<void>>();
  const removeAll = async (path: string): Promise<void> => {
    await fast(path);
    await removeTree(path);
  };
  return {
    async remove(path) {
      const mounts = mountsBelow(path);
      if (mounts.length > 0) throw new VeldError('storage.failed', `${path} cannot be removed: something is mounted at ${mounts[0]}.`, { details: { mounts } });
      let trash = path;
      if (!TRASH.test(basename(path))) {
        trash = join(dirname(path), trashName());
        renameSync(path, trash);
      }
      faultPoint('storage.trashed');
      const name = basename(trash);
      const removal = busy.get(name) ?? removeAll(trash).finally(() => busy.delete(name));
      busy.set(name, removal);
      removal.catch(() => {}); // told to whoever waits long enough; otherwise the leftover is found at the next start
      const { promise: patience, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, PATIENCE);
      await Promise.race([removal, patience]).finally(() => clearTimeout(timer));
    },
    isBusy: (name) => busy.has(name),
  };
}

/**
 * Remove a tree in a process of its own. rm(1) walks by descriptors (openat with O_NOFOLLOW), so it follows no link, knows no longest path and
 * keeps no list of what it has seen; `--one-file-system` makes it leave other mounts alone.
 */
async function removeTree(path: string): Promise<void> {
  const rm = (): Promise<{ code: number; stderr: string }> => run('/bin/rm', ['-rf', '--one-file-system', '--preserve-root=all', '--', path], { allow: [1] });
  let result = await rm();
  if (result.code !== 0) {
    // No VE can set immutable and append-only flags (its CAP_LINUX_IMMUTABLE does not count), but an administrator can, and an image may hold them.
    await run('/usr/bin/chattr', ['-R', '-f', '-i', '-a', '--', path], { allow: true });
    result = await rm();
  }
  if (result.code !== 0) throw new VeldError('storage.failed', `${path} could not be removed: ${result.stderr.trim().split('\n').at(-1)}.`);
}
