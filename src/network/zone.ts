/** What the instance's resolver knows by itself: dnsmasq's configuration, and the names of VEs. Pure but for the host's resolver files. */
import { readIfExists } from '../lib/files.ts';
import type { VeRecord } from '../store/types.ts';
import { interfacesOf } from './interfaces.ts';
import { formatIp, parseIp } from './ip.ts';
import type { Prefix } from './ip.ts';
import type { Names } from './names.ts';
import type { Pool } from './pools.ts';

/** The host's own name in the domain; no VE can have it (src/spec/names.ts). */
export const HOST_NAME = 'host';

/** Answers kept. About 100 bytes each. */
const CACHE = 10_000;
/** Questions under way at other resolvers. dnsmasq's own 150 are fewer than one VE may ask in a second (firewall.ts). */
const FORWARDED = 2000;

export interface ZoneConfig {
  domain: string;
  /** The host's address of each pool. */
  pools: readonly Pool[];
  /** Folder with a file of names for each VE. */
  hosts: string;
  /** A resolv.conf to follow. */
  upstream: string;
  /** Who the process becomes. */
  user: string;
}

/**
 * dnsmasq.conf. Nothing of the host's files but its resolvers; no DHCP, no TFTP (they are off unless asked for). Bound to the gateway
 * addresses alone; who may ask is for the firewall to say.
 */
export function zoneConfig({ domain, pools, hosts, upstream, user }: ZoneConfig): string {
  return [
    '# Written by Veld at each start of its resolver.',
    'port=53', 'bind-interfaces', ...pools.map(({ gateway }) => `listen-address=${gateway}`),
    `user=${user}`,
    'no-hosts', `hostsdir=${hosts}`,
    // Names of the domain, addresses of private pools and names of one word are known here or nowhere.
    `local=/${domain}/`, ...reverseZones(pools).map((zone) => `local=/${zone}/`), 'domain-needed',
    `resolv-file=${upstream}`,
    `cache-size=${CACHE}`, `dns-forward-max=${FORWARDED}`, 'edns-packet-max=1232', 'local-ttl=5', '',
  ].join('\n');
}

/** Content of a VE's file of names: every name also finds its way back. */
export function hostsLines(name: string, domain: string, addresses: readonly string[]): string {
  return addresses.flatMap((address) => {
    const ip = parseIp(address);
    return ip ? [`${formatIp(ip)} ${name}.${domain}\n`] : [];
  }).join('');
}

/**
 * Names of files and their content, for all VEs and the host. A VE's name is for the first of its interfaces that has addresses; those it
 * gets by DHCP are known to whoever gives them.
 */
export function hostsFiles(ves: readonly VeRecord[], domain: string, pools: readonly Pool[], context: { names: Names; ipv6: boolean }): Map<string, string> {
  const files = new Map([[HOST_NAME, hostsLines(HOST_NAME, domain, pools.map(({ gateway }) => gateway))]]);
  for (const ve of ves) if (ve.ready) files.set(String(ve.number), hostsLines(ve.name, domain, ownAddresses(ve, context)));
  return files;
}

function ownAddresses(ve: VeRecord, context: { names: Names; ipv6: boolean }): string[] {
  const first = interfacesOf(ve, context).find(({ addresses }) => addresses.length > 0);
  return (first?.addresses ?? []).map(({ address }) => address);
}

/** The file that names the host's resolvers: those behind systemd-resolved, whose stub would ask us for our own names, before what all programs read. */
export function upstreamFile(behindStub = '/run/systemd/resolve/resolv.conf', ordinary = '/etc/resolv.conf'): string {
  return /^\s*nameserver\s/m.test(readIfExists(behindStub) ?? '') ? behindStub : ordinary;
}

/** Zones of addresses that are known here or nowhere: those of private pools. */
export function reverseZones(pools: readonly Pool[]): string[] {
  return pools.filter((pool) => pool.private).flatMap((pool) => reverseZone(pool) ?? []);
}

/** The zone of a prefix's addresses, when its length falls on a label; undefined otherwise. */
export function reverseZone(prefix: Prefix): string | undefined {
  const [step, suffix] = prefix.family === 4 ? [8, 'in-addr.arpa'] : [4, 'ip6.arpa'];
  if (prefix.bits % step !== 0) return undefined;
  const labels = Array.from({ length: prefix.bits / step }, (_, i) => {
    const shift = BigInt((prefix.family === 4 ? 32 : 128) - step * (i + 1));
    return ((prefix.value >> shift) & ((1n << BigInt(step)) - 1n)).toString(prefix.family === 4 ? 10 : 16);
  });
  return [...labels.reverse(), suffix].join('.');
}
