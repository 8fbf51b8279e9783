/** Test helpers: trees of every kind of file, what they hold, and a round of a transfer. */
import { createHash } from 'node:crypto';
import { closeSync, constants, lstatSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { getXattr, listXattrs } from '../../kernel/syscalls.ts';
import { packTree, removePaths, scanTree, syncTree, treeChanges, unpackTree } from '../transfer.ts';
import type { StreamCounts, Tree } from '../transfer.ts';

export const LIMITS = { entries: 1_000_000, bytes: 2 ** 36 };

/** Path of bytes, of a text of which each character is one. */
export const bytes = (path: string): Buffer => Buffer.from(path, 'latin1');

/** What overlayfs notes for itself, and does not go along. */
const LEFT = new Set(['trusted.overlay.origin', 'trusted.overlay.impure', 'trusted.overlay.uuid']);

/** Path -> everything of it that must be the same on both sides. Hard links are known by the first of their names. */
export function describeTree(root: string): Map<string, unknown> {
  const found = new Map<string, unknown>();
  const inodes = new Map<bigint, string>();
  const visit = (path: string): void => {
    const at = bytes(path === '.' ? root : `${root}/${path}`);
    const stat = lstatSync(at, { bigint: true });
    const kind = stat.isFile() ? 'file' : stat.isDirectory() ? 'folder' : stat.isSymbolicLink() ? 'symlink' : stat.isFIFO() ? 'fifo' : stat.isSocket() ? 'socket' : 'device';
    if (kind === 'socket') return;
    const first = inodes.get(stat.ino) ?? path;
    inodes.set(stat.ino, first);
    if (kind === 'device') {
      found.set(path, { kind, device: stat.rdev }); // overlayfs links its whiteouts, and looks at nothing else of them
      return;
    }
    found.set(path, {
      kind, first, mode: stat.mode, owner: [stat.uid, stat.gid], mtime: stat.mtimeNs, ...kind !== 'folder' && { size: stat.size, links: stat.nlink },
      ...kind === 'symlink' && { link: readlinkSync(at, 'latin1') }, ...kind === 'file' && { content: createHash('sha256').update(readFileSync(at)).digest('hex') },
      ...(kind === 'file' || kind === 'folder') && { xattrs: xattrsOf(at) },
    });
    if (kind === 'folder') for (const name of readdirSync(at, { encoding: 'latin1' }).toSorted()) visit(path === '.' ? name : `${path}/${name}`);
  };
  visit('.');
  return found;
}

function xattrsOf(path: Buffer): string[] {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return listXattrs(fd).filter((name) => !LEFT.has(name)).map((name) => `${name}=${getXattr(fd, name)?.toString('hex')}`).toSorted();
  } finally {
    closeSync(fd);
  }
}

/** One round. @returns what was scanned, for the next one */
export async function transferRound(source: string, target: string, before: Tree, uidBase: number, { sync = true } = {}): Promise<{ tree: Tree; counts: StreamCounts; sent: number }> {
  const tree = await scanTree(source);
  const { send, remove } = treeChanges(before, tree);
  if (sync) await syncTree(source);
  await removePaths(target, remove);
  const pack = packTree(source);
  const unpack = unpackTree(target, { uidBase, limits: LIMITS });
  await Promise.all([pack.send(send), pipeline(pack.output, unpack.input)]);
  await pack.ended;
  return { tree, counts: await unpack.ended, sent: send.length };
}
