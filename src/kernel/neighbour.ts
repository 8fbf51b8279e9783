/** Tells the neighbours on a link where something is now that has moved: an IPv6 address (RFC 4861), or only a link-layer address. IPv4: arp.ts. */
import { openPacketSocket, type PacketSocket } from './packet-socket.ts';

const ETHERTYPE_IPV6 = 0x86dd, ETHERTYPE_RARP = 0x8035;
const ICMPV6 = 58, ADVERTISEMENT = 136;
/** Of an advertisement: it takes the place of what was known before. */
const OVERRIDE = 0x20;
/** All nodes on the link, and the link-layer address that stands for them (RFC 2464, 7). */
const ALL_NODES = Uint8Array.from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const ALL_NODES_MAC = '33:33:00:00:00:01';

/** Say something on a link; nothing is said on one that is not there, or down. */
export function sayOn(link: string, protocol: number, frame: Uint8Array): void {
  let socket: PacketSocket | undefined;
  try {
    socket = openPacketSocket(link, protocol);
    socket.send(frame);
  } catch (error) {
    if (!['ENOENT', 'ENETDOWN', 'ENXIO', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  } finally {
    socket?.close();
  }
}

/**
 * Tell everybody on a link who has an IPv6 address now: an unsolicited neighbour advertisement (RFC 4861, 7.2.6).
 * @param link name of the link on which it goes out @param from link-layer address of whoever has it @param address its 16 bytes
 */
export function announceNd(link: string, from: string, address: Uint8Array): void {
  sayOn(link, ETHERTYPE_IPV6, neighbourAdvertisement(from, address));
}

/** Its Ethernet frame: 14 bytes of header, 40 of IPv6, 24 of ICMPv6, 8 of the option that holds the link-layer address. */
export function neighbourAdvertisement(from: string, address: Uint8Array): Uint8Array {
  const frame = new DataView(new ArrayBuffer(86));
  const bytes = new Uint8Array(frame.buffer);
  bytes.set(macBytes(ALL_NODES_MAC), 0);
  bytes.set(macBytes(from), 6);
  frame.setUint16(12, ETHERTYPE_IPV6);
  frame.setUint8(14, 0x60); // version
  frame.setUint16(18, 32); // length of what follows
  bytes.set([ICMPV6, 255], 20); // a hop limit that no router has made less, or nobody listens
  bytes.set(address, 22);
  bytes.set(ALL_NODES, 38);
  bytes.set([ADVERTISEMENT, 0, 0, 0, OVERRIDE], 54);
  bytes.set(address, 62);
  bytes.set([2, 1], 78); // target's link-layer address, in units of 8 bytes
  bytes.set(macBytes(from), 80);
  frame.setUint16(56, checksum(bytes.subarray(22, 54), ICMPV6, bytes.subarray(54)));
  return bytes;
}

/** The sum of RFC 4443, 2.3, for a message in which its place is 0. @param addresses source and destination */
function checksum(addresses: Uint8Array, protocol: number, message: Uint8Array): number {
  let sum = message.length + protocol;
  for (const part of [addresses, message]) for (const [i, byte] of part.entries()) sum += i % 2 === 0 ? byte << 8 : byte;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** Let the switches on a link learn where a link-layer address is whose addresses nobody here knows: a question (RARP, RFC 903) that nobody answers. */
export function announceMac(link: string, mac: string): void {
  sayOn(link, ETHERTYPE_RARP, rarpQuestion(mac));
}

export function rarpQuestion(mac: string): Uint8Array {
  const frame = new DataView(new ArrayBuffer(42));
  const bytes = new Uint8Array(frame.buffer);
  bytes.set(macBytes('ff:ff:ff:ff:ff:ff'), 0);
  bytes.set(macBytes(mac), 6);
  frame.setUint16(12, ETHERTYPE_RARP);
  bytes.set([0, 1, 8, 0, 6, 4, 0, 3], 14); // Ethernet, IPv4, lengths of both kinds of address; which IPv4 address has ...
  bytes.set(macBytes(mac), 22);
  bytes.set(macBytes(mac), 32);
  return bytes;
}

function macBytes(text: string): number[] {
  return text.split(':').map((byte) => Number.parseInt(byte, 16));
}
