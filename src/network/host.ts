/** The host's own part of the network: gateway link, kernel settings, uplinks, and whether the pools are free to be used. */
import { VeldError } from '../lib/errors.ts';
import { ipBatch, linkAlias, linkExists, listLinks } from '../kernel/links.ts';
import type { LinkInfo, RouteInfo } from '../kernel/links.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import type { SysctlChange } from '../kernel/sysctl.ts';
import { contains, formatPrefix, overlaps, parseIp, parsePrefix } from './ip.ts';
import type { Prefix } from './ip.ts';
import { ROUTE_PROTOCOL } from './names.ts';
import type { Names } from './names.ts';
import type { Pool } from './pools.ts';

/** Begins the alias of every gateway link; the pools follow. Other instances read it. */
const ALIAS = 'veld pools';

/**
 * Types of link that can carry the gateway addresses, best first. All are software that sends nothing anywhere: a bridge
 * without ports where the kernel was built without dummy.
 */
const GATEWAY_TYPES = ['dummy', 'bridge'];

/** Whether this kernel has IPv6, and it is not switched off. */
export function hasIpv6(): boolean {
  return readSysctl('net', 'ipv6', 'conf', 'all', 'disable_ipv6') === '0' && readSysctl('net', 'ipv6', 'conf', 'default', 'disable_ipv6') === '0';
}

/** The links of the default routes, both families; never a link of this instance. */
export function defaultUplinks(routes: readonly RouteInfo[], names: Names): string[] {
  const links = routes.filter(({ dst, type }) => dst === 'default' && (type === undefined || type === 'unicast'))
    .flatMap(({ dev, nexthops }) => [dev, ...(nexthops ?? []).map((hop) => hop.dev)]);
  return [...new Set(links)].filter((link): link is string => link !== undefined && link !== 'lo' && !isOwn(link, names));
}

/**
 * Refuse pools that something else on this host uses.
 * @throws VeldError `daemon.instance_overlap` naming both sides
 */
export function checkOverlap(pools: readonly Pool[], links: readonly LinkInfo[], routes: readonly RouteInfo[], names: Names): void {
  const refuse = (pool: Pool, what: string): never => {
    throw new VeldError('daemon.instance_overlap', `The pool ${formatPrefix(pool)} overlaps ${what}.`,
      { hint: 'Set `network.pools` in the settings to ranges that nothing else on this host uses.', details: { pool: formatPrefix(pool) } });
  };
  for (const pool of pools) {
    for (const link of links) {
      if (isOwn(link.ifname, names)) continue;
      for (const other of poolsOfAlias(linkAlias(link.ifname))) {
        if (overlaps(pool, other)) refuse(pool, `${formatPrefix(other)}, the pool of the instance with the link ${link.ifname}`);
      }
      for (const { local } of link.addr_info) {
        const ip = parseIp(local);
        if (ip && contains(pool, ip)) refuse(pool, `the address ${local} of the link ${link.ifname}`);
      }
    }
    for (const route of routes) {
      if (route.dst === 'default' || (route.dev !== undefined && isOwn(route.dev, names)) || route.protocol === ROUTE_PROTOCOL) continue;
      const other = parsePrefix(route.dst);
      if (!other || !overlaps(pool, other)) continue;
      // A public pool may be a part of the uplink's subnet: its addresses are proxied there.
      if (!pool.private && other.bits < pool.bits) continue;
      refuse(pool, `the route to ${route.dst}${route.dev === undefined ? '' : ` by ${route.dev}`}`);
    }
  }
}

/**
 * Make or correct the gateway link: its addresses are the pools' first, and no others. An address of a pool that no VE has
 * is unreachable; else packets to it would leave by the default route, and come back where the pool is routed to this host.
 */
export async function makeGateway(names: Names, pools: readonly Pool[]): Promise<void> {
  const link = names.gatewayLink;
  if (!linkExists(link)) await addGatewayLink(link);
  const before = poolsOfAlias(linkAlias(link));
  const addresses = (await listLinks()).find(({ ifname }) => ifname === link)?.addr_info ?? [];
  const wanted = new Set(pools.map(({ gateway }) => gateway));
  await ipBatch([
    ...addresses.filter(({ local }) => !wanted.has(local)).map(({ local, prefixlen }) => `addr del ${local}/${prefixlen} dev ${link}`),
    // The mode first, by itself: a link that goes up makes its link-local address before it reads the rest of the line.
    `link set ${link} addrgenmode none`,
    `link set ${link} arp off alias "${[ALIAS, ...pools.map(formatPrefix)].join(' ')}" up`,
    ...pools.flatMap((pool) => [
      `addr replace ${pool.gateway}/${pool.family === 4 ? 32 : 128} dev ${link}${pool.family === 6 ? ' nodad' : ''}`,
      unreachable('replace', pool),
    ]),
  ]);
  const gone = before.filter((old) => !pools.some((pool) => formatPrefix(pool) === formatPrefix(old)));
  await ipBatch(gone.map((pool) => unreachable('del', pool)), { force: true });
}

/** The reverse of {@link makeGateway}. */
export async function removeGateway(names: Names): Promise<void> {
  const link = names.gatewayLink;
  if (linkExists(link)) await ipBatch([...poolsOfAlias(linkAlias(link)).map((pool) => unreachable('del', pool)), `link del ${link}`], { force: true });
}

/**
 * Switch forwarding on, without losing routes that the host learns by router advertisements: a router ignores these
 * unless accept_ra is 2.
 * @returns what was changed
 */
export function setSysctls(uplinks: readonly string[], ipv6: boolean): SysctlChange[] {
  const changes: (SysctlChange | undefined)[] = [writeSysctl(['net', 'ipv4', 'ip_forward'], '1')];
  // Answers for proxied addresses would be held back for up to 0.8 s, to let the owner answer first: here the host is the way to the owner.
  for (const link of uplinks) changes.push(writeSysctl(['net', 'ipv4', 'neigh', link, 'proxy_delay'], '0'));
  if (ipv6) {
    for (const link of uplinks) {
      changes.push(writeSysctl(['net', 'ipv6', 'neigh', link, 'proxy_delay'], '0'));
      if (readSysctl('net', 'ipv6', 'conf', link, 'accept_ra') === '1') changes.push(writeSysctl(['net', 'ipv6', 'conf', link, 'accept_ra'], '2'));
      changes.push(writeSysctl(['net', 'ipv6', 'conf', link, 'proxy_ndp'], '1')); // without proxy entries it does nothing
    }
    changes.push(writeSysctl(['net', 'ipv6', 'conf', 'all', 'forwarding'], '1'));
  }
  return changes.filter((change) => change !== undefined);
}

/** Whether the link belongs to this instance. */
export function isOwn(link: string, names: Names): boolean {
  return link === names.gatewayLink || link.startsWith(names.linkPrefix) || link.startsWith(names.holdPrefix);
}

async function addGatewayLink(link: string): Promise<void> {
  let failure: unknown;
  for (const type of GATEWAY_TYPES) {
    try {
      await ipBatch([`link add ${link} type ${type}`]);
      return;
    } catch (error) {
      failure = error;
      if (linkExists(link)) return;
    }
  }
  throw failure;
}

function unreachable(verb: 'replace' | 'del', pool: Prefix): string {
  return `route ${verb} unreachable ${formatPrefix(pool)} proto ${ROUTE_PROTOCOL}`;
}

function poolsOfAlias(alias: string): Prefix[] {
  return alias.startsWith(ALIAS) ? alias.slice(ALIAS.length).trim().split(' ').flatMap((text) => parsePrefix(text) ?? []) : [];
}
