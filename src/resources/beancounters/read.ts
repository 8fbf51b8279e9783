/** Beancounters of a VE from its control groups, of either version, and from what others know: rows of OpenVZ's table, honest about what nobody counts. */
import { existsSync } from 'node:fs';
import { readControl, readKey, sumKey } from '../../kernel/cgroup.ts';
import { pagesOf } from '../../spec/beancounters/pairs.ts';
import { BEANCOUNTERS, PAGE } from '../../spec/beancounters/table.ts';
import type { Beancounter, BeancounterRow, Kept } from '../../spec/beancounters/table.ts';
import type { VeGroups } from '../types.ts';
import type { Elsewhere, Past } from './elsewhere.ts';
import type { OwnedCount } from './owned.ts';

/** What is known of a row. What is undefined nobody keeps. Amounts in the row's unit. */
interface Amounts {
  held: number;
  maxheld?: number | undefined;
  failcnt?: number | undefined;
  /** Null: unlimited; undefined: nothing holds it. Of a guarantee: what is promised. */
  limit?: number | null | undefined;
  /** Where it is not the limit. */
  barrier?: number | null | undefined;
  /** What keeps it, where that is not what the table says. */
  counted?: string | undefined;
}

/** All rows, in OpenVZ's order. */
export function readBeancounters(groups: VeGroups, elsewhere: Elsewhere = {}): Beancounter[] {
  const amounts = new Map<string, Amounts>();
  const put = (name: string, found: Amounts | undefined): void => { if (found) amounts.set(name, found); };
  put('numproc', readPids(groups.v1.pids ?? groups.unified));
  for (const [name, found] of Object.entries(groups.v1.memory === undefined ? readMemory2(groups.unified) : readMemory1(groups.v1.memory))) put(name, found);
  const { sockets, ptys, files, flocks, locks, oomGuarantee } = elsewhere;
  const oom = amounts.get('oomguarpages');
  if (oom && oomGuarantee !== undefined) put('oomguarpages', { ...oom, limit: oomGuarantee === null ? null : pagesOf(oomGuarantee) });
  if (sockets) {
    put('numtcpsock', { ...sockets.tcp, limit: sockets.limits.tcp });
    put('numothersock', { ...sockets.other, limit: sockets.limits.other });
  }
  put('numpty', ptys);
  if (typeof files === 'object') put('numfile', files);
  if (typeof flocks === 'object') put('numflock', flocks);
  else if (locks !== undefined) put('numflock', { held: locks, counted: 'lines of /proc/locks' });
  const notes: Record<string, string | undefined> = { numfile: noteOn(files), numflock: noteOn(flocks) };
  const hybrid = Object.keys(groups.v1).some((name) => !name.startsWith('name='));
  return BEANCOUNTERS.map((row) => rowOf(row, row.name === 'dummy' ? undefined : amounts.get(row.name), hybrid ? 'hybrid' : 'v2', elsewhere.before?.[row.name], notes[row.name]));
}

/** What is to be said of a row here and now. */
function noteOn(found: OwnedCount | string | undefined): string | undefined {
  if (typeof found === 'string') return `Not held here: ${found}.`;
  if (found === undefined || found.missed === 0) return undefined;
  return `On this host the kernel has left the programs out ${found.missed} times (it can be interrupted everywhere: preempt=full): the number may be wrong by as many.`;
}

function rowOf(row: BeancounterRow, found: Amounts | undefined, host: 'v2' | 'hybrid', before: Past[string] | undefined, more: string | undefined): Beancounter {
  const { name, unit } = row;
  const note = [row.note, more].filter((text) => text !== undefined).join(' ') || null;
  // A promise that nobody makes is one of nothing; in OpenVZ's file that is a barrier of 0.
  const barrier = row.pair === 'guarantee' || row.pair === 'limit' ? 0 : null;
  if (!found) return { name, unit, held: 0, maxheld: 0, barrier, limit: null, failcnt: 0, kept: [], counted: null, enforced: null, note };
  const { held, maxheld, failcnt, limit: amount } = found;
  // A guarantee is a barrier that nobody is held to.
  const [promised, limit] = row.pair === 'guarantee' ? [amount === undefined ? 0 : amount, null] : [barrier ?? found.barrier ?? amount ?? null, amount ?? null];
  const kept: Kept[] = ['held', ...maxheld === undefined ? [] : ['maxheld' as const], ...failcnt === undefined ? [] : ['failcnt' as const]];
  return {
    name, unit, held, maxheld: Math.max(held, maxheld ?? 0, before?.maxheld ?? 0), failcnt: (failcnt ?? 0) + (before?.failcnt ?? 0),
    barrier: promised, limit, kept, counted: found.counted ?? (row.counted[host] || null),
    enforced: amount === undefined ? null : row.held[host] || null, note,
  };
}

function readPids(group: string): Amounts | undefined {
  const held = number(group, 'pids.current');
  if (held === undefined) return undefined;
  const max = readControl(group, 'pids.max');
  return { held, maxheld: number(group, 'pids.peak'), failcnt: refusedForks(group), limit: max === undefined ? undefined : max === 'max' ? null : Number(max) };
}

/** Before Linux 6.11, which has pids.events.local, a fork that was refused counts where the process was: in a group of a service, and for as long as that is there. */
function refusedForks(group: string): number | undefined {
  const here = readKey(group, 'pids.events', 'max');
  return here === undefined || existsSync(`${group}/pids.events.local`) ? here : sumKey(group, 'pids.events', 'max');
}

/** memory.* of cgroup2. */
function readMemory2(group: string): Record<string, Amounts | undefined> {
  const held = number(group, 'memory.current');
  if (held === undefined) return {};
  const stat = statOf(group);
  const swap = number(group, 'memory.swap.current');
  // Before Linux 6.0 the sum is ours.
  const kernel = stat('kernel') ?? ['slab', 'kernel_stack', 'pagetables', 'percpu', 'vmalloc'].reduce((sum, key) => sum + (stat(key) ?? 0), 0);
  const refused = readKey(group, 'memory.events', 'oom');
  const ended = readKey(group, 'memory.events', 'oom_kill');
  return {
    physpages: { held: pagesOf(held), maxheld: pages(number(group, 'memory.peak')), failcnt: refused, limit: limitPages(readControl(group, 'memory.max')) },
    swappages: swap === undefined ? undefined : { held: pagesOf(swap), maxheld: pages(number(group, 'memory.swap.peak')), failcnt: readKey(group, 'memory.swap.events', 'fail'), limit: limitPages(readControl(group, 'memory.swap.max')) },
    vmguarpages: { held: pagesOf(held), limit: limitPages(readControl(group, 'memory.min')) },
    oomguarpages: { held: pagesOf(Math.max(0, held - (stat('file') ?? 0) + (stat('shmem') ?? 0)) + (swap ?? 0)), failcnt: ended },
    kmemsize: { held: kernel },
    shmpages: { held: pagesOf(stat('shmem') ?? 0) },
    lockedpages: { held: pagesOf(stat('unevictable') ?? 0) },
    tcpsndbuf: { held: stat('sock') ?? 0 },
  };
}

/** memory.* of cgroup v1. */
function readMemory1(group: string): Record<string, Amounts | undefined> {
  const held = number(group, 'memory.usage_in_bytes');
  if (held === undefined) return {};
  const stat = statOf(group);
  const ended = readKey(group, 'memory.oom_control', 'oom_kill');
  const both = number(group, 'memory.memsw.usage_in_bytes');
  const kernel = number(group, 'memory.kmem.usage_in_bytes');
  const limit = limitPages(readControl(group, 'memory.limit_in_bytes'));
  const sum = limitPages(readControl(group, 'memory.memsw.limit_in_bytes'));
  return {
    // memory.failcnt counts each time at which the limit was met, which memory that was taken back has mostly mended.
    physpages: { held: pagesOf(held), maxheld: pages(number(group, 'memory.max_usage_in_bytes')), failcnt: ended, limit },
    swappages: both === undefined ? undefined : { held: pagesOf(Math.max(0, both - held)), failcnt: number(group, 'memory.memsw.failcnt'), limit: sum == null || limit == null ? sum : Math.max(0, sum - limit) },
    oomguarpages: { held: pagesOf(Math.max(0, (both ?? held) - (stat('total_cache') ?? 0) + (stat('total_shmem') ?? 0))), failcnt: ended },
    kmemsize: kernel === undefined ? undefined : { held: kernel, maxheld: number(group, 'memory.kmem.max_usage_in_bytes'), failcnt: number(group, 'memory.kmem.failcnt') },
    shmpages: { held: pagesOf(stat('total_shmem') ?? 0) },
    lockedpages: { held: pagesOf(stat('total_unevictable') ?? 0) },
  };
}

function statOf(group: string): (key: string) => number | undefined {
  const values = new Map((readControl(group, 'memory.stat') ?? '').split('\n').map((line) => line.split(' ')).map(([key, value]) => [key, Number(value)]));
  return (key) => values.get(key);
}

function number(group: string, file: string): number | undefined {
  if (!existsSync(`${group}/${file}`)) return undefined;
  const text = readControl(group, file);
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

function pages(bytes: number | undefined): number | undefined {
  return bytes === undefined ? undefined : pagesOf(bytes);
}

/** No limit in use comes near this: v1 writes its largest number of whole pages for none. */
const V1_UNLIMITED = 2 ** 62;

function limitPages(text: string | undefined): number | null | undefined {
  if (text === undefined) return undefined;
  return text === 'max' || Number(text) >= V1_UNLIMITED ? null : Math.floor(Number(text) / PAGE);
}
