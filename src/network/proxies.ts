/** Proxy ARP and ND: the host answers on its uplinks for VEs whose addresses lie in the uplink's own subnet. */
import { ipBatch, ipJson, linkExists } from '../kernel/links.ts';
import { contains, formatIp, parseIp, parsePrefix, width } from './ip.ts';
import type { Prefix } from './ip.ts';
import type { Pool } from './pools.ts';

/** Host bits of the largest prefix whose addresses are answered for one by one: 256 of them. */
const SMALL = 8;

/** Whether the host can answer for each address of a prefix. */
export function isSmall(prefix: Prefix): boolean {
  return width(prefix.family) - prefix.bits <= SMALL;
}

/**
 * Those of the addresses and prefixes that need it, prefixes as their addresses: all but link-local ones and those of private pools, which
 * nobody outside asks for. A prefix that is not small is routed to this host by a router, who asks for none of its addresses.
 */
export function proxied(sources: readonly string[], pools: readonly Pool[]): string[] {
  return sources.flatMap(addressesOf).filter((address) => {
    const ip = parseIp(address);
    return ip && address !== '::' && !address.startsWith('fe80:') && !pools.some((pool) => pool.private && contains(pool, ip));
  });
}

function addressesOf(source: string): string[] {
  if (!source.includes('/')) return [source];
  const prefix = parsePrefix(source);
  if (!prefix || !isSmall(prefix)) return [];
  return Array.from({ length: 2 ** (width(prefix.family) - prefix.bits) }, (_, i) => formatIp({ family: prefix.family, value: prefix.value + BigInt(i) }));
}

/** Answer for the addresses on the uplinks. May be repeated. */
export async function addProxies(addresses: readonly string[], uplinks: readonly string[]): Promise<void> {
  const links = uplinks.filter(linkExists);
  await ipBatch(addresses.flatMap((address) => links.map((link) => `neigh replace proxy ${address} dev ${link}`)));
}

/** Stop answering, on whatever link it is done. */
export async function removeProxies(addresses: readonly string[]): Promise<void> {
  if (addresses.length === 0) return;
  const wanted = new Set(addresses);
  const entries = await ipJson<{ dst: string; dev: string }>('neigh', 'show', 'proxy');
  await ipBatch(entries.filter(({ dst }) => wanted.has(dst)).map(({ dst, dev }) => `neigh del proxy ${dst} dev ${dev}`), { force: true });
}
