/** IP addresses and prefixes as numbers. Pure. */
import { isIP } from 'node:net';

export interface Ip {
  family: 4 | 6;
  value: bigint;
}

/** A prefix; `value` has all host bits zero. */
export interface Prefix extends Ip {
  bits: number;
}

/** Bits of an address of the family. */
export function width(family: 4 | 6): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/** The address, or undefined when the text is none (a zone such as `%eth0`, or a prefix length, is refused). */
export function parseIp(text: string): Ip | undefined {
  const family = text.includes('%') ? 0 : isIP(text);
  if (family === 4) return { family: 4, value: dotted(text) };
  if (family !== 6) return undefined;
  // An embedded IPv4 tail (::ffff:1.2.3.4) becomes two groups.
  const plain = text.replace(/[0-9.]+\.[0-9]+$/, (tail) => {
    const value = dotted(tail);
    return `${(value >> 16n).toString(16)}:${(value & 0xffffn).toString(16)}`;
  });
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...left, ...Array.from({ length: 8 - left.length - right.length }, () => '0'), ...right];
  return { family: 6, value: groups.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n) };
}

/** The one text of an address: dotted quad, or RFC 5952. */
export function formatIp(ip: Ip): string {
  if (ip.family === 4) return [24n, 16n, 8n, 0n].map((shift) => String((ip.value >> shift) & 0xffn)).join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((ip.value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16));
  let best = { start: -1, length: 1 }; // a single zero group is not shortened
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === '0') length++;
    if (length > best.length) best = { start: i, length };
    if (length > 0) i += length - 1;
  }
  if (best.start < 0) return groups.join(':');
  return `${groups.slice(0, best.start).join(':')}::${groups.slice(best.start + best.length).join(':')}`;
}

/** The prefix (`10.0.0.0/8`; an address alone has the full length), or undefined. Host bits are cleared. */
export function parsePrefix(text: string): Prefix | undefined {
  const [address = '', length, rest] = text.split('/');
  const ip = parseIp(address);
  if (!ip || rest !== undefined || (length !== undefined && !/^\d{1,3}$/.test(length))) return undefined;
  const bits = length === undefined ? width(ip.family) : Number(length);
  if (bits > width(ip.family)) return undefined;
  return { family: ip.family, bits, value: ip.value & ~hostMask(ip.family, bits) };
}

/** An address with the length of its subnet, host bits kept: `192.0.2.5/24`; an address alone has the full length. */
export interface Cidr extends Ip {
  /** In its one text, without length. */
  address: string;
  bits: number;
}

/** @returns undefined when the text is none */
export function parseCidr(text: string): Cidr | undefined {
  const prefix = parsePrefix(text);
  const ip = parseIp(text.split('/')[0] ?? '');
  return prefix && ip && { ...ip, address: formatIp(ip), bits: prefix.bits };
}

/** The subnet of an address. */
export function prefixOf({ family, value, bits }: Cidr): Prefix {
  return { family, bits, value: value & ~hostMask(family, bits) };
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatIp(prefix)}/${prefix.bits}`;
}

export function contains(prefix: Prefix, ip: Ip): boolean {
  return prefix.family === ip.family && (ip.value & ~hostMask(prefix.family, prefix.bits)) === prefix.value;
}

export function overlaps(a: Prefix, b: Prefix): boolean {
  return a.bits <= b.bits ? contains(a, b) : contains(b, a);
}

/** The last address of a prefix: the broadcast address of an IPv4 subnet. */
export function lastOf(prefix: Prefix): bigint {
  return prefix.value | hostMask(prefix.family, prefix.bits);
}

/** Whether the text is a 48-bit link-layer address, colons between the bytes. */
export function isMac(text: string): boolean {
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text);
}

/** The link-local address that Linux makes of a link-layer address (modified EUI-64, RFC 4291 appendix A). */
export function linkLocal(mac: string): string {
  const bytes = mac.split(':').map((byte) => BigInt(`0x${byte}`));
  const eui = [(bytes[0] as bigint) ^ 2n, ...bytes.slice(1, 3), 0xffn, 0xfen, ...bytes.slice(3)].reduce((sum, byte) => (sum << 8n) | byte, 0n);
  return formatIp({ family: 6, value: (0xfe80n << 112n) | eui });
}

function dotted(text: string): bigint {
  return text.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
}

function hostMask(family: 4 | 6, bits: number): bigint {
  return (1n << BigInt(width(family) - bits)) - 1n;
}
