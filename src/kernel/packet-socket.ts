/** Sockets that send and receive whole Ethernet frames on one link (packet(7)). Why the calls are safe: see native.ts. */
import { closeSync, readFileSync } from 'node:fs';
import { checked, native } from './native.ts';
import { O_CLOEXEC } from './syscalls.ts';

/** Longest frame that is received as a whole, in bytes. */
const FRAME = 1600;

export interface PacketSocket {
  send(frame: Uint8Array): void;
  /** @returns a frame that has arrived, cut off after 1600 bytes; undefined when there is none */
  receive(): Uint8Array | undefined;
  close(): void;
}

/**
 * @param link name of a link of this network namespace
 * @param protocol EtherType of what is to be received; 3 (ETH_P_ALL) for all, which a port of a bridge needs: the bridge takes the others before
 * @throws an error with `code` `ENOENT` when there is no such link
 */
export function openPacketSocket(link: string, protocol: number): PacketSocket {
  const AF_PACKET = 17, SOCK_RAW = 3, SOCK_NONBLOCK = 0o4000, MSG_DONTWAIT = 0x40;
  const index = Number(readFileSync(`/sys/class/net/${link}/ifindex`, 'utf8'));
  // Safe: integers. Protocol 0: nothing is received before it is bound.
  const fd = checked('socket', native().c.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | O_CLOEXEC, 0), link);
  try {
    // Safe: a struct sockaddr_ll has 20 bytes; the family is the host's, the protocol the network's byte order.
    const address = new DataView(new ArrayBuffer(20));
    address.setUint16(0, AF_PACKET, true);
    address.setUint16(2, protocol, false);
    address.setInt32(4, index, true);
    checked('bind', native().c.bind(fd, address.buffer, 20), link);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  const buffer = new Uint8Array(new ArrayBuffer(FRAME));
  return {
    send(frame) {
      // Safe: reads as many bytes as the array has.
      checked('send', native().c.send(fd, frame, frame.length, MSG_DONTWAIT), link);
    },
    receive() {
      try {
        // Safe: writes at most FRAME bytes.
        return buffer.slice(0, checked('recv', native().c.recv(fd, buffer, FRAME, MSG_DONTWAIT), link));
      } catch (error) {
        if (['EAGAIN', 'ENETDOWN'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
        throw error;
      }
    },
    close: () => closeSync(fd),
  };
}
