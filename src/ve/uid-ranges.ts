/**
 * Which host uids belong to which VE.
 *
 * At its first start an installation picks a block of 512 ranges of 65536 ids, at random so that two nodes seldom share one, outside
 * of what /etc/subuid and /etc/subgid promise to others and of what systemd-nspawn picks for itself. A range is given once; it is
 * free again when no VE and no layer names it.
 */
import { randomInt } from 'node:crypto';
import { readIfExists } from '../lib/files.ts';
import { VeldError } from '../lib/errors.ts';
import type { Store } from '../store/types.ts';
import { UID_COUNT } from './oci-config.ts';

/** Ranges in a block. */
export const RANGES = 512;
const BLOCK = RANGES * UID_COUNT;

/** Blocks are looked for here: above systemd-nspawn's 0x00080000-0x6FFFFFFF where possible, below 2^31 for programs that take uids as signed. */
const LOWEST = 0x3c000000;
const HIGHEST = 0x7fff0000;

const KEY = 'uid.block';

/** The installation's block, chosen at the first call. */
export function uidBlock(store: Store, taken = promisedRanges()): { base: number; count: number } {
  const known = store.getMeta<{ base: number; count: number }>(KEY);
  if (known) return known;
  const candidates: number[] = [];
  for (let base = LOWEST; base + BLOCK <= HIGHEST; base += BLOCK) {
    if (!taken.some((range) => range.start < base + BLOCK && base < range.start + range.count)) candidates.push(base);
  }
  if (candidates.length === 0) throw new VeldError('uid.none_free', '/etc/subuid and /etc/subgid leave no block of uids free.', { hint: 'Shorten the ranges there.' });
  const block = { base: candidates[randomInt(candidates.length)] as number, count: RANGES };
  store.setMeta(KEY, block);
  return block;
}

/**
 * A free range.
 * @returns its first uid
 * @throws VeldError `uid.none_free`
 */
export function allocateRange(store: Store): number {
  const block = uidBlock(store);
  const used = new Set<number>();
  for (const ve of store.listVes()) {
    used.add(ve.uidBase);
    for (const layer of ve.layers) used.add(layer.uidBase);
  }
  for (const layer of store.listLayers()) used.add(layer.uidBase);
  for (let i = 0; i < block.count; i++) {
    const base = block.base + i * UID_COUNT;
    if (!used.has(base)) return base;
  }
  throw new VeldError('uid.none_free', `All ${block.count} uid ranges of this installation are in use.`);
}

/**
 * Whether a range of ids that another node has given can be had here: nobody of this installation or of the host has one of them.
 * @param others ids of other installations on this host
 */
export function isRangeFree(store: Store, base: number, others: readonly { start: number; count: number }[]): boolean {
  if (!Number.isInteger(base) || base % UID_COUNT !== 0 || base < LOWEST || base + UID_COUNT > HIGHEST) return false;
  const meets = (start: number, count: number): boolean => start < base + UID_COUNT && base < start + count;
  const bases = [...store.listVes().flatMap((ve) => [ve.uidBase, ...ve.layers.map(({ uidBase }) => uidBase)]), ...store.listLayers().map(({ uidBase }) => uidBase)];
  return !bases.includes(base) && ![...promisedRanges(), ...others].some(({ start, count }) => meets(start, count));
}

/** Ranges promised to others, from subuid(5) and subgid(5): `name:start:count`. */
export function promisedRanges(): { start: number; count: number }[] {
  return ['/etc/subuid', '/etc/subgid'].flatMap((file) => (readIfExists(file) ?? '').split('\n')).flatMap((line) => {
    const [, start, count] = line.split(':');
    return start && count ? [{ start: Number(start), count: Number(count) }] : [];
  });
}
