/** Canonical forms of addresses and domain names. Pure: whether an address is free or fits a pool is not asked here. */
import { BlockList, isIP } from 'node:net';

/** What no interface of a VE can have as its own unicast address (RFC 6890 and RFC 4291 section 2). */
const NOT_A_HOST = new BlockList();
NOT_A_HOST.addSubnet('0.0.0.0', 8, 'ipv4');
NOT_A_HOST.addSubnet('169.254.0.0', 16, 'ipv4');
NOT_A_HOST.addSubnet('224.0.0.0', 3, 'ipv4'); // multicast, reserved, broadcast
NOT_A_HOST.addSubnet('fe80::', 10, 'ipv6');
NOT_A_HOST.addSubnet('ff00::', 8, 'ipv6');

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/**
 * An address that a VE can have, in canonical form (RFC 5952 for IPv6).
 * @returns undefined when it is none: bad syntax, prefix length, zone, or loopback, link-local, multicast and the like
 */
export function canonicalAddress(text: string): string | undefined {
  const address = canonicalResolver(text);
  return address === undefined || LOOPBACK.check(address, familyOf(address)) ? undefined : address;
}

/** An address that a VE can ask for names, in canonical form: like {@link canonicalAddress}, but its own loopback is one too. */
export function canonicalResolver(text: string): string | undefined {
  const family = text.includes('%') ? 0 : isIP(text);
  if (family === 0) return undefined;
  const address = family === 4 ? text : new URL(`http://[${text}]/`).hostname.slice(1, -1);
  // ::, and IPv4 in disguise, which would pass checks made for the other family. Told by the canonical text: BlockList takes an
  // IPv4-mapped address for the IPv4 one, and a rule for ::ffff:0:0/96 for one about all of IPv4.
  if (address.startsWith('::') && address !== '::1') return undefined;
  return NOT_A_HOST.check(address, familyOf(address)) ? undefined : address;
}

/** An address with the length of its subnet (`192.0.2.5/24`), in canonical form; undefined when it is none that a host can have. */
export function canonicalCidr(text: string): string | undefined {
  const [, first = '', digits = ''] = /^([^/]*)\/(\d{1,3})$/.exec(text) ?? [];
  const address = canonicalAddress(first);
  const bits = Number(digits);
  return address === undefined || bits < 1 || bits > (address.includes(':') ? 128 : 32) ? undefined : `${address}/${bits}`;
}

/**
 * A prefix that can be routed to a VE, in canonical form: `2001:db8:1:2::/64`, or with host bits, which name an address of it that the VE
 * has itself: `2001:db8:1:2::1/64`. One of a single address is none: that is an address.
 */
export function canonicalPrefix(text: string): string | undefined {
  const whole = canonicalCidr(text);
  const bits = Number(whole?.split('/')[1]);
  return whole === undefined || bits < 8 || bits >= (whole.includes(':') ? 128 : 32) ? undefined : whole;
}

/** An address that can be a VE's router: like {@link canonicalAddress}, and link-local IPv6. */
export function canonicalGateway(text: string): string | undefined {
  if (isIP(text) === 6 && !text.includes('%')) {
    const address = new URL(`http://[${text}]/`).hostname.slice(1, -1);
    if (/^fe[89ab][0-9a-f]:/.test(address)) return address;
  }
  return canonicalAddress(text);
}

/** A link-layer address in lower case; undefined when it is none, or a group's, or all zero. */
export function canonicalMac(text: string): string | undefined {
  const mac = text.toLowerCase();
  return /^[0-9a-f][02468ace](?::[0-9a-f]{2}){5}$/.test(mac) && mac !== '00:00:00:00:00:00' ? mac : undefined;
}

/** A name of a link of the host. */
export const LINK_NAME = /^(?!\.\.?$)[A-Za-z0-9_.@-]{1,15}$/;

/**
 * A range of addresses in canonical form: bits beyond its length are cleared, and an address of full length stands without one.
 * @returns undefined when it is none
 */
export function canonicalNetwork(text: string): string | undefined {
  const [given = '', length, rest] = text.split('/');
  const family = given.includes('%') ? 0 : isIP(given);
  if (family === 0 || rest !== undefined) return undefined;
  const width = family === 4 ? 32 : 128;
  const bits = length === undefined ? width : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (bits < 0 || bits > width) return undefined;
  const bytes = family === 4 ? given.split('.').map(Number) : bytesOf6(new URL(`http://[${given}]/`).hostname.slice(1, -1));
  const kept = bytes.map((byte, i) => byte & (0xff << Math.max(0, Math.min(8, 8 * (i + 1) - bits))) & 0xff);
  const address = family === 4 ? kept.join('.') : new URL(`http://[${hexGroups(kept)}]/`).hostname.slice(1, -1);
  return bits === width ? address : `${address}/${bits}`;
}

/** The 16 bytes of a canonical IPv6 address (which has no dotted tail). */
function bytesOf6(address: string): number[] {
  const [left = [], right = []] = address.split('::').map((half) => half.split(':').filter((group) => group !== ''));
  return [...left, ...Array.from({ length: 8 - left.length - right.length }, () => '0'), ...right].flatMap((group) => {
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function hexGroups(bytes: readonly number[]): string {
  return Array.from({ length: 8 }, (_, i) => (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16)).join(':');
}

/** A domain name in lower case, without the last dot; undefined when it is none (RFC 1123, with `_` as DNS allows it). */
export function canonicalDomain(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, '');
  if (name.length > 253 || /^[0-9.]*$/.test(name)) return undefined;
  return name.split('.').every((label) => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label)) ? name : undefined;
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return address.includes(':') ? 'ipv6' : 'ipv4';
}
