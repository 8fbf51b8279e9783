/**
 * The `ip -batch` lines that make a VE's network, on both sides of its pairs.
 *
 * Each side is one run of ip(8), and each line about one netlink request: starting a VE waits for them. Nothing is
 * resolved by ARP or ND on a routed pair: both sides have permanent neighbour entries, and the host's side has ARP off, so that
 * a VE can neither fill the host's neighbour table nor be told a wrong gateway. A pair whose host side is a port of a bridge is
 * an ordinary wire.
 */
import type { VeRecord } from '../store/types.ts';
import { hasDefault, interfacesOf } from './interfaces.ts';
import type { Interface } from './interfaces.ts';
import { contains, formatPrefix, linkLocal, prefixOf, width } from './ip.ts';
import type { Cidr } from './ip.ts';
import { GATEWAY_LINK_LOCAL, GATEWAY_MAC, GATEWAY_NO_POOL, PREFIX_NEXT_HOP } from './names.ts';
import type { Names } from './names.ts';
import type { Pool } from './pools.ts';
import type { NetworkPlan } from './types.ts';

export interface PlanContext {
  names: Names;
  pools: readonly Pool[];
  /** Whether this kernel has IPv6 switched on. */
  ipv6: boolean;
  /** MTU of a bridge of the host, or undefined when it is not there. */
  bridgeMtu: (bridge: string) => number | undefined;
}

/** MTU of a routed link that does not set one. */
const DEFAULT_MTU = 1500;

/** Preference of the rules that send answers back by the interface on which the question came; the main table's is 32766 (ip-rule(8)). */
const RULE_PREFERENCE = 32_000;

/** Metric of routes that only stop a packet which nothing else wants: the highest. */
const LAST_METRIC = 4_294_967_295;

/** What {@link NetworkPlan} says, for this VE as it is now. */
export function planOf(ve: VeRecord, context: PlanContext): NetworkPlan {
  const interfaces = interfacesOf(ve, context);
  // Replacing: a packet of the VE, or of whoever waits for it, may have made a neighbour already.
  const host = interfaces.flatMap((one) => [...hostUp(one), ...hostLines(one, context, 'replace')]);
  const guest = ['link set lo up', ...interfaces.flatMap((one) => [...bringUp(one), ...guestLines(one, context, 'add')]), ...rules(interfaces, 4, 'add')];
  return {
    links: interfaces.map((one) => ({
      name: one.name, link: one.link, mac: one.mac, hostMac: one.hostMac, mtu: mtuOf(one, context).guest, bridge: one.bridge ?? null, setup: one.setup,
      addresses: one.addresses.map((cidr) => (one.bridge === undefined ? cidr.address : textOf(cidr))), prefixes: one.prefixes.map((cidr) => formatPrefix(prefixOf(cidr))),
    })),
    linkBatch: text(interfaces.map((one) => pairLine(one, '@PID@', context))),
    hostBatch: text(host),
    guestSysctls: text(interfaces.flatMap((one) => guestSysctls(one, context)).map(([name, value]) => `${name} ${value}`)),
    guestBatch: text(guest),
    guestBatch6: text(rules(interfaces, 6, 'add')),
  };
}

/** Makes the pair and brings the host's side up. @param pid process whose network namespace takes the other side */
export function creation(one: Interface, pid: number | string, context: PlanContext): string[] {
  return [pairLine(one, pid, context), ...hostUp(one)];
}

function pairLine(one: Interface, pid: number | string, context: PlanContext): string {
  const mtu = mtuOf(one, context);
  return `link add ${one.link} address ${one.hostMac} mtu ${mtu.host} type veth peer name ${one.name} address ${one.mac} mtu ${mtu.guest} netns ${pid}`;
}

function hostUp(one: Interface): string[] {
  if (one.bridge === undefined) return [`link set ${one.link} arp off addrgenmode none up`];
  // The mode first, by itself: a link that goes up makes its link-local address before it reads the rest of the line.
  return [`link set ${one.link} master ${one.bridge} addrgenmode none`, `link set ${one.link} up`];
}

/** A link that the VE configures by itself is brought up by the VE. */
export function bringUp(one: Interface): string[] {
  return one.setup === 'host' ? [`link set ${one.name} up`] : [];
}

/** Kernel settings of the VE's side, below /proc/sys: one with addresses by hand must not take others from advertisements on its bridge. */
export function guestSysctls(one: Interface, { ipv6 }: PlanContext): [string, string][] {
  return ipv6 && one.bridge !== undefined && one.setup === 'host' ? [[`net/ipv6/conf/${one.name}/accept_ra`, '0']] : [];
}

/**
 * Of both sides, in bytes. The port of a bridge keeps the bridge's, whatever the VE has: a bridge takes the least of its ports for its own.
 */
export function mtuOf(one: Interface, { bridgeMtu }: PlanContext): { host: number; guest: number } {
  if (one.bridge === undefined) return { host: one.mtu ?? DEFAULT_MTU, guest: one.mtu ?? DEFAULT_MTU };
  const host = bridgeMtu(one.bridge) ?? DEFAULT_MTU;
  return { host, guest: one.mtu ?? host };
}

/** Addresses, routes and neighbours on the host's side. With `replace` the lines may be run again. */
export function hostLines(one: Interface, context: PlanContext, verb: 'add' | 'replace'): string[] {
  if (one.bridge !== undefined) return [];
  const { link, mac } = one;
  const neighbour = (address: string): string => `neigh ${verb} ${address} lladdr ${mac} dev ${link} nud permanent`;
  const source = (cidr: Cidr): string => {
    const gateway = gatewayFor(cidr, context.pools);
    return gateway === undefined ? '' : ` src ${gateway}`;
  };
  const lines: string[] = [];
  if (context.ipv6) lines.push(`addr ${verb} ${GATEWAY_LINK_LOCAL}/64 dev ${link} nodad`, neighbour(linkLocal(mac)));
  // The neighbour first: once there is a route, a packet of anybody who waits for the VE makes a neighbour of its own, and then there is one already.
  for (const cidr of one.addresses) lines.push(neighbour(cidr.address), `route ${verb} ${textOf(cidr)} dev ${link}${source(cidr)}`);
  // By a next hop: with the addresses themselves as neighbours the VE's prefix would be the size of the host's neighbour table.
  if (one.prefixes.some(({ family }) => family === 4)) lines.push(neighbour(PREFIX_NEXT_HOP));
  for (const cidr of one.prefixes) {
    lines.push(`route ${verb} ${formatPrefix(prefixOf(cidr))} via ${cidr.family === 4 ? PREFIX_NEXT_HOP : linkLocal(mac)} dev ${link} onlink${source(cidr)}`);
  }
  return lines;
}

/** Takes off the host's side what `before` had there and `after` has not. */
export function hostRemoval(before: Interface, after: Interface): string[] {
  if (before.bridge !== undefined) return [];
  const addresses = gone(before.addresses, after.addresses, textOf);
  const prefixes = gone(before.prefixes, after.prefixes, (cidr) => formatPrefix(prefixOf(cidr)));
  return [
    ...addresses.flatMap((cidr) => [`route del ${textOf(cidr)} dev ${before.link}`, `neigh del ${cidr.address} dev ${before.link}`]),
    ...prefixes.map((cidr) => `route del ${formatPrefix(prefixOf(cidr))} dev ${before.link}`),
  ];
}

/** Addresses and routes inside the VE, where the host sets them. With `replace` the lines may be run again. */
export function guestLines(one: Interface, context: PlanContext, verb: 'add' | 'replace'): string[] {
  if (one.setup !== 'host') return [];
  const { name } = one;
  const lines = ownAddresses(one).map((cidr) => `addr ${verb} ${textOf(cidr)} dev ${name}${cidr.family === 6 ? ' nodad' : ''}`);
  // What of a prefix no program of the VE has taken is answered for by the VE, and not sent back.
  for (const cidr of one.prefixes) lines.push(`route ${verb} unreachable ${formatPrefix(prefixOf(cidr))} metric ${LAST_METRIC}`);
  for (const family of [4, 6] as const) {
    const gateway = gatewayOf(one, family, context.pools);
    const subnets = one.bridge === undefined ? [] : one.addresses.filter((cidr) => cidr.family === family);
    if (one.table !== undefined) lines.push(...subnets.map((cidr) => `route ${verb} ${formatPrefix(prefixOf(cidr))} dev ${name} table ${one.table}`));
    if (gateway === undefined) continue;
    if (one.bridge === undefined) lines.push(`neigh ${verb} ${gateway} lladdr ${GATEWAY_MAC} dev ${name} nud permanent`);
    for (const table of defaultTables(one, family)) lines.push(`route ${verb} default via ${gateway} dev ${name}${family === 6 && one.bridge === undefined ? '' : ' onlink'}${table}`);
  }
  return lines;
}

/** Takes off the VE's side what `before` had there and `after` has not. */
export function guestRemoval(before: Interface, after: Interface): string[] {
  if (before.setup !== 'host') return [];
  return [
    ...gone(ownAddresses(before), ownAddresses(after), textOf).map((cidr) => `addr del ${textOf(cidr)} dev ${before.name}`),
    ...gone(before.prefixes, after.prefixes, (cidr) => formatPrefix(prefixOf(cidr))).map((cidr) => `route del unreachable ${formatPrefix(prefixOf(cidr))} metric ${LAST_METRIC}`),
    ...([4, 6] as const).flatMap((family) => defaultTables(before, family).filter((table) => !defaultTables(after, family).includes(table))
      .map((table) => `route del ${family === 4 ? 'default' : '::/0'} dev ${before.name}${table}`)),
  ];
}

/**
 * Which packets look up an interface's own table: those from its addresses. Of the interface with the VE's default route only those to the
 * others' neighbours: the rest finds its way without, and a program that has not chosen its source yet would not learn the MTU of a path
 * from the answer, which is looked up with one.
 */
export function rules(interfaces: readonly Interface[], family: 4 | 6, verb: 'add' | 'del'): string[] {
  return interfaces.flatMap((one) => {
    if (one.table === undefined || one.setup !== 'host') return [];
    const sources = [...one.addresses.map((cidr) => `${cidr.address}/${width(cidr.family)}`), ...one.prefixes.map((cidr) => formatPrefix(prefixOf(cidr)))];
    const neighbours = interfaces.filter((other) => other !== one && other.bridge !== undefined).flatMap((other) => other.addresses.map((cidr) => formatPrefix(prefixOf(cidr))));
    const mine = (text: string): boolean => text.includes(':') === (family === 6);
    return sources.filter(mine).flatMap((source) => (one.main[family] ? neighbours.filter(mine).map((to) => ` to ${to}`) : [''])
      .map((to) => `rule ${verb} from ${source}${to} lookup ${one.table} pref ${RULE_PREFERENCE}`));
  });
}

/** Addresses, and those that are named with a prefix, at full length. */
function ownAddresses(one: Interface): Cidr[] {
  const named = one.prefixes.filter((cidr) => prefixOf(cidr).value !== cidr.value).map((cidr) => ({ ...cidr, bits: width(cidr.family) }));
  return [...one.addresses, ...named];
}

function gone(before: readonly Cidr[], after: readonly Cidr[], key: (cidr: Cidr) => string): Cidr[] {
  const kept = new Set(after.map(key));
  return before.filter((cidr) => !kept.has(key(cidr)));
}

/** The tables in which the interface has its default route, as a word of the line. */
function defaultTables(one: Interface, family: 4 | 6): string[] {
  if (!hasDefault(one, family)) return [];
  return [...(one.main[family] ? [''] : []), ...(one.table === undefined ? [] : [` table ${one.table}`])];
}

/** The router of an interface; undefined when it has none of the family. */
function gatewayOf(one: Interface, family: 4 | 6, pools: readonly Pool[]): string | undefined {
  if (one.bridge !== undefined) return one.gateways.find((gateway) => gateway.family === family)?.address;
  if (!hasDefault(one, family)) return undefined;
  if (family === 6) return GATEWAY_LINK_LOCAL;
  const first = [...one.addresses, ...one.prefixes].find((cidr) => cidr.family === 4);
  return (first && gatewayFor(first, pools)) ?? GATEWAY_NO_POOL;
}

/** The host's own address that answers for this one: that of its pool, or else of the first pool of the family. */
function gatewayFor(cidr: Cidr, pools: readonly Pool[]): string | undefined {
  const same = pools.filter((pool) => pool.family === cidr.family);
  return (same.find((pool) => contains(pool, cidr)) ?? same[0])?.gateway;
}

function textOf(cidr: Cidr): string {
  return `${cidr.address}/${cidr.bits}`;
}

function text(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}
