/** Whose connections are in the host's table now: there is no count by VE, so whoever wants to know reads all of it. */
import { createReadStream, existsSync } from 'node:fs';
import { readSysctl } from '../kernel/sysctl.ts';
import { contains, parseIp } from './ip.ts';
import type { Ip, Prefix } from './ip.ts';

/** The kernel's list (CONFIG_NF_CONNTRACK_PROCFS). */
const TABLE = '/proc/net/nf_conntrack';
/** Beyond so many connections of all together the table is not read: a line has some 200 bytes, and a second of work is in this many. */
const READABLE = 262_144;

/** Owner of addresses. */
export interface Owner {
  number: number;
  /** All addresses and prefixes of the VE that the host routes. */
  networks: readonly Prefix[];
}

/** Connections by the numbers of VEs; undefined where this kernel does not list them, or where there are too many. One between two VEs counts for both. */
export async function countConnections(owners: readonly Owner[]): Promise<Map<number, number> | undefined> {
  if (!existsSync(TABLE) || Number(readSysctl('net', 'netfilter', 'nf_conntrack_count')) > READABLE) return undefined;
  const counts = new Map(owners.map(({ number }) => [number, 0]));
  const ownerOf = finder(owners);
  let rest = '';
  for await (const chunk of createReadStream(TABLE, { encoding: 'latin1' }) as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop()!;
    for (const line of lines) for (const number of ownersOf(line, ownerOf)) counts.set(number, counts.get(number)! + 1);
  }
  return counts;
}

/** Numbers of the VEs that a line is about: NAT may have another address on either side of it. */
export function ownersOf(line: string, ownerOf: (address: string) => number | undefined): Set<number> {
  const found = new Set<number>();
  for (const [, address] of line.matchAll(/ (?:src|dst)=(\S+)/g)) {
    const number = ownerOf(address!);
    if (number !== undefined) found.add(number);
  }
  return found;
}

/** Finds who has an address; remembers what it was asked, since few addresses have most of the connections. */
export function finder(owners: readonly Owner[]): (address: string) => number | undefined {
  const known = new Map<string, number | undefined>();
  const single = new Map<string, number>();
  const wide: [Prefix, number][] = [];
  for (const { number, networks } of owners) {
    for (const network of networks) {
      if (network.bits === (network.family === 4 ? 32 : 128)) single.set(keyOf(network), number);
      else wide.push([network, number]);
    }
  }
  return (address) => {
    if (known.has(address)) return known.get(address);
    const ip = parseIp(address);
    const number = ip && (single.get(keyOf(ip)) ?? wide.find(([network]) => contains(network, ip))?.[1]);
    if (known.size < 10_000) known.set(address, number);
    return number;
  };
}

function keyOf({ family, value }: Ip): string {
  return `${family} ${value}`;
}
