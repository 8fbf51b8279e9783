/**
 * What each VE receives and sends, by class: counters of nftables in tables of their own, which stay when the rules of the others are made anew.
 *
 * A VE has two counters for each class, found by maps from its links: a packet's way does not grow with VEs. A counter is the whole sum since the VE was made: where one is
 * not there it begins with what is known (traffic-sums.ts), and one that is there stays as it is. So neither the end of the daemon nor that of the VE needs any work.
 *
 * Counted is what passes: what a rule of this host, or a rate of a routed link, has dropped on its way in is not. Bytes are those of IP packets.
 */
import type { VeRecord } from '../store/types.ts';
import { nftList } from '../kernel/nftables.ts';
import { classRanges, formatRange, INSIDE, OUTSIDE } from './classes.ts';
import type { NetworkClass } from './classes.ts';
import { interfacesOf } from './interfaces.ts';
import { allLinksOf } from './names.ts';
import type { Names } from './names.ts';
import type { PlanContext } from './plan.ts';

export const FAMILIES = ['inet', 'bridge'] as const;
type Family = (typeof FAMILIES)[number];
const DIRECTIONS = ['rx', 'tx'] as const;
type Direction = (typeof DIRECTIONS)[number];

/** What the ends of a link say to each other about it is no traffic: listener and neighbour discovery (RFC 2710, 3810, 4861). Routers carry none of it. */
const CHATTER = 'ip6 saddr fe80::/10 icmpv6 type { 130-137, 143 } return';

/** Sums of one VE, by the name of the counter without its number: `inet rx inside`. */
export type Sums = Record<string, { bytes: number; packets: number }>;

/** Key of a sum. */
export function sumKey(family: Family, direction: Direction, name: string): string {
  return `${family} ${direction} ${name}`;
}

/** The table of both families in which is what must stay when rules are made anew: counters here, and connections.ts. */
export function keptTable(names: Names): string {
  return `${names.table}_kept`;
}

/** Chains and maps as the classes are now, in one transaction; counters, and which links they are for, stay. */
export function trafficScript(names: Names, classes: readonly NetworkClass[]): string {
  return FAMILIES.map((family) => familyScript(family, names, classes)).join('');
}

function familyScript(family: Family, names: Names, classes: readonly NetworkClass[]): string {
  const table = `${family} ${keptTable(names)}`;
  const ve = `"${names.linkPrefix}*"`;
  const lines = [`add table ${table}`];
  const chain = (name: string, hook: string, rules: readonly string[]): void => {
    lines.push(`add chain ${table} ${name}${hook && ` { type filter hook ${hook}; policy accept; }`}`, `flush chain ${table} ${name}`, ...rules.map((rule) => `add rule ${table} ${name} ${rule}`));
  };
  for (const direction of DIRECTIONS) {
    for (const { name } of classes) {
      lines.push(`add map ${table} ${direction}_${name} { type ifname : counter; }`);
      chain(`${direction}_${name}`, '', [`counter name ${direction === 'rx' ? 'oifname' : 'iifname'} map @${direction}_${name}`]);
    }
    // After all chains: nft makes elements with ranges together with their map.
    for (const version of [4, 6] as const) {
      const map = `${table} ${direction}_classes${version}`;
      const ranges = classRanges(classes, version).map((range) => `${formatRange(range)} : goto ${direction}_${range.name}`);
      lines.push(`add map ${map} { type ipv${version}_addr : verdict; flags interval; }`, `flush map ${map}`);
      if (ranges.length > 0) lines.push(`add element ${map} { ${ranges.join(', ')} }`);
    }
    const other = direction === 'rx' ? 'saddr' : 'daddr';
    chain(direction, '', [
      ...family === 'bridge' ? ['meta protocol != { ip, ip6 } return'] : direction === 'rx' ? [`meta iif 0 goto rx_${INSIDE}`] : [],
      `${direction === 'rx' ? 'iifname' : 'oifname'} ${ve} goto ${direction}_${INSIDE}`,
      `ip ${other} vmap @${direction}_classes4`, `ip6 ${other} vmap @${direction}_classes6`, `goto ${direction}_${OUTSIDE}`,
    ]);
  }
  // Behind rules and, of routed links, rates. The port of a bridge talks to the host as to any machine, which may lead on; and bridges do not tell there whence a frame has come.
  if (family === 'inet') chain('received', 'postrouting priority 310', [CHATTER, `oifname ${ve} jump rx`]);
  else for (const [name, hook] of [['received', 'forward'], ['received_from_host', 'output']] as const) chain(name, `${hook} priority 10`, [CHATTER, `oifname ${ve} jump rx`]);
  chain('sent', 'forward priority 10', [CHATTER, `iifname ${ve} jump tx`]);
  chain('sent_to_host', 'input priority 10', [CHATTER, `iifname ${ve} jump ${family === 'inet' ? `tx_${INSIDE}` : 'tx'}`]);
  return lines.map((line) => `${line}\n`).join('');
}

/**
 * Lines that give a VE its counters, where they are not there.
 * @param sums with which those begin that are not there
 */
export function countLines(ve: VeRecord, context: PlanContext, classes: readonly NetworkClass[], sums: Sums): string {
  const lines: string[] = [];
  for (const family of FAMILIES) {
    const links = linksOf(ve, context, family);
    const table = `${family} ${keptTable(context.names)}`;
    // Sums of a class that the settings do not name any more, or of links that are gone, are kept, too.
    const wanted = links.length === 0 ? [] : DIRECTIONS.flatMap((direction) => classes.map(({ name }) => sumKey(family, direction, name)));
    for (const key of new Set([...wanted, ...Object.keys(sums).filter((each) => each.startsWith(`${family} `))])) {
      const { bytes, packets } = sums[key] ?? { bytes: 0, packets: 0 };
      lines.push(`add counter ${table} ${counterName(ve.number, key)} { packets ${packets} bytes ${bytes}; }`);
    }
    for (const key of wanted) {
      const [, direction, name] = key.split(' ');
      lines.push(`add element ${table} ${direction}_${name} { ${links.map((link) => `"${link}" : "${counterName(ve.number, key)}"`).join(', ')} }`);
    }
  }
  return lines.map((line) => `${line}\n`).join('');
}

/** Lines after which links that a VE has no more lead to no counter; these, and their sums, stay. */
export function unlinkLines(before: VeRecord, after: VeRecord, context: PlanContext, classes: readonly NetworkClass[]): string {
  const lines: string[] = [];
  for (const family of FAMILIES) {
    const stay = new Set(linksOf(after, context, family));
    const gone = linksOf(before, context, family).filter((link) => !stay.has(link));
    if (gone.length === 0) continue;
    for (const direction of DIRECTIONS) {
      for (const { name } of classes) {
        const [counter, map] = [counterName(before.number, sumKey(family, direction, name)), `${family} ${keptTable(context.names)} ${direction}_${name}`];
        const elements = gone.map((link) => `"${link}" : "${counter}"`).join(', ');
        lines.push(`add counter ${family} ${keptTable(context.names)} ${counter}`, `add element ${map} { ${elements} }`, `delete element ${map} { ${elements} }`);
      }
    }
  }
  return lines.map((line) => `${line}\n`).join('');
}

function linksOf(ve: VeRecord, context: PlanContext, family: Family): string[] {
  return interfacesOf(ve, context).filter(({ bridge }) => (bridge === undefined) === (family === 'inet')).map(({ link }) => link);
}

/** Lines that take away all counters of a VE, in the order in which the kernel lets them go. @param there keys of those that are there */
export function uncountLines(names: Names, number: number, there: readonly string[]): string {
  const lines: string[] = [];
  for (const key of there) {
    const [family, direction, name] = key.split(' ');
    const counter = counterName(number, key);
    const map = `${family} ${keptTable(names)} ${direction}_${name}`;
    // Adding comes first: what is not there cannot be deleted.
    const elements = allLinksOf(names, number).map((link) => `"${link}" : "${counter}"`).join(', ');
    lines.push(`add map ${map} { type ifname : counter; }`, `add element ${map} { ${elements} }`, `delete element ${map} { ${elements} }`, `delete counter ${family} ${keptTable(names)} ${counter}`);
  }
  return lines.map((line) => `${line}\n`).join('');
}

function counterName(number: number, key: string): string {
  const [, direction, name] = key.split(' ');
  return `${direction}_${number}_${name}`;
}

/** All counters now, by the numbers of VEs. @throws VeldError `network.failed` */
export async function readTraffic(names: Names): Promise<Map<number, Sums>> {
  const found = new Map<number, Sums>();
  // Both tables at once: nft reads whatever there is for the counters of one, too.
  for (const { counter } of await nftList('list', 'counters') ?? []) {
    if (counter?.table !== keptTable(names)) continue;
    const [, direction, number, name] = /^(rx|tx)_(\d+)_([a-z0-9]+)$/.exec(String(counter.name)) ?? [];
    if (number === undefined) continue;
    const sums = found.get(Number(number)) ?? {};
    found.set(Number(number), sums);
    sums[sumKey(counter.family as Family, direction as Direction, name!)] = { bytes: Number(counter.bytes), packets: Number(counter.packets) };
  }
  return found;
}
