/** Names that an earlier round brought and the source has no more. */
import { closeSync } from 'node:fs';
import { rmdir, unlink } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { startBox } from '../kernel/box.ts';
import { VeldError } from '../lib/errors.ts';
import { O_PATH } from '../kernel/syscalls.ts';
import { openFolder, openRoot } from './tree-folders.ts';
import { folderOf } from './tree-scan.ts';

/** How many names are removed at a time, and the longest, in bytes: PATH_MAX of linux/limits.h. */
const BATCH = 4096;
const LONGEST = 4096;

/** Takes names as they come, a NUL behind each, and removes them from a tree: they are never all in memory. */
export class NameRemover {
  #target: string;
  #signal: AbortSignal;
  #rest: Buffer = Buffer.alloc(0);

  constructor(target: string, signal: AbortSignal) {
    this.#target = target;
    this.#signal = signal;
  }

  /** @throws VeldError `migration.stream`, and those of {@link removePaths} */
  async take(chunk: Buffer): Promise<void> {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    let at = 0;
    for (let names: string[] = []; ; names = []) {
      for (let end; names.length < BATCH && (end = bytes.indexOf(0, at)) >= 0; at = end + 1) names.push(bytes.toString('latin1', at, end));
      if (names.length === 0) break;
      await removePaths(this.#target, names, { signal: this.#signal });
    }
    this.#rest = Buffer.from(bytes.subarray(at));
    if (this.#rest.length > LONGEST) throw new VeldError('migration.stream', 'The stream holds a name to remove that is too long.');
  }

  /** All have come. @throws VeldError `migration.stream` when the last one is cut off */
  end(): void {
    if (this.#rest.length > 0) throw new VeldError('migration.stream', 'The stream holds names to remove that are cut off.');
  }
}

/** Errors that say that a name is not there. */
const GONE = new Set(['ENOENT', 'ENOTDIR']);

/**
 * Remove names from a tree. The folder of each is resolved through no link and never out of the tree, a link goes itself, a folder goes with all that is in it. What
 * is not there is removed already.
 * @param target a folder of Veld's own that nobody uses yet
 * @param paths as of `treeChanges`: what is in a folder before the folder, or else rm(1) has to do it
 * @throws VeldError `migration.stream` for a path that leads out, `storage.failed`, `operation.cancelled`
 */
export async function removePaths(target: string, paths: readonly string[], options: { signal?: AbortSignal } = {}): Promise<void> {
  for (const path of paths) {
    if (path.includes('\0') || path.split('/').some((part) => part === '' || part === '.' || part === '..')) {
      throw new VeldError('migration.stream', `${JSON.stringify(path.slice(0, 100))} cannot be removed: it is not a path within the tree.`);
    }
  }
  const full: string[] = [];
  const root = openRoot(target);
  let last: { path: string; fd: number | undefined } | undefined;
  try {
    for (const path of paths) {
      if (options.signal?.aborted) throw new VeldError('operation.cancelled', 'The operation was cancelled.');
      const folder = folderOf(path);
      if (last?.path !== folder) {
        if (last?.fd !== undefined) closeSync(last.fd);
        last = { path: folder, fd: openFolder(root, folder, O_PATH) };
      }
      if (last.fd !== undefined && !await removeName(last.fd, path.slice(path.lastIndexOf('/') + 1))) full.push(path);
    }
  } finally {
    if (last?.fd !== undefined) closeSync(last.fd);
    closeSync(root);
  }
  if (full.length > 0) await removeFull(target, full, options.signal);
}

/**
 * Remove a name in an open folder, in another thread: a large file takes its time. The last name of a path is never followed by these two.
 * @returns whether it is gone: a folder with something in it is not
 */
async function removeName(folder: number, name: string): Promise<boolean> {
  const path = Buffer.concat([Buffer.from(`/proc/self/fd/${folder}/`), Buffer.from(name, 'latin1')]);
  try {
    await unlink(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EISDIR') throw error;
      return rmdir(path);
    });
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    if (code === 'ENOTEMPTY' || code === 'EEXIST') return false;
    if (!GONE.has(code)) throw new VeldError('storage.failed', `A name could not be removed: ${message}.`, { cause: error });
  }
  return true;
}

/** Folders with their content. rm(1) walks by descriptors; in the box no path leads through a link. */
async function removeFull(target: string, paths: readonly string[], signal?: AbortSignal): Promise<void> {
  const box = startBox(['/bin/sh', '-c', 'cd /out && exec /usr/bin/xargs -0 /bin/rm -rf --one-file-system --'],
    { out: target, links: 'refused', capabilities: ['dac_override', 'fowner'], stdin: 'pipe', ...signal && { signal } });
  (box.stdin as Writable).end(Buffer.from(paths.map((path) => `./${path}\0`).join(''), 'latin1'));
  const { code, said } = await box.ended;
  if (code !== 0) throw new VeldError('storage.failed', `Folders below ${target} could not be removed: ${said || `rm ended with status ${code}`}`);
}
