/**
 * The instance's one nftables table: who may say he is whom, what VEs may reach, their own rules, published ports, and NAT.
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
import { HAIRPIN_RULE, PUBLISH_CHAINS, elementLines, publishElements, publishMaps } from './publish.ts';
import { RATE_MAPS, RATE_RULE, rateLines } from './rates.ts';
import { RULE_MAPS, ruleLines } from './rules.ts';
import { keptTable } from './traffic.ts';

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
  /** The host answers questions for names, see resolver.ts. */
  resolver: boolean;
}

/** Questions for names that one VE may ask, each second and at once. More are dropped: others have questions, too. */
const DNS_RATE = 500;
const DNS_BURST = 1000;
/** Connections to the resolver that one VE may hold open; dnsmasq serves 20 at the same time. */
const DNS_CONNECTIONS = 4;

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

/** What a VE has in the tables besides its sources and ports: published ports, rules and rates. Lines of nft; those that remove may be used when nothing is there. */
export function ownLines(ve: VeRecord, context: PlanContext): { add: string; remove: string } {
  const elements = publishElements(ve, context);
  const [rules, rates] = [ruleLines(ve, context), rateLines(ve, context)];
  const add = elementLines('add', context.names, elements);
  return { add: add + rules.add + rates.add, remove: add + elementLines('delete', context.names, elements) + rules.remove + rates.remove };
}

/**
 * The whole table as one transaction that replaces the old one; packets see either, never none.
 * @param guests those whose published ports and rules are to be in it
 */
export function tableScript(config: FirewallConfig, sources: readonly Source[], guests: readonly VeRecord[], context: PlanContext): string {
  const { names, pools, uplinks } = config;
  const published = new Map<string, string[]>();
  for (const ve of guests) for (const [map, list] of publishElements(ve, context)) published.set(map, [...published.get(map) ?? [], ...list]);
  const gateways = ([4, 6] as const).flatMap((family) => {
    const own = pools.filter((pool) => pool.family === family).map(({ gateway }) => gateway);
    return own.length > 0 && config.resolver ? [`${family === 4 ? 'ip' : 'ip6'} daddr { ${own.join(', ')} }`] : [];
  });
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
  counter refused_dns {}
  set sources4 { type ifname . ether_addr . ipv4_addr; ${elements(sources, 4)} }
  set sources6 { type ifname . ether_addr . ipv6_addr; ${elements(sources, 6)} }
  set prefixes4 { type ifname . ether_addr . ipv4_addr; flags interval; ${elements(sources, 4, true)} }
  set prefixes6 { type ifname . ether_addr . ipv6_addr; flags interval; ${elements(sources, 6, true)} }
${publishMaps(published)}
${RULE_MAPS}
  set dns_rate { type ifname; size 65535; flags dynamic,timeout; timeout 1m; }
  set dns_connections { type ifname; size 65535; flags dynamic; }

  chain prerouting {
    type filter hook prerouting priority -310; policy accept;
    ${RATE_RULE}
    iifname ${ve} jump from_ve
  }
${RATE_MAPS}
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
    ${gateways.map((to) => `iifname != "lo" ${to} meta l4proto { tcp, udp } th dport 53 counter name refused_dns drop`).join('\n    ')}
  }
  chain to_host {
    ct state related accept
    ct direction reply accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, mld2-listener-report, mld-listener-done } accept
    ${gateways.map((to) => `${to} meta l4proto { tcp, udp } th dport 53 goto names`).join('\n    ')}
    iifname vmap @rules_out
    icmp type echo-request accept
    icmpv6 type echo-request accept
    ${config.veToHost ? 'accept' : 'counter name refused_to_host jump refuse'}
  }
  chain names {
    meta l4proto udp update @dns_rate { iifname limit rate over ${DNS_RATE}/second burst ${DNS_BURST} packets } counter name refused_dns drop
    meta l4proto tcp ct state new add @dns_connections { iifname ct count over ${DNS_CONNECTIONS} } counter name refused_dns reject with tcp reset
    accept
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname != ${ve} oifname != ${ve} accept
    ct state related accept
    ct direction reply accept
    iifname vmap @rules_out
    oifname vmap @rules_in
    ${config.veToVe ? '' : `iifname ${ve} oifname ${ve} ct status & dnat == 0 counter name refused_to_ve jump refuse`}
  }
  chain output {
    type filter hook output priority filter; policy accept;
    oifname != "lo" oifname != ${ve} accept
    ct state related accept
    ct direction reply accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    # By the link (a VE may have a whole prefix), and by the address where a published port has just led to it: the link is not known yet.
    oifname vmap @rules_in
    ip daddr vmap @rules_in4
    ip6 daddr vmap @rules_in6
  }
${PUBLISH_CHAINS}
  chain refuse {
    ct state invalid drop
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ${HAIRPIN_RULE}
    ${masquerade(4)}
    ${masquerade(6)}
  }
}
${guests.map((guest) => ruleLines(guest, context).add).join('')}`;
}

/** Let these sources in. One transaction with `more`; its cost does not grow with the elements that are there. */
export async function addSources(names: Names, sources: readonly Source[], more = ''): Promise<void> {
  if (sources.length > 0 || more !== '') await nftApply(verbLines('add', names, sources) + more);
}

/** The reverse; sources that are not there are no error (they are added first, in the same transaction). */
export async function removeSources(names: Names, sources: readonly Source[], more = ''): Promise<void> {
  if (sources.length > 0 || more !== '') await nftApply(verbLines('add', names, sources) + verbLines('delete', names, sources) + more);
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

/** Remove the tables of both families, those of counters included, when they are there. */
export async function removeTable(names: Names): Promise<void> {
  await nftApply(['inet', 'bridge'].flatMap((family) => [names.table, keptTable(names)].map((table) => `add table ${family} ${table}\ndelete table ${family} ${table}\n`)).join(''));
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
