/** Proxy ARP and ND: the host answers on its uplinks for VEs whose addresses lie in the uplink's own subnet. */
import { ipBatch, ipJson, linkExists } from '../kernel/links.ts';
import { contains, parseIp } from './ip.ts';
import type { Pool } from './pools.ts';

/** Those of the addresses that need it: all but link-local ones and those of private pools, which nobody outside asks for. */
export function proxied(addresses: readonly string[], pools: readonly Pool[]): string[] {
  return addresses.filter((address) => {
    const ip = parseIp(address);
    return ip && address !== '::' && !address.startsWith('fe80:') && !pools.some((pool) => pool.private && contains(pool, ip));
  });
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
