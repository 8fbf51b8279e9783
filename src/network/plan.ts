/**
 * The `ip -batch` lines that make a VE's network, on both sides of its pair.
 *
 * Each side is one run of ip(8), and each line about one netlink request: starting a VE waits for them. Nothing is
 * resolved by ARP or ND on the pair: both sides have permanent neighbour entries, and the host's side has ARP off, so that
 * a VE can neither fill the host's neighbour table nor be told a wrong gateway.
 */
import type { VeRecord } from '../store/types.ts';
import { contains, formatIp, isMac, linkLocal, parseIp } from './ip.ts';
import { GATEWAY_LINK_LOCAL, GATEWAY_MAC, GATEWAY_NO_POOL, linkOf } from './names.ts';
import type { Names } from './names.ts';
import type { Pool } from './pools.ts';
import type { NetworkPlan } from './types.ts';
import { VeldError } from '../lib/errors.ts';

export interface PlanContext {
  names: Names;
  pools: readonly Pool[];
  /** Whether this kernel has IPv6 switched on. */
  ipv6: boolean;
}

/** MTU of a VE that does not set `network.mtu`. */
const DEFAULT_MTU = 1500;

/** The VE's addresses that this host can serve, in their one text. */
export function usableAddresses(ve: VeRecord, ipv6: boolean): { text: string; family: 4 | 6 }[] {
  return ve.addresses.flatMap((given) => {
    const ip = parseIp(given);
    if (!ip) throw new VeldError('network.failed', `The VE ${ve.name} has the address ${JSON.stringify(given)}, which is none.`);
    return ip.family === 6 && !ipv6 ? [] : [{ text: formatIp(ip), family: ip.family }];
  });
}

/** What {@link NetworkPlan} says, for this VE as it is now. Pure. */
export function planOf(ve: VeRecord, context: PlanContext): NetworkPlan {
  const link = linkOf(context.names, ve.number);
  if (!isMac(ve.mac)) throw new VeldError('network.failed', `The VE ${ve.name} has the link-layer address ${JSON.stringify(ve.mac)}, which is none.`);
  const set = ve.properties['network.mtu'];
  const mtu = typeof set === 'number' && Number.isInteger(set) ? set : DEFAULT_MTU;
  const host = [
    `link add ${link} address ${GATEWAY_MAC} mtu ${mtu} type veth peer name eth0 address ${ve.mac} mtu ${mtu} netns @PID@`,
    `link set ${link} arp off addrgenmode none up`,
    ...hostLines(ve, context, 'add'),
  ];
  const guest = ['link set lo up', 'link set eth0 up', ...guestLines(ve, context, 'add')];
  return { link, mac: ve.mac, mtu, addresses: ve.addresses, hostBatch: text(host), guestBatch: text(guest) };
}

/** Addresses, routes and neighbours on the host's side. With `replace` the lines may be run again. */
export function hostLines(ve: VeRecord, context: PlanContext, verb: 'add' | 'replace'): string[] {
  const link = linkOf(context.names, ve.number);
  const lines: string[] = [];
  if (context.ipv6) {
    lines.push(`addr ${verb} ${GATEWAY_LINK_LOCAL}/64 dev ${link} nodad`, `neigh ${verb} ${linkLocal(ve.mac)} lladdr ${ve.mac} dev ${link} nud permanent`);
  }
  for (const { text: address, family } of usableAddresses(ve, context.ipv6)) {
    const source = gatewayFor(address, family, context.pools);
    lines.push(`route ${verb} ${prefixed(address, family)} dev ${link}${source === undefined ? '' : ` src ${source}`}`,
      `neigh ${verb} ${address} lladdr ${ve.mac} dev ${link} nud permanent`);
  }
  return lines;
}

/** Takes off the host's side what {@link hostLines} put there for the address. */
export function hostRemoval(ve: VeRecord, context: PlanContext, address: string): string[] {
  const link = linkOf(context.names, ve.number);
  return [`route del ${prefixed(address, familyOf(address))} dev ${link}`, `neigh del ${address} dev ${link}`];
}

/** Addresses and default routes inside the VE. With `replace` the lines may be run again. */
export function guestLines(ve: VeRecord, context: PlanContext, verb: 'add' | 'replace'): string[] {
  const addresses = usableAddresses(ve, context.ipv6);
  const lines = addresses.map(({ text: address, family }) => `addr ${verb} ${prefixed(address, family)} dev eth0${family === 6 ? ' nodad' : ''}`);
  const four = addresses.find(({ family }) => family === 4);
  if (four) {
    const gateway = gatewayFor(four.text, 4, context.pools) ?? GATEWAY_NO_POOL;
    lines.push(`neigh ${verb} ${gateway} lladdr ${GATEWAY_MAC} dev eth0 nud permanent`, `route ${verb} default via ${gateway} dev eth0 onlink`);
  }
  if (addresses.some(({ family }) => family === 6)) {
    lines.push(`neigh ${verb} ${GATEWAY_LINK_LOCAL} lladdr ${GATEWAY_MAC} dev eth0 nud permanent`, `route ${verb} default via ${GATEWAY_LINK_LOCAL} dev eth0`);
  }
  return lines;
}

/** Takes the address off the VE's side. */
export function guestRemoval(address: string): string[] {
  return [`addr del ${prefixed(address, familyOf(address))} dev eth0`];
}

/** The host's own address that answers for this one: that of its pool, or else of the first pool of the family. */
function gatewayFor(address: string, family: 4 | 6, pools: readonly Pool[]): string | undefined {
  const ip = parseIp(address);
  const same = pools.filter((pool) => pool.family === family);
  return (same.find((pool) => ip && contains(pool, ip)) ?? same[0])?.gateway;
}

function prefixed(address: string, family: 4 | 6): string {
  return `${address}/${family === 4 ? 32 : 128}`;
}

function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4;
}

function text(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}
