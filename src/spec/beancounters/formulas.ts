/**
 * What must hold between the beancounters of one VE: OpenVZ's formulas, as its vzcfgvalidate knew them (src/lib/validate.c of vzctl).
 * With VSwap (swappages given) only memory and swap are looked at, as there.
 */
import { compare, type Pair } from './pairs.ts';
import { BEANCOUNTERS, PAGE } from './table.ts';

export type Severity = 'error' | 'warning' | 'recommendation';

export interface Violation {
  severity: Severity;
  /** Name of the beancounter that is wrong. */
  name: string;
  /** One sentence, with the numbers. */
  message: string;
  /** The least that would be right, where one number would. In the row's unit. */
  needed?: number;
}

/** By name. A row that is not there is not looked at. */
export type Pairs = Readonly<Record<string, Pair>>;

/** What the host has, for VSwap. In pages. */
export interface HostMemory {
  ram: number;
  swap: number;
}

const KiB = 1024;

/** All that is wrong, the worst first. @param avnumproc processes that there mostly are; default half of numproc */
export function checkPairs(pairs: Pairs, { avnumproc, host }: { avnumproc?: number; host?: HostMemory } = {}): Violation[] {
  const found: Violation[] = [];
  const add = (severity: Severity, name: string, message: string, needed?: number): void => { found.push({ severity, name, message, ...needed !== undefined && { needed } }); };
  const at = (name: string, side: keyof Pair): number => pairs[name]?.[side] ?? Infinity;
  const has = (...names: string[]): boolean => names.every((name) => pairs[name] !== undefined);

  for (const [name, pair] of Object.entries(pairs)) {
    const row = BEANCOUNTERS.find((one) => one.name === name);
    if (row === undefined) add('error', name, `There is no beancounter ${name}.`);
    else if (compare(pair.barrier, pair.limit) > 0) add('error', name, `The barrier of ${name} is above its limit.`);
    else if (row.pair === 'equal' && name !== 'lockedpages' && compare(pair.barrier, pair.limit) !== 0) add('error', name, `Barrier and limit of ${name} must be equal.`);
  }

  if (has('swappages')) {
    for (const name of ['physpages', 'swappages']) {
      if (has(name) && at(name, 'barrier') !== 0) add('error', name, `The barrier of ${name} must be 0.`, 0);
    }
    if (host && has('physpages') && at('physpages', 'limit') > host.ram) add('warning', 'physpages', `The limit of physpages is more than the host's ${host.ram} pages of RAM.`);
    if (host && at('swappages', 'limit') > host.swap) add('warning', 'swappages', `The limit of swappages is more than the host's ${host.swap} pages of swap.`);
    return sorted(found);
  }

  for (const name of ['vmguarpages', 'oomguarpages', 'physpages']) {
    if (has(name) && pairs[name]!.limit !== null) add('warning', name, `The limit of ${name} must be unlimited.`);
  }
  if (has('physpages') && at('physpages', 'barrier') !== 0) add('warning', 'physpages', 'The barrier of physpages must be 0.', 0);

  const atLeast = (severity: Severity, name: string, side: keyof Pair, needed: number, why: string): void => {
    if (has(name) && Number.isFinite(needed) && at(name, side) < needed) add(severity, name, `The ${side} of ${name} is ${at(name, side)}, and must be at least ${needed}: ${why}.`, needed);
  };
  const gap = (severity: Severity, name: string, items: string): void => {
    if (!has(name, items)) return;
    const needed = Math.ceil(2.5 * KiB * at(items, 'barrier'));
    const { barrier, limit } = pairs[name]!;
    if (barrier === null || limit === null || !Number.isFinite(needed)) return;
    if (limit - barrier < needed) add(severity, name, `Limit and barrier of ${name} are ${limit - barrier} bytes apart, and must be at least ${needed}: 2.5 KiB for each of ${items}.`, barrier + needed);
  };

  if (has('numfile')) atLeast('warning', 'dcachesize', 'limit', at('numfile', 'barrier') * 384, '384 bytes for each of numfile');
  const average = avnumproc ?? (has('numproc') ? Math.floor(at('numproc', 'barrier') / 2) : undefined);
  if (average !== undefined && has('dcachesize')) {
    atLeast('error', 'kmemsize', 'barrier', 40 * KiB * average + at('dcachesize', 'limit'), '40 KiB for each process, and dcachesize');
  }
  if (has('vmguarpages')) atLeast('warning', 'privvmpages', 'barrier', at('vmguarpages', 'barrier'), 'what vmguarpages promises');
  gap('error', 'tcpsndbuf', 'numtcpsock');
  gap('error', 'othersockbuf', 'numothersock');
  gap('warning', 'tcprcvbuf', 'numtcpsock');
  for (const name of ['tcpsndbuf', 'tcprcvbuf']) atLeast('warning', name, 'barrier', 64 * KiB, 'one connection needs that much');
  for (const name of ['dgramrcvbuf', 'othersockbuf']) {
    if (has(name) && at(name, 'barrier') < 32 * KiB) atLeast('warning', name, 'barrier', 32 * KiB, 'one socket needs that much');
    else atLeast('recommendation', name, 'barrier', 129 * KiB, 'the largest datagrams need that much');
  }
  if (has('numfile') && average !== undefined) {
    const others = ['numtcpsock', 'numothersock', 'numpty'].reduce((sum, name) => sum + (has(name) ? at(name, 'barrier') : 0), 0);
    atLeast('warning', 'numfile', 'barrier', Math.max(32 * average, others), '32 for each process, and one for each socket and terminal');
  }
  return sorted(found);
}

const ORDER: readonly Severity[] = ['error', 'warning', 'recommendation'];

function sorted(found: Violation[]): Violation[] {
  return found.toSorted((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
}

/** What a VE may use of the host's low memory: kmemsize and the buffers of sockets, in bytes (vzcalc). Null amounts count as nothing. */
export function lowMemory(amounts: Readonly<Record<string, number | null>>): number {
  return ['kmemsize', 'tcpsndbuf', 'tcprcvbuf', 'othersockbuf', 'dgramrcvbuf'].reduce((sum, name) => sum + (amounts[name] ?? 0), 0);
}

/** What it may use of memory and swap together, in bytes. */
export function memoryAndSwap(amounts: Readonly<Record<string, number | null>>): number {
  return (amounts.oomguarpages ?? 0) * PAGE + lowMemory(amounts);
}

/** What it may have allocated, in bytes. */
export function allocated(amounts: Readonly<Record<string, number | null>>): number {
  return (amounts.privvmpages ?? 0) * PAGE + lowMemory(amounts);
}
