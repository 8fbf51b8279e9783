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
    const first = (kind === 'fifo' ? undefined : inodes.get(stat.ino)) ?? path; // see packTree
    inodes.set(stat.ino, first);
    if (kind === 'device') {
      found.set(path, { kind, device: stat.rdev }); // overlayfs links its whiteouts, and looks at nothing else of them
      return;
    }
    found.set(path, {
      kind, first, mode: stat.mode, owner: [stat.uid, stat.gid], mtime: stat.mtimeNs, ...kind !== 'folder' && kind !== 'fifo' && { size: stat.size, links: stat.nlink },
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

/**
 * One round.
 * @param options `settled`: nobody is changing the tree now, so that what is recent need not be sent again
 * @returns what was scanned, for the next one
 */
export async function transferRound(source: string, target: string, before: Tree, uidBase: number, { sync = true, settled = false } = {}):
Promise<{ tree: Tree; counts: StreamCounts; sent: number }> {
  const tree = await scanTree(source);
  if (settled) for (const entry of tree.values()) entry.recent = false;
  const { send, remove } = treeChanges(before, tree);
  if (sync) await syncTree(source);
  await removePaths(target, remove);
  const pack = packTree(source);
  const unpack = unpackTree(target, { uidBase, limits: LIMITS });
  await Promise.all([pack.send(send), pipeline(pack.output, unpack.input)]);
  await pack.ended;
  return { tree, counts: await unpack.ended, sent: send.length };
}

/** Fields of a header that an honest tar might not write. */
export interface HeaderFields {
  path: string;
  /** Type flag of ustar; default: a file. */
  type?: string;
  link?: string;
  uid?: number;
  gid?: number;
  device?: [major: number, minor: number];
  content?: string;
  /** Size that the header tells, when it is not that of the content. */
  size?: number;
  mode?: number;
  /** Records of an extended header before it. */
  pax?: Record<string, string | Buffer>;
  /** Type flag of that header. */
  paxType?: string;
}

/** One entry of an archive, by hand. */
export function entry(fields: HeaderFields): Buffer {
  const { path, type = '0', link = '', uid = 0, gid = uid, device = [0, 0], content = '', mode = 0o755, pax, paxType = 'x' } = fields;
  const block = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number): void => { block.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1'); };
  block.write(path, 0, 100, 'latin1');
  octal(mode, 100, 8);
  // GNU's base-256, for ids above 2097151.
  for (const [id, at] of [[uid, 108], [gid, 116]] as const) {
    block[at] = 0x80;
    block.writeUInt32BE(id, at + 4);
  }
  octal(fields.size ?? content.length, 124, 12);
  octal(0, 136, 12);
  block.write(type, 156, 'latin1');
  block.write(link, 157, 100, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(device[0], 329, 8);
  octal(device[1], 337, 8);
  block.fill(' ', 148, 156);
  octal(block.reduce((sum, byte) => sum + byte, 0), 148, 7);
  const parts = [block, padded(Buffer.from(content, 'latin1'))];
  if (pax) {
    const records = Buffer.concat(Object.entries(pax).map(([key, value]) => record(key, Buffer.from(value as string, 'latin1'))));
    parts.unshift(entry({ path: 'PaxHeaders/x', type: paxType, content: records.toString('latin1') }));
  }
  return Buffer.concat(parts);
}

function record(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), value, Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length += 1;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** What ends an archive. */
export const END = Buffer.alloc(1024);

/** A stream of these entries, by hand. */
export function streamOf(entries: readonly HeaderFields[], opaque: readonly string[] = []): Buffer {
  const list = bytes(opaque.map((path) => `${path}\0`).join(''));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(list.length);
  return Buffer.concat([Buffer.from('VELDTREE'), length, list, ...entries.map(entry), END]);
}

/** Give a stream to a target. @param step bytes at a time */
export async function receive(target: string, stream: Buffer, uidBase: number, { limits = LIMITS, step = stream.length } = {}): Promise<StreamCounts> {
  const { input, ended } = unpackTree(target, { uidBase, limits });
  const chunks = Array.from({ length: Math.ceil(stream.length / step) }, (_, i) => stream.subarray(i * step, (i + 1) * step));
  await pipeline(chunks, input).catch(() => {});
  return ended;
}
