/** Asks whether an IPv4 address is answered for on a link: ARP (RFC 826), in the form of a probe (RFC 5227), which leaves nothing in anybody's tables. */
import { setTimeout as sleep } from 'node:timers/promises';
import { sayOn } from './neighbour.ts';
import { openPacketSocket } from './packet-socket.ts';

const ETHERTYPE_ARP = 0x0806, ETHERTYPE_ALL = 3;
const REQUEST = 1, REPLY = 2;

/** Milliseconds between two questions, at first; twice as many each time. */
const FIRST_WAIT = 2;

/**
 * @param link name of the link on which the question goes out
 * @param to link-layer address of whoever is asked, `52:54:00:12:34:56`
 * @param from that of the link
 * @param address IPv4
 * @param options `patience`: milliseconds until it counts as not answered; `port`: the link is a port of a bridge
 * @returns whether whoever is asked has the address
 */
export async function answersArp(link: string, to: string, from: string, address: string, { patience = 500, port = false }: { patience?: number; port?: boolean } = {}): Promise<boolean> {
  const question = arpProbe(to, from, address);
  let socket: ReturnType<typeof openPacketSocket> | undefined;
  try {
    socket = openPacketSocket(link, port ? ETHERTYPE_ALL : ETHERTYPE_ARP);
    const end = performance.now() + patience;
    for (let wait = FIRST_WAIT; ; wait *= 2) {
      socket.send(question);
      for (const until = Math.min(end, performance.now() + wait); ;) {
        for (let frame = socket.receive(); frame; frame = socket.receive()) if (isArpReply(frame, address)) return true;
        if (performance.now() >= until) break;
        await sleep(1);
      }
      if (performance.now() >= end) return false;
    }
  } catch (error) {
    if (['ENOENT', 'ENETDOWN', 'ENXIO', 'ENODEV'].includes((error as NodeJS.ErrnoException).code ?? '')) return false; // the link has gone, or is down
    throw error;
  } finally {
    socket?.close();
  }
}

/** The Ethernet frame of a question: 14 bytes of header, 28 of ARP. */
export function arpProbe(to: string, from: string, address: string): Uint8Array {
  const frame = new DataView(new ArrayBuffer(42));
  const bytes = new Uint8Array(frame.buffer);
  bytes.set(mac(to), 0);
  bytes.set(mac(from), 6);
  frame.setUint16(12, ETHERTYPE_ARP);
  frame.setUint16(14, 1); // Ethernet
  frame.setUint16(16, 0x0800); // IPv4
  bytes.set([6, 4], 18); // lengths of both kinds of address
  frame.setUint16(20, REQUEST);
  bytes.set(mac(from), 22); // (28..31: no address of its own, which makes it a probe)
  bytes.set(address.split('.').map(Number), 38);
  return bytes;
}

/**
 * Tell everybody on a link who has an IPv4 address now: an ARP announcement (RFC 5227, 2.3).
 * @param link name of the link on which it goes out; nothing is said on one that is not there, or down
 * @param from link-layer address of whoever has it
 */
export function announceArp(link: string, from: string, address: string): void {
  sayOn(link, ETHERTYPE_ARP, arpAnnouncement(from, address));
}

/** Its Ethernet frame: as a question to all for the address of whoever asks. */
export function arpAnnouncement(from: string, address: string): Uint8Array {
  const bytes = arpProbe('ff:ff:ff:ff:ff:ff', from, address);
  bytes.set(bytes.subarray(38, 42), 28);
  return bytes;
}

/** Whether a frame says that somebody has the address. */
export function isArpReply(frame: Uint8Array, address: string): boolean {
  if (frame.length < 42) return false;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  return view.getUint16(12) === ETHERTYPE_ARP && view.getUint16(16) === 0x0800 && view.getUint16(20) === REPLY && [...frame.subarray(28, 32)].join('.') === address;
}

function mac(text: string): number[] {
  return text.split(':').map((byte) => Number.parseInt(byte, 16));
}
