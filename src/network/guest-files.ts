/** The files inside a VE that carry its network identity, in the ways that distributions read them. Pure but for the host's resolvers. */
import { readIfExists } from '../lib/files.ts';
import { formatIp, parseIp } from './ip.ts';
import type { GuestFile, LinkPlan } from './types.ts';

export interface GuestIdentity {
  /** Name of the VE. */
  name: string;
  /** What `hostname` says in the VE; the name when not set. May be fully qualified. */
  hostname?: string | null;
  addresses: readonly string[];
  /** Its interfaces; default: eth0, set up by the host. */
  interfaces?: readonly Pick<LinkPlan, 'name' | 'setup'>[];
  /** Resolvers; null or absent: those of the host. */
  dns?: readonly string[] | null;
  /** Search domains. */
  search?: readonly string[];
}

const NOTE = '# Written by Veld when the name or the network properties of this VE change: use `veld set` on the host.';

/** systemd-networkd's program, merged /usr or not. Where it is, it takes the part of DHCP and router advertisements. */
const NETWORKD = '/lib/systemd/systemd-networkd';

/** A name that no interface has: what is written for none must not match all. */
const NO_INTERFACE = 'veld-absent';

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
    ...linkFiles(identity.interfaces ?? [{ name: 'eth0', setup: 'host' }]),
  ];
}

/**
 * Who is to configure which interface. The host has set up its own already: whatever manages links in the VE must not take them down to
 * do it again. For DHCP and router advertisements there is systemd-networkd, or else what `ifup` and NetworkManager bring along.
 */
function linkFiles(interfaces: readonly Pick<LinkPlan, 'name' | 'setup'>[]): GuestFile[] {
  const of = (setup: LinkPlan['setup']): string[] => interfaces.filter((one) => one.setup === setup).map(({ name }) => name);
  const [host, auto, own] = [of('host'), of('auto'), of('own')];
  const match = (names: readonly string[]): string => `${NOTE}\n[Match]\nName=${names.join(' ') || NO_INTERFACE}\n\n`;
  const networkd = '/etc/systemd/network';
  const wanted = '/etc/systemd/system/multi-user.target.d/veld-network.conf';
  const interfacesFile = { path: '/etc/network/interfaces', ifFolder: '/etc/network' };
  const ifup = (by: 'dhcp' | 'manual'): string => [
    NOTE, 'auto lo', 'iface lo inet loopback', '', ...host.map((name) => `iface ${name} inet manual`),
    ...auto.flatMap((name) => (by === 'dhcp' ? [`auto ${name}`, `iface ${name} inet dhcp`] : [`iface ${name} inet manual`])),
    ...(own.length > 0 ? ['source-directory /etc/network/interfaces.d'] : []), '',
  ].join('\n');
  return [
    { path: `${networkd}/00-veld-eth0.network`, content: `${match(host)}[Link]\nUnmanaged=yes\n`, ifFolder: networkd },
    {
      path: `${networkd}/00-veld-auto.network`, ifFolder: networkd,
      // A server tells its clients apart by their link-layer addresses, which stay; the machine's id is made anew with a clone.
      content: `${match(auto)}[Network]\nDHCP=yes\nIPv6AcceptRA=yes\n\n[DHCPv4]\nClientIdentifier=mac\n`,
      ...(auto.length === 0 && { ifExists: `${networkd}/00-veld-auto.network` }),
    },
    // Debian installs networkd, and does not enable it.
    { path: wanted, content: `${NOTE}\n[Unit]\n${auto.length === 0 ? '' : 'Wants=systemd-networkd.service\n'}`, ifExists: auto.length === 0 ? wanted : NETWORKD, makeFolder: auto.length > 0 },
    ...(auto.length === 0 ? [{ ...interfacesFile, content: ifup('manual') }] : [
      { ...interfacesFile, content: ifup('manual'), ifExists: NETWORKD },
      { ...interfacesFile, content: ifup('dhcp'), unlessExists: NETWORKD },
    ]),
    {
      path: '/etc/NetworkManager/conf.d/00-veld-eth0.conf', ifFolder: '/etc/NetworkManager/conf.d',
      content: `${NOTE}\n[keyfile]\nunmanaged-devices=${host.map((name) => `interface-name:${name}`).join(';')}\n${auto.map((name) => `\n[device-${name}]\nmatch-device=interface-name:${name}\nmanaged=1\n`).join('')}`,
    },
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
