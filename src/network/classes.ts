/**
 * Classes of traffic (OpenVZ's network classes): whom a VE talks to, by the settings. Pure.
 *
 * What does not leave the host is `inside`, whatever the addresses; so are the pools of this installation. All else is of the class whose network has the
 * longest prefix that holds the other side's address, or `outside`.
 */
import { VeldError } from '../lib/errors.ts';
import { formatIp, formatPrefix, lastOf, parsePrefix, width } from './ip.ts';
import type { Prefix } from './ip.ts';

/** Of what stays on the host, and of the pools. */
export const INSIDE = 'inside';
/** Of what is in no network of another class. */
export const OUTSIDE = 'outside';

/** Most classes, these two included: each costs a VE two counters. OpenVZ has as many. */
const MOST = 16;

/** A class that has networks. */
export interface NetworkClass {
  name: string;
  networks: Prefix[];
}

/** A range of addresses that is of one class as a whole. */
export interface ClassRange {
  family: 4 | 6;
  first: bigint;
  last: bigint;
  name: string;
}

/**
 * Read `network.classes` of the settings: `NAME=NETWORK,NETWORK` each. The pools are inside unless a class has them, or a part of them, by name.
 * @returns `inside` first, `outside` last
 * @throws VeldError `settings.invalid`
 */
export function parseClasses(texts: readonly string[], pools: readonly Prefix[]): NetworkClass[] {
  const bad = (why: string): never => {
    throw new VeldError('settings.invalid', `network.classes ${why}.`);
  };
  const classes = new Map<string, Prefix[]>([[INSIDE, []]]);
  const owners = new Map<string, string>();
  for (const text of texts) {
    const [name = '', list] = text.split('=');
    if (list === undefined || !/^[a-z][a-z0-9]{0,14}$/.test(name)) bad(`holds ${JSON.stringify(text)}, which is not NAME=NETWORK,NETWORK with a name of 1 to 15 of a-z and 0-9`);
    const networks = classes.get(name) ?? [];
    classes.set(name, networks);
    for (const part of list!.split(',')) {
      const network = parsePrefix(part.trim()) ?? bad(`holds ${JSON.stringify(part.trim())}, which is no network`);
      const owner = owners.get(formatPrefix(network));
      if (owner !== undefined && owner !== name) bad(`gives ${formatPrefix(network)} to two classes, ${owner} and ${name}`);
      owners.set(formatPrefix(network), name);
      if (owner === undefined) networks.push(network);
    }
  }
  for (const pool of pools) if (!owners.has(formatPrefix(pool))) classes.get(INSIDE)!.push(pool);
  const outside = classes.get(OUTSIDE) ?? [];
  classes.delete(OUTSIDE);
  classes.set(OUTSIDE, outside);
  if (classes.size > MOST) bad(`has ${classes.size} classes, with ${INSIDE} and ${OUTSIDE}; at most ${MOST} are counted`);
  return [...classes].map(([name, networks]) => ({ name, networks }));
}

/** The same as ranges that do not overlap, lowest first: of each address the class of the longest prefix. What is `outside` by default is in none. */
export function classRanges(classes: readonly NetworkClass[], family: 4 | 6): ClassRange[] {
  const all = classes.flatMap(({ name, networks }) => networks.filter((network) => network.family === family).map((network) => ({ name, network })));
  // The class can change only where a network begins, and behind its end.
  const borders = [...new Set(all.flatMap(({ network }) => [network.value, lastOf(network) + 1n]))].toSorted((a, b) => (a < b ? -1 : 1));
  const ranges: ClassRange[] = [];
  for (const [i, first] of borders.entries()) {
    const best = all.filter(({ network }) => network.value <= first && first <= lastOf(network)).toSorted((a, b) => b.network.bits - a.network.bits)[0];
    if (!best) continue;
    const last = borders[i + 1]! - 1n;
    const before = ranges.at(-1);
    if (before?.name === best.name && before.last + 1n === first) before.last = last;
    else ranges.push({ family, first, last, name: best.name });
  }
  return ranges;
}

/** As nft takes it: an address, or a range. */
export function formatRange({ family, first, last }: ClassRange): string {
  if (first === last) return formatIp({ family, value: first });
  // The whole of a family has no first address in nft's words for ranges.
  if (last - first + 1n === 1n << BigInt(width(family))) return family === 4 ? '0.0.0.0/0' : '::/0';
  return `${formatIp({ family, value: first })}-${formatIp({ family, value: last })}`;
}
