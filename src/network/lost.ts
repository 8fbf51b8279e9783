/**
 * What others take away from under VEs: `systemctl restart nftables` removes every table, a restart of systemd-networkd every route and
 * proxy entry that it does not know, and both say nothing. Looked at every few seconds, so it costs two or three short programs.
 */
import { ipJson, linkExists } from '../kernel/links.ts';
import type { RouteInfo } from '../kernel/links.ts';
import { nftChainsExist } from '../kernel/nftables.ts';
import { readSysctl } from '../kernel/sysctl.ts';
import { formatPrefix } from './ip.ts';
import { ROUTE_PROTOCOL } from './names.ts';
import type { Names } from './names.ts';
import type { Pool } from './pools.ts';
import { keptTable } from './traffic.ts';

export interface Expected {
  names: Names;
  pools: readonly Pool[];
  uplinks: readonly string[];
  /** Addresses for which the host answers on its uplinks. */
  proxied: readonly string[];
  ipv6: boolean;
  /** Whether VEs are ports of bridges. */
  bridged: boolean;
}

/** What is missing, in words; empty when all is there. */
export async function lostParts(expected: Expected): Promise<string[]> {
  const { names, pools, uplinks, ipv6 } = expected;
  const lost: string[] = [];
  const tables: [string, string][] = [
    [`inet ${names.table} from_ve`, `the nftables table ${names.table}`],
    ...expected.bridged ? [[`bridge ${names.table} from_ve`, `the nftables table ${names.table} for bridges`] as [string, string]] : [],
    [`inet ${keptTable(names)} sent_to_host`, `the nftables table ${keptTable(names)}`],
    [`bridge ${keptTable(names)} sent_to_host`, `the nftables table ${keptTable(names)} for bridges`],
  ];
  if (!(await nftChainsExist(tables.map(([chain]) => chain)))) {
    for (const [chain, what] of tables) if (!(await nftChainsExist([chain]))) lost.push(what);
  }
  for (const family of [4, 6] as const) {
    const own = pools.filter((pool) => pool.family === family);
    if (own.length === 0) continue;
    const routes = await ipJson<RouteInfo>(`-${family}`, 'route', 'show', 'type', 'unreachable', 'proto', ROUTE_PROTOCOL);
    for (const pool of own) if (!routes.some(({ dst }) => dst === formatPrefix(pool))) lost.push(`the route for unused addresses of ${formatPrefix(pool)}`);
  }
  if (pools.length > 0 && !linkExists(names.gatewayLink)) lost.push(`the link ${names.gatewayLink}`);
  const links = uplinks.filter(linkExists);
  if (expected.proxied.length > 0 && links.length > 0) {
    const there = new Set((await ipJson<{ dst: string; dev: string }>('neigh', 'show', 'proxy')).map(({ dst, dev }) => `${dst} ${dev}`));
    for (const address of expected.proxied) for (const link of links) if (!there.has(`${address} ${link}`)) lost.push(`the answer for ${address} on ${link}`);
  }
  if (readSysctl('net', 'ipv4', 'ip_forward') !== '1') lost.push('net.ipv4.ip_forward');
  if (ipv6 && readSysctl('net', 'ipv6', 'conf', 'all', 'forwarding') !== '1') lost.push('net.ipv6.conf.all.forwarding');
  if (ipv6) for (const link of links) if (readSysctl('net', 'ipv6', 'conf', link, 'proxy_ndp') !== '1') lost.push(`net.ipv6.conf.${link}.proxy_ndp`);
  return lost;
}
