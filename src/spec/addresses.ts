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

/**
 * A prefix in canonical form: bits beyond its length are cleared, and an address of full length stands without one.
 * @returns undefined when it is none
 */
export function canonicalPrefix(text: string): string | undefined {
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
