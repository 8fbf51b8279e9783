/** The files inside a VE that carry its network identity, in the ways that distributions read them. Pure but for the host's resolvers. */
import { readIfExists } from '../lib/files.ts';
import { formatIp, parseIp } from './ip.ts';
import type { GuestFile } from './types.ts';

export interface GuestIdentity {
  /** Name of the VE. */
  name: string;
  /** What `hostname` says in the VE; the name when not set. May be fully qualified. */
  hostname?: string | null;
  addresses: readonly string[];
  /** Resolvers; null or absent: those of the host. */
  dns?: readonly string[] | null;
  /** Search domains. */
  search?: readonly string[];
}

const NOTE = '# Written by Veld when the name or the network properties of this VE change: use `veld set` on the host.';

/** glibc reads three resolvers (resolv.conf(5), MAXNS). */
const RESOLVERS_MAX = 3;

/**
 * All files, complete. A value that could begin another line or word in a file is left out, though the property table
 * refuses it before.
 */
export function guestFiles(identity: GuestIdentity): GuestFile[] {
  const name = isDomain(identity.name) ? identity.name : 've';
  const hostname = identity.hostname && isDomain(identity.hostname) ? identity.hostname : name;
  return [
    { path: '/etc/hostname', content: `${hostname}\n` },
    { path: '/etc/hosts', content: hosts(hostname, identity.addresses) },
    { path: '/etc/resolv.conf', content: resolvConf(identity.dns ?? hostResolvers(), identity.search ?? []) },
    // The host has set eth0 up already; whatever manages links in the VE must not take it down to do it again.
    { path: '/etc/systemd/network/00-veld-eth0.network', content: `${NOTE}\n[Match]\nName=eth0\n\n[Link]\nUnmanaged=yes\n`, ifFolder: '/etc/systemd/network' },
    { path: '/etc/network/interfaces', content: `${NOTE}\nauto lo\niface lo inet loopback\n\niface eth0 inet manual\n`, ifFolder: '/etc/network' },
    { path: '/etc/NetworkManager/conf.d/00-veld-eth0.conf', content: `${NOTE}\n[keyfile]\nunmanaged-devices=interface-name:eth0\n`, ifFolder: '/etc/NetworkManager/conf.d' },
  ];
}

/** The resolvers that the host itself uses: those behind systemd-resolved before its stub, never a loopback address. */
export function hostResolvers(files: readonly string[] = ['/run/systemd/resolve/resolv.conf', '/etc/resolv.conf']): string[] {
  for (const file of files) {
    const resolvers = (readIfExists(file) ?? '').split('\n').flatMap((line) => {
      const address = /^\s*nameserver\s+(\S+)/.exec(line)?.[1];
      return address !== undefined && isResolver(address) ? [address] : [];
    });
    if (resolvers.length > 0) return [...new Set(resolvers)];
  }
  return [];
}

function hosts(hostname: string, addresses: readonly string[]): string {
  const short = hostname.split('.')[0] as string;
  const names = short === hostname ? hostname : `${hostname} ${short}`;
  const own = addresses.flatMap((address) => {
    const ip = parseIp(address);
    return ip ? [`${formatIp(ip)} ${names}`] : [];
  });
  // Without an address the VE must still find its own name, or sudo and mail servers wait for a resolver.
  if (own.length === 0) own.push(`127.0.1.1 ${names}`);
  return [NOTE, '127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback', 'ff02::1 ip6-allnodes', 'ff02::2 ip6-allrouters', ...own, ''].join('\n');
}

function resolvConf(dns: readonly string[], search: readonly string[]): string {
  const domains = search.filter(isDomain);
  const resolvers = dns.filter((address) => parseIp(address) !== undefined).slice(0, RESOLVERS_MAX);
  return [NOTE, ...(domains.length > 0 ? [`search ${domains.join(' ')}`] : []), ...resolvers.map((address) => `nameserver ${address}`), ''].join('\n');
}

function isResolver(address: string): boolean {
  const ip = parseIp(address);
  if (!ip) return false; // also a link-local one with its zone, which means nothing in a VE
  if (ip.family === 4) return ip.value >> 24n !== 127n && ip.value !== 0n;
  return ip.value > 1n && ip.value >> 118n !== 0xfe80n >> 6n;
}

function isDomain(text: string): boolean {
  return text.length <= 253 && /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/i.test(text);
}
