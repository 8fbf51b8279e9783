/** Frames and datagrams as no ordinary program sends them: for stand-ins of VEs (ve-agent.ts). Every call comes back at once. */
import koffi from 'koffi';

// Numbers of Linux, from its uapi headers.
const AF_PACKET = 17;
const ETH_P_ALL_BIG_ENDIAN = 0x0300;
const MSG_DONTWAIT = 0x40;
/** Level, option "never fragment" with its value 2 (IP_PMTUDISC_DO), and option "MTU of the path", by family. */
const PATH = { 4: { domain: 2, level: 0, discover: 10, mtu: 14 }, 6: { domain: 10, level: 41, discover: 23, mtu: 24 } } as const;

const libc = koffi.load('libc.so.6');
const socket = libc.func('int socket(int, int, int)');
const bind = libc.func('int bind(int, const uint8_t *, uint32_t)');
const connect = libc.func('int connect(int, const uint8_t *, uint32_t)');
const send = libc.func('long send(int, const uint8_t *, size_t, int)');
const recv = libc.func('long recv(int, _Out_ uint8_t *, size_t, int)');
const setsockopt = libc.func('int setsockopt(int, int, int, const int *, uint32_t)');
const getsockopt = libc.func('int getsockopt(int, int, int, _Out_ int *, _Inout_ uint32_t *)');
const if_nametoindex = libc.func('uint32_t if_nametoindex(const char *)');
const close = libc.func('int close(int)');

/** sockaddr_ll: all frames of one interface. */
function linkAddress(name: string): Buffer {
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16LE(ETH_P_ALL_BIG_ENDIAN, 2);
  address.writeInt32LE(if_nametoindex(name) as number, 4);
  return address;
}

function open(name: string): number {
  const fd = socket(AF_PACKET, 3, ETH_P_ALL_BIG_ENDIAN) as number; // SOCK_RAW
  if (fd < 0 || bind(fd, linkAddress(name), 20) !== 0) throw new Error(`${name} cannot be opened: ${koffi.errno()}`);
  return fd;
}

/** Put frames (hexadecimal) on the wire. @returns how many were taken */
export function sendFrames(name: string, frames: string[]): number {
  const fd = open(name);
  try {
    return frames.filter((frame) => (send(fd, Buffer.from(frame, 'hex'), frame.length / 2, 0) as number) > 0).length;
  } finally {
    close(fd);
  }
}

/** Begin to take down what passes an interface. @returns what reads all that has passed since the last call, as hexadecimal text */
export function sniff(name: string): () => string[] {
  const fd = open(name);
  return () => {
    const frames: string[] = [];
    const buffer = Buffer.alloc(65_536);
    for (;;) {
      const length = recv(fd, buffer, buffer.length, MSG_DONTWAIT) as number;
      if (length <= 0) return frames;
      frames.push(buffer.toString('hex', 0, length));
    }
  };
}

/** UDP that is never fragmented, to one address. */
export interface Probe {
  /** Send a datagram that makes an IP packet of this size. @returns 0, or the error's number (EMSGSIZE is 90) */
  send(size: number): number;
  /** The largest packet that the path is known to carry, in bytes. */
  mtu(): number;
  /** What has come back: the sizes that the other side has heard. */
  answers(): string[];
  /** Bytes of payload in a packet of so many. */
  carries(size: number): number;
  close(): void;
}

export function openProbe(to: string, port: number): Probe {
  const six = to.includes(':');
  const { domain, level, discover, mtu } = PATH[six ? 6 : 4];
  const fd = socket(domain, 2, 0) as number; // SOCK_DGRAM
  const address = Buffer.alloc(six ? 28 : 16);
  address.writeUInt16LE(domain, 0);
  address.writeUInt16BE(port, 2);
  if (six) address.set(expand(to), 8);
  else address.set(to.split('.').map(Number), 4);
  setsockopt(fd, level, discover, [2], 4);
  if (connect(fd, address, address.length) !== 0) throw new Error(`no way to ${to}: ${koffi.errno()}`);
  return {
    send(size) {
      const payload = Buffer.alloc(this.carries(size));
      return (send(fd, payload, payload.length, MSG_DONTWAIT) as number) < 0 ? koffi.errno() : 0;
    },
    mtu() {
      const value = [0];
      getsockopt(fd, level, mtu, value, [4]);
      return value[0] as number;
    },
    carries: (size) => size - 8 - (six ? 40 : 20),
    answers() {
      const buffer = Buffer.alloc(100);
      const heard: string[] = [];
      // An error that an ICMP packet brought is reported once, in place of an answer.
      for (let errors = 0; errors < 2;) {
        const length = recv(fd, buffer, buffer.length, MSG_DONTWAIT) as number;
        if (length < 0) errors += 1;
        else heard.push(buffer.toString('latin1', 0, length));
      }
      return heard;
    },
    close: () => { close(fd); },
  };
}

/** The bytes of an IPv6 address. */
function expand(text: string): Buffer {
  const [head = '', tail] = text.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = tail === undefined ? left : [...left, ...Array.from({ length: 8 - left.length - right.length }, () => '0'), ...right];
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex');
}
