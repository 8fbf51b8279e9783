/** Trees of a disk that lie above each other, read as the one that they make: into a stream for each, or into a folder, where their owners become others. */
import { closeSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { Transform } from 'node:stream';
import { VeldError } from '../lib/errors.ts';
import { openIdmapped, parseIdmaps, type TreeRoot } from '../kernel/mounts.ts';
import { mapInto } from './folders.ts';
import { packTree, type TreePack } from './tree-pack.ts';
import { scanTree, treeChanges, type TreeChanges } from './tree-scan.ts';
import type { Merged } from './tree-stack.ts';
import { unpackTree } from './tree-unpack.ts';

/** A tree of a disk. */
export interface Place {
  path: string;
  /** First of the ids in which its owners are written. */
  base: number;
}

/**
 * The streams of some names, one for each tree of which something shows that is among them. What lies in a folder never lies in a tree above that of the folder's own entry: so a folder comes last.
 * @param places lowest first
 * @param ready one of the uppermost tree, whose program waits
 */
export function* packs(places: readonly Place[], { from, opaque }: Merged, { send }: Pick<TreeChanges, 'send'>, signal: AbortSignal, ready?: TreePack): Generator<{ base: number; pack: TreePack }> {
  for (const [place, { path, base }] of places.entries()) {
    const names = send.filter((name) => from.get(name.path) === place);
    if (names.length === 0) continue;
    const pack = place === places.length - 1 && ready !== undefined ? ready : packTree(path, { signal });
    pack.send(names, opaque).catch(() => {}); // `output` tells
    yield { base, pack };
  }
}

/** Bounds of a copy: names, and bytes of the disk that others need. */
const ENTRIES = 5_000_000;
const LEAVE = 256 << 20;

export interface CopyOptions {
  signal: AbortSignal;
  /** Told of each part: bytes of the stream. */
  onProgress?: (bytes: number) => void;
}

/**
 * Copy such names into an empty folder: a layer that does above others what those trees did there, deleted names and opaque folders included.
 * @param target.base first of the ids in which the owners will be written
 * @throws VeldError `storage.failed`, `disk.full`, `operation.cancelled`
 */
export async function copyMerged(places: readonly Place[], merged: Merged, names: TreeChanges['send'], target: Place, options: CopyOptions): Promise<void> {
  for (const { base, pack } of packs(places, merged, { send: names }, options.signal)) await take(pack, base, target, options);
}

/** Copy a whole tree, or the one that several make, into an empty folder. Its owners stay. */
export async function copyTree(source: TreeRoot, target: string, options: CopyOptions): Promise<void> {
  const { signal } = options;
  const names = treeChanges(new Map(), await scanTree(source, { signal })).send;
  const pack = packTree(source, { signal });
  pack.send(names).catch(() => {}); // `output` tells
  await take(pack, 0, { path: target, base: 0 }, options);
}

async function take(pack: TreePack, from: number, { path, base }: Place, { signal, onProgress }: CopyOptions): Promise<void> {
  const map = mapInto(from, base);
  const mount = map === undefined ? undefined : await openIdmapped(path, parseIdmaps(map), { readOnly: false });
  const unpacker = unpackTree(path, { uidBase: from, ...mount !== undefined && { mapped: { mount, base } }, limits: { entries: ENTRIES, bytes: Number.MAX_SAFE_INTEGER, leave: { bytes: LEAVE, on: path } }, signal });
  unpacker.ended.catch(() => {}); // told below
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      onProgress?.(chunk.length);
      done(null, chunk);
    },
  });
  try {
    await pipeline(pack.output, counted, unpacker.input);
    const { conflicts } = await unpacker.ended;
    await pack.ended;
    if (conflicts > 0) throw new VeldError('storage.failed', `${conflicts} names of ${path} could not be put where they belong.`);
  } finally {
    pack.cancel();
    unpacker.cancel();
    await unpacker.ended.catch(() => {}); // or it would write to what is removed
    if (mount !== undefined) closeSync(mount);
  }
}
