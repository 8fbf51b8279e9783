/** Builds frames as hexadecimal text. Checksums of transport headers are right where a kernel would look at them. */
import { parseIp } from '../ip.ts';

export const BROADCAST = 'ff:ff:ff:ff:ff:ff';

const bytesOf = (address: string): Buffer => {
  const ip = parseIp(address)!;
  return Buffer.from(ip.value.toString(16).padStart(ip.family === 4 ? 8 : 32, '0'), 'hex');
};
const macOf = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');
const u16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);

/** RFC 1071. */
function checksum(data: Buffer): number {
  let sum = 0;
  for (let i = 0; i < data.length; i += 2) sum += (data[i]! << 8) + (data[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** @param tags 802.1Q tags: VLAN ids */
export function ethernet(from: string, to: string, type: number, payload: Buffer, tags: number[] = []): string {
  const header = Buffer.concat([macOf(to), macOf(from), ...tags.map((id) => Buffer.concat([u16(0x8100), u16(id)])), u16(type)]);
  return Buffer.concat([header, payload]).toString('hex');
}

/** An IP packet with a payload of that protocol; the transport checksum is put at `sumAt` of the payload. */
export function ip(from: string, to: string, protocol: number, payload: Buffer, sumAt: number): { type: number; packet: Buffer } {
  const [source, target] = [bytesOf(from), bytesOf(to)];
  const six = source.length === 16;
  const body = Buffer.from(payload);
  const length = body.length;
  body.writeUInt16BE(checksum(Buffer.concat([source, target, Buffer.from([0, protocol]), u16(length), body])), sumAt);
  if (six) return { type: 0x86dd, packet: Buffer.concat([Buffer.from([0x60, 0, 0, 0]), u16(length), Buffer.from([protocol, 255]), source, target, body]) };
  const header = Buffer.concat([Buffer.from([0x45, 0]), u16(20 + length), Buffer.from([0, 0, 0, 0, 64, protocol, 0, 0]), source, target]);
  header.writeUInt16BE(checksum(header), 10);
  return { type: 0x0800, packet: Buffer.concat([header, body]) };
}

export function udp(from: string, to: string, sourcePort: number, port: number, text: string): { type: number; packet: Buffer } {
  const data = Buffer.from(text);
  return ip(from, to, 17, Buffer.concat([u16(sourcePort), u16(port), u16(8 + data.length), u16(0), data]), 6);
}

/** ICMPv6: neighbour discovery sums its own pseudo header in the same way. */
export function icmp6(from: string, to: string, type: number, rest: Buffer): { type: number; packet: Buffer } {
  return ip(from, to, 58, Buffer.concat([Buffer.from([type, 0, 0, 0]), rest]), 2);
}

/** Neighbour advertisement: `target` is at `mac`. @param text at most 6 characters, in an option that nobody reads */
export function neighbourAdvertisement(from: string, to: string, target: string, mac: string, text: string): { type: number; packet: Buffer } {
  return icmp6(from, to, 136, Buffer.concat([Buffer.from([0x20, 0, 0, 0]), bytesOf(target), Buffer.from([2, 1]), macOf(mac), Buffer.from([253, 1]), Buffer.from(text.padEnd(6))]));
}

/** ARP answer: `address` is at `mac`. */
export function arpReply(mac: string, address: string, toMac: string, toAddress: string): Buffer {
  return Buffer.concat([Buffer.from([0, 1, 8, 0, 6, 4, 0, 2]), macOf(mac), bytesOf(address), macOf(toMac), bytesOf(toAddress)]);
}
