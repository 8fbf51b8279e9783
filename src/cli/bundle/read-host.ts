/** Reads of the host's own files for a bundle: bounded, and never through a link. */
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Entries of a listing, at most. */
const LISTING_LIMIT = 5000;

/**
 * The end of a file, at most `limit` bytes.
 * @returns undefined when there is no such file, or it is no ordinary one
 */
export function readTail(path: string, limit: number): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) return undefined;
    // Files of /proc have no size: they are read from their beginning.
    const from = Math.max(0, stat.size - limit);
    const chunks: Buffer[] = [];
    for (let read = 0; read < limit; ) {
      const chunk = Buffer.alloc(Math.min(64 << 10, limit - read));
      const count = readSync(fd, chunk, 0, chunk.length, stat.size === 0 ? null : from + read);
      if (count === 0) break;
      chunks.push(chunk.subarray(0, count));
      read += count;
    }
    return `${from > 0 ? `(the first ${from} bytes are left out)\n` : ''}${Buffer.concat(chunks).toString('utf8')}`;
  } finally {
    closeSync(fd);
  }
}

/** What lies in a folder, with mode, owner, size and time. @param depth levels of folders that are gone into */
export function listTree(folder: string, depth: number): string {
  const lines: string[] = [];
  const walk = (path: string, left: number): void => {
    for (const name of readdirSync(path).toSorted()) {
      if (lines.length >= LISTING_LIMIT) return;
      const entry = join(path, name);
      // A mount of lxcfs that hangs would take us with it, even for a look at its root.
      if (path === folder && name === 'lxcfs') {
        lines.push(`d (not looked at) ${JSON.stringify(name)}\n`);
        continue;
      }
      const stat = lstatSync(entry, { throwIfNoEntry: false });
      if (!stat) continue;
      const kind = stat.isDirectory() ? 'd' : stat.isSymbolicLink() ? 'l' : stat.isFile() ? '-' : stat.isSocket() ? 's' : stat.isFIFO() ? 'p' : '?';
      lines.push(`${kind}${(stat.mode & 0o7777).toString(8).padStart(4, '0')} ${stat.uid}:${stat.gid} ${stat.size} ${stat.mtime.toISOString()} ${JSON.stringify(entry.slice(folder.length + 1))}\n`);
      // A root belongs to a VE: its name is seen, what is in it is not.
      if (kind === 'd' && left > 0 && !/^(rootfs|upper|work|merged|lower\d*|tree)$/.test(name)) walk(entry, left - 1);
    }
  };
  walk(folder, depth);
  return `${folder}\n${lines.join('')}${lines.length >= LISTING_LIMIT ? '(and more)\n' : ''}`;
}
