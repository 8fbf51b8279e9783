/**
 * How many connections of a VE the host's connection table may hold: who has no limit could fill it for all.
 *
 * The first packet of a connection is looked at, when everything else has let it pass and the kernel is about to put the connection into its table: over the limit it is
 * dropped. Connections that the VE opens and those that come to it count alike, by all its routed links.
 *
 * The kernel (nf_conncount.c) keeps a list of what it counts, and walks along it: in one list of 20,000 a flood of new connections took 0.7 ms of CPU time each, in one of 1000 next to
 * nothing. So more than that are shared out among several lists, by a hash of addresses and ports. The sum of these is the limit; one of them may be full a little before.
 *
 * The lists are in the table that stays when rules are made anew (traffic.ts), or each time the kernel would begin to count at nothing.
 */
import type { VeRecord } from '../store/types.ts';
import { nftList } from '../kernel/nftables.ts';
import { interfacesOf } from './interfaces.ts';
import { allLinksOf } from './names.ts';
import type { Names } from './names.ts';
import type { PlanContext } from './plan.ts';
import { keptTable } from './traffic.ts';

/** Connections of one list. */
const LIST = 1000;

/** The chains that all packets pass, and the empty map, beside what is there. */
export function connectionScript(names: Names): string {
  const table = `inet ${keptTable(names)}`;
  const chain = (name: string, hook: string, rules: readonly string[]): string[] => [`add chain ${table} ${name}${hook}`, `flush chain ${table} ${name}`, ...rules.map((rule) => `add rule ${table} ${name} ${rule}`)];
  return [
    `add map ${table} connections { type ifname : verdict; }`,
    ...chain('count_connections', '', ['iifname vmap @connections', 'oifname vmap @connections']),
    ...chain('new_connections', ' { type filter hook postrouting priority 5; policy accept; }', ['ct status & confirmed == 0 jump count_connections']),
    ...chain('new_connections_to_host', ' { type filter hook input priority 5; policy accept; }', ['ct status & confirmed == 0 jump count_connections']),
  ].map((line) => `${line}\n`).join('');
}

export interface Connections {
  /** See which lists the kernel has, before those of these VEs are made. */
  look(ves: readonly VeRecord[]): Promise<void>;
  /** Lines of nft that make the lists of a VE, after which {@link done} is called; a list that is there stays as it is. @param before the same VE with other links */
  lines(ve: VeRecord, before?: VeRecord): string;
  /** The same for a VE that goes. */
  without(ve: VeRecord): string;
  /** Lines that take away what is there of VEs other than these. */
  others(ves: readonly VeRecord[]): string;
  /** How many connections were refused, by the numbers of VEs. @throws VeldError `network.failed` */
  refused(): Promise<Map<number, number>>;
  /** The lines for this VE have been carried out. @param ve undefined: gone */
  done(number: number, ve?: VeRecord): void;
}

/** The most of a VE; null: no limit. */
export function mostConnections(ve: Pick<VeRecord, 'properties'>): number | null {
  const limit = ve.properties['network.connections'];
  return typeof limit === 'number' ? limit : null;
}

/** How a limit is shared out among lists. Pure. */
export function shares(limit: number): number[] {
  const count = Math.ceil(limit / LIST);
  return Array.from({ length: count }, (_, i) => Math.floor(limit / count) + (i < limit % count ? 1 : 0));
}

/** Counter of what was refused. */
function refusedCounter(number: number): string {
  return `refused_connections_${number}`;
}

export function createConnections(context: PlanContext): Connections {
  const { names } = context;
  const table = `inet ${keptTable(names)}`;
  /** Limits by the numbers of VEs. */
  let there = new Map<number, number>();
  let looked = false;

  const routedLinks = (ve: VeRecord): string[] => interfacesOf(ve, context).filter(({ bridge }) => bridge === undefined).map(({ link }) => link);
  const removal = (number: number, limit: number): string[] => {
    const elements = allLinksOf(names, number).map((link) => `"${link}" : jump ${chainOf(number, limit)}`).join(', ');
    const chains = [chainOf(number, limit), ...listChains(number, limit)];
    // Adding comes first: what is not there cannot be deleted.
    return [
      ...chains.map((chain) => `add chain ${table} ${chain}`), `add element ${table} connections { ${elements} }`, `delete element ${table} connections { ${elements} }`,
      ...chains.map((chain) => `flush chain ${table} ${chain}`), ...chains.map((chain) => `delete chain ${table} ${chain}`),
      `add counter ${table} ${refusedCounter(number)}`, `delete counter ${table} ${refusedCounter(number)}`,
    ];
  };
  const creation = (number: number, limit: number): string[] => {
    const [main, lists, parts] = [chainOf(number, limit), listChains(number, limit), shares(limit)];
    const count = (chain: string, most: number): string => `add rule ${table} ${chain} ct count over ${most} counter name ${refusedCounter(number)} drop`;
    const spread = lists.map((chain, i) => `${i} : goto ${chain}`).join(', ');
    return [
      `add counter ${table} ${refusedCounter(number)}`, `add chain ${table} ${main}`, ...lists.map((chain) => `add chain ${table} ${chain}`),
      ...lists.length === 0 ? [count(main, limit)] : [
        ...lists.map((chain, i) => count(chain, parts[i]!)),
        ...['ip', 'ip6'].map((family) => `add rule ${table} ${main} jhash ${family} saddr . ${family} daddr . th sport . th dport mod ${lists.length} vmap { ${spread} }`),
      ],
    ];
  };

  return {
    async look(ves) {
      if (looked && there.size === 0 && ves.every((ve) => mostConnections(ve) === null)) return;
      there = new Map();
      looked = true;
      for (const { chain } of await nftList('list', 'chains') ?? []) {
        const [, number, limit] = chain?.table === keptTable(names) ? /^connections_(\d+)_(\d+)$/.exec(String(chain.name)) ?? [] : [];
        if (number !== undefined) there.set(Number(number), Number(limit));
      }
    },
    lines(ve, earlier) {
      const [limit, before] = [mostConnections(ve), there.get(ve.number)];
      const links = routedLinks(ve);
      const gone = earlier && before !== undefined ? routedLinks(earlier).filter((link) => !links.includes(link)).map((link) => `"${link}" : jump ${chainOf(ve.number, before)}`).join(', ') : '';
      return text([
        ...gone === '' ? [] : ['add', 'delete'].map((verb) => `${verb} element ${table} connections { ${gone} }`),
        ...before === undefined || before === limit ? [] : removal(ve.number, before),
        ...limit === null || before === limit ? [] : creation(ve.number, limit),
        ...limit === null || links.length === 0 ? [] : [`add element ${table} connections { ${links.map((link) => `"${link}" : jump ${chainOf(ve.number, limit)}`).join(', ')} }`],
      ]);
    },
    without({ number }) {
      const before = there.get(number);
      return before === undefined ? '' : text(removal(number, before));
    },
    others(ves) {
      const known = new Set(ves.map(({ number }) => number));
      return text([...there].filter(([number]) => !known.has(number)).flatMap(([number, limit]) => removal(number, limit)));
    },
    async refused() {
      const counters = (await nftList('list', 'counters') ?? []).flatMap(({ counter }) => (counter?.table === keptTable(names) ? [counter] : []));
      return new Map(counters.flatMap(({ name, packets }) => {
        const number = /^refused_connections_(\d+)$/.exec(String(name))?.[1];
        return number === undefined ? [] : [[Number(number), Number(packets)] as const];
      }));
    },
    done(number, ve) {
      const limit = ve && mostConnections(ve);
      if (limit == null) there.delete(number);
      else there.set(number, limit);
    },
  };
}

function chainOf(number: number, limit: number): string {
  return `connections_${number}_${limit}`;
}

/** None for a limit of one list. */
function listChains(number: number, limit: number): string[] {
  const parts = shares(limit);
  return parts.length === 1 ? [] : parts.map((_, i) => `${chainOf(number, limit)}_${i}`);
}

function text(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}
