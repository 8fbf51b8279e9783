/**
 * The instance's one nftables table: who may say he is whom, what VEs may reach, and NAT.
 *
 * A VE is a few elements in sets (its link, its link-layer address, and one of its addresses or prefixes); a packet that
 * came in by a VE's link and is not in them is dropped before connection tracking sees it. Rules do not grow with VEs.
 * Prefixes have sets of their own, of ranges: these cost more to look up and to change, and most VEs have none.
 * What comes from VEs on bridges never passes here: see bridge-firewall.ts.
 */
import type { VeRecord } from '../store/types.ts';
import { nftApply, nftList } from '../kernel/nftables.ts';
import { interfacesOf } from './interfaces.ts';
import { formatPrefix, linkLocal, prefixOf } from './ip.ts';
import type { Names } from './names.ts';
import type { PlanContext } from './plan.ts';
import type { Pool } from './pools.ts';

/** One element: packets of this source may come in by this link. */
export interface Source {
  link: string;
  mac: string;
  /** An address, or a prefix with its length. */
  address: string;
}

export interface FirewallConfig {
  names: Names;
  pools: readonly Pool[];
  uplinks: readonly string[];
  veToVe: boolean;
  veToHost: boolean;
}

/** Where clouds keep their metadata services, which would give a VE the host's credentials. Some have the resolver there too: port 53 stays open. */
const METADATA4 = '169.254.0.0/16';
const METADATA6 = 'fd00:ec2::254';

/** Rules that keep VEs from them. */
export const NO_METADATA = `ip daddr ${METADATA4} meta l4proto != { tcp, udp } drop
    ip daddr ${METADATA4} tcp dport != 53 drop
    ip daddr ${METADATA4} udp dport != 53 drop
    ip6 daddr ${METADATA6} drop`;

/** All sources a VE may use on its routed links: addresses, prefixes, link-local address, and `::` (duplicate address detection). */
export function sourcesOf(ve: VeRecord, context: PlanContext): Source[] {
  return interfacesOf(ve, context).filter(({ bridge }) => bridge === undefined).flatMap(({ link, mac, addresses, prefixes }) => [
    ...addresses.map(({ address }) => address), ...prefixes.map((cidr) => formatPrefix(prefixOf(cidr))), ...(context.ipv6 ? [linkLocal(mac), '::'] : []),
  ].map((address) => ({ link, mac, address })));
}

/** The whole table as one transaction that replaces the old one; packets see either, never none. */
export function tableScript(config: FirewallConfig, sources: readonly Source[]): string {
  const { names, pools, uplinks } = config;
  const ve = `"${names.linkPrefix}*"`;
  const masquerade = (family: 4 | 6): string => {
    const prefixes = pools.filter((pool) => pool.private && pool.family === family).map(formatPrefix);
    if (prefixes.length === 0 || uplinks.length === 0) return '';
    return `oifname { ${uplinks.map((link) => `"${link}"`).join(', ')} } ${family === 4 ? 'ip' : 'ip6'} saddr { ${prefixes.join(', ')} } masquerade`;
  };
  return `add table inet ${names.table}
delete table inet ${names.table}
table inet ${names.table} {
  counter forged {}
  counter refused_to_host {}
  counter refused_to_ve {}
  set sources4 { type ifname . ether_addr . ipv4_addr; ${elements(sources, 4)} }
  set sources6 { type ifname . ether_addr . ipv6_addr; ${elements(sources, 6)} }
  set prefixes4 { type ifname . ether_addr . ipv4_addr; flags interval; ${elements(sources, 4, true)} }
  set prefixes6 { type ifname . ether_addr . ipv6_addr; flags interval; ${elements(sources, 6, true)} }

  chain prerouting {
    type filter hook prerouting priority -310; policy accept;
    iifname ${ve} jump from_ve
  }
  chain from_ve {
    meta nfproto ipv4 iifname . ether saddr . ip saddr @sources4 goto from_ve_checked
    meta nfproto ipv6 iifname . ether saddr . ip6 saddr @sources6 goto from_ve_checked
    meta nfproto ipv4 iifname . ether saddr . ip saddr @prefixes4 goto from_ve_checked
    meta nfproto ipv6 iifname . ether saddr . ip6 saddr @prefixes6 goto from_ve_checked
    counter name forged drop
  }
  chain from_ve_checked {
    ${NO_METADATA}
    ip6 saddr :: meta l4proto != ipv6-icmp drop
    icmpv6 type { nd-router-advert, nd-redirect } drop
    icmp type { redirect, router-advertisement } drop
    udp sport . udp dport { 67 . 68, 547 . 546 } drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname ${ve} jump to_host
  }
  chain to_host {
    ct state established,related accept
    icmp type echo-request accept
    icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, mld2-listener-report, mld-listener-done } accept
    ${config.veToHost ? 'accept' : 'counter name refused_to_host jump refuse'}
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ${config.veToVe ? '' : `iifname ${ve} oifname ${ve} counter name refused_to_ve jump refuse`}
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ${masquerade(4)}
    ${masquerade(6)}
  }
}
`;
}

/** Let these sources in. One transaction; its cost does not grow with the elements that are there. */
export async function addSources(names: Names, sources: readonly Source[]): Promise<void> {
  if (sources.length > 0) await nftApply(verbLines('add', names, sources));
}

/** The reverse; sources that are not there are no error (they are added first, in the same transaction). */
export async function removeSources(names: Names, sources: readonly Source[]): Promise<void> {
  if (sources.length > 0) await nftApply(verbLines('add', names, sources) + verbLines('delete', names, sources));
}

/** The sources that are let in now, or undefined when there is no table. */
export async function listSources(names: Names): Promise<Source[] | undefined> {
  const lists = await Promise.all(['sources4', 'sources6', 'prefixes4', 'prefixes6'].map((set) => nftList('list', 'set', 'inet', names.table, set)));
  // A table that an earlier version made has no sets of prefixes.
  if (lists[0] === undefined || lists[1] === undefined) return undefined;
  return lists.flatMap((list) => (list ?? []).flatMap((object) => (object.set?.elem as { concat: [string, string, ListedAddress] }[] | undefined) ?? []))
    .map(({ concat: [link, mac, address] }) => ({ link, mac, address: typeof address === 'string' ? address : `${address.prefix.addr}/${address.prefix.len}` }));
}

/** As nft prints it: an address, or a prefix. */
type ListedAddress = string | { prefix: { addr: string; len: number } };

/** Remove the tables of both families, when they are there. */
export async function removeTable(names: Names): Promise<void> {
  await nftApply(['inet', 'bridge'].map((family) => `add table ${family} ${names.table}\ndelete table ${family} ${names.table}\n`).join(''));
}

function verbLines(verb: 'add' | 'delete', names: Names, sources: readonly Source[]): string {
  return ([4, 6] as const).flatMap((family) => [false, true].map((prefixes) => {
    const list = listed(sources, family, prefixes);
    return list === '' ? '' : `${verb} element inet ${names.table} ${prefixes ? 'prefixes' : 'sources'}${family} { ${list} }\n`;
  })).join('');
}

function elements(sources: readonly Source[], family: 4 | 6, prefixes = false): string {
  const list = listed(sources, family, prefixes);
  return list === '' ? '' : `elements = { ${list} };`;
}

function listed(sources: readonly Source[], family: 4 | 6, prefixes: boolean): string {
  return sources.filter(({ address }) => address.includes(':') === (family === 6) && address.includes('/') === prefixes)
    .map(({ link, mac, address }) => `"${link}" . ${mac} . ${address}`).join(', ');
}
