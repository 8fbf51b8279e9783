/** Pools of addresses: which address is given next, and whether one that was given by hand may be used. */
import { networkInterfaces } from 'node:os';
import { VeldError } from '../lib/errors.ts';
import { contains, formatIp, formatPrefix, lastOf, overlaps, parseIp, parsePrefix } from './ip.ts';
import type { Ip, Prefix } from './ip.ts';

export interface Pool extends Prefix {
  /** The first address: the host's own, the gateway of VEs. */
  gateway: string;
  /** Of a range that is not routed in the Internet: VEs reach the world through NAT. */
  private: boolean;
}

/** RFC 1918, RFC 6598 (shared), RFC 4193 (unique local). */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'].map(known);

/** Addresses that no VE can have, and why. */
const UNUSABLE: readonly [Prefix, string][] = [
  [known('0.0.0.0/8'), 'means "this network"'],
  [known('127.0.0.0/8'), 'is a loopback address'],
  [known('169.254.0.0/16'), 'is a link-local address'],
  [known('224.0.0.0/4'), 'is a multicast address'],
  [known('240.0.0.0/4'), 'is reserved'],
  [known('::/127'), 'is the unspecified or the loopback address'],
  [known('::ffff:0:0/96'), 'is an IPv4 address written as IPv6'],
  [known('fe80::/10'), 'is a link-local address'],
  [known('ff00::/8'), 'is a multicast address'],
];

/**
 * Read the pools of the settings.
 * @throws VeldError `settings.invalid` for a pool that is none, or two that overlap
 */
export function parsePools(texts: readonly string[]): Pool[] {
  const pools: Pool[] = [];
  for (const text of texts) {
    const prefix = parsePrefix(text);
    if (!prefix) throw new VeldError('settings.invalid', `network.pools holds ${text}, which is not a CIDR pool.`);
    const unusable = UNUSABLE.find(([range]) => overlaps(range, prefix));
    if (unusable) throw new VeldError('settings.invalid', `network.pools holds ${text}; ${formatPrefix(unusable[0])} ${unusable[1]}.`);
    const twin = pools.find((pool) => overlaps(pool, prefix));
    if (twin) throw new VeldError('settings.invalid', `network.pools holds ${formatPrefix(twin)} and ${text}, which overlap.`);
    pools.push({ ...prefix, gateway: formatIp({ family: prefix.family, value: prefix.value + 1n }), private: PRIVATE.some((range) => contains(range, prefix)) });
  }
  return pools;
}

/** Gives out addresses; remembers where it stopped, so that the next is found at once however many are taken. */
export interface Allocator {
  /** See NetworkManager.allocate. */
  allocate(wanted: readonly string[] | undefined, taken: ReadonlySet<string>): string[];
}

export function createAllocator(pools: readonly Pool[]): Allocator {
  const cursors = new Map<Pool, bigint>();

  /** First free address from the cursor on, around once. The first (host) and IPv4's last (broadcast) are not given. */
  function next(pool: Pool, taken: ReadonlySet<string>): string {
    const first = pool.value + 2n;
    const last = pool.family === 4 ? lastOf(pool) - 1n : lastOf(pool);
    let value = cursors.get(pool) ?? first;
    // One more try than addresses are taken finds a free one, or proves that there is none.
    for (let tries = taken.size + 1; tries > 0; tries--, value++) {
      if (value > last) value = first;
      const text = formatIp({ family: pool.family, value });
      if (taken.has(text)) continue;
      cursors.set(pool, value + 1n);
      return text;
    }
    throw new VeldError('address.none_free', `All addresses of the pool ${formatPrefix(pool)} are taken.`);
  }

  return {
    allocate(wanted, taken) {
      if (wanted === undefined) return pools.map((pool) => next(pool, taken));
      const result = new Set<string>();
      for (const text of wanted) {
        const address = checkAddress(text, pools);
        if (result.has(address)) throw new VeldError('property.invalid', `The address ${address} is given twice.`);
        if (taken.has(address)) throw new VeldError('address.taken', `The address ${address} belongs to another VE.`);
        result.add(address);
      }
      return [...result];
    },
  };
}

/** Check an address given by hand, but for whether another VE has it. Returns its one text. */
function checkAddress(text: string, pools: readonly Pool[]): string {
  const ip = parseIp(text);
  const refuse = (why: string): never => {
    throw new VeldError('property.invalid', `The address ${JSON.stringify(text)} cannot be given to a VE: it ${why}.`, { details: { address: text } });
  };
  if (!ip) return refuse('is not an IPv4 or IPv6 address without prefix length');
  const address = formatIp(ip);
  const unusable = UNUSABLE.find(([range]) => contains(range, ip));
  if (unusable) refuse(unusable[1]);
  for (const pool of pools) {
    if (address === pool.gateway) throw new VeldError('address.taken', `The address ${address} is the host's own: the gateway of the pool ${formatPrefix(pool)}.`);
    if (contains(pool, ip)) refuseEdges(pool, ip, refuse);
  }
  for (const subnet of hostSubnets()) {
    if (subnet.address === address) throw new VeldError('address.taken', `The address ${address} is the host's own, on ${subnet.link}.`);
    if (contains(subnet.prefix, ip) && subnet.prefix.bits <= (ip.family === 4 ? 30 : 126)) refuseEdges(subnet.prefix, ip, refuse);
  }
  return address;
}

function refuseEdges(prefix: Prefix, ip: Ip, refuse: (why: string) => never): void {
  if (ip.value === prefix.value) refuse(ip.family === 4 ? `is the network address of ${formatPrefix(prefix)}` : `is the routers' anycast address of ${formatPrefix(prefix)}`);
  if (ip.family === 4 && ip.value === lastOf(prefix)) refuse(`is the broadcast address of ${formatPrefix(prefix)}`);
}

/** The host's own addresses and subnets, without running a program. */
export function hostSubnets(): { link: string; address: string; prefix: Prefix }[] {
  return Object.entries(networkInterfaces()).flatMap(([link, infos]) => (infos ?? []).flatMap((info) => {
    const ip = parseIp(info.address.replace(/%.*/, ''));
    const prefix = info.cidr === null ? undefined : parsePrefix(info.cidr.replace(/%[^/]*/, ''));
    return ip && prefix ? [{ link, address: formatIp(ip), prefix }] : [];
  }));
}

function known(text: string): Prefix {
  return parsePrefix(text) as Prefix;
}
