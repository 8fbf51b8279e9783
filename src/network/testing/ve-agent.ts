/**
 * Stands in for a VE in tests of the network: a process in a network namespace of its own that does what it is told by its
 * parent, and ends with it. Started by `startAgent` (agents.ts).
 */
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import type { Socket as UdpSocket } from 'node:dgram';
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import type { Socket } from 'node:net';
import koffi from 'koffi';
import { openProbe, sendFrames, sniff } from './raw.ts';
import type { Probe } from './raw.ts';
import { parseIp } from '../ip.ts';

interface Command {
  id: number;
  verb: string;
  args: unknown[];
}

const heard: string[] = [];
let kept: Socket | undefined;
let frames: (() => string[]) | undefined;
let probe: Probe | undefined;

const verbs: Record<string, (...args: never[]) => unknown> = {
  /** Answer TCP connections with the address they come from, and echo what they send. */
  serve: (port: number) => new Promise<void>((resolve) => {
    createServer((socket) => {
      socket.on('error', () => {});
      socket.write(`${socket.remoteAddress?.replace('::ffff:', '')}\n`);
      socket.pipe(socket);
    }).listen(port, '::', () => resolve());
  }),
  /** What the server at the other end sees us as, or the error's code. */
  connect: (host: string, port: number) => new Promise<string>((resolve) => {
    const socket = createConnection({ host, port, timeout: 1500 });
    socket.once('data', (data: Buffer) => { resolve(data.toString().trim()); socket.destroy(); });
    socket.once('timeout', () => { resolve('ETIMEDOUT'); socket.destroy(); });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'));
  }),
  /** Send so many bytes to a server that echoes, and wait until they are back. */
  echo: (host: string, port: number, bytes: number) => new Promise<void>((resolve, reject) => {
    let left = bytes;
    const socket = createConnection({ host, port });
    socket.once('error', reject);
    socket.once('data', (data: Buffer) => {
      left -= data.length - data.indexOf('\n') - 1;
      socket.write(Buffer.alloc(bytes));
      socket.on('data', (more: Buffer) => {
        left -= more.length;
        if (left > 0) return;
        socket.once('close', () => resolve());
        socket.end();
      });
    });
  }),
  /** Like connect, and keep the connection for `say`. */
  keep: (host: string, port: number) => new Promise<string>((resolve, reject) => {
    kept = createConnection({ host, port });
    kept.once('data', (data: Buffer) => resolve(data.toString().trim()));
    kept.once('error', reject);
  }),
  say: (text: string) => new Promise<string>((resolve, reject) => {
    kept?.once('data', (data: Buffer) => resolve(data.toString()));
    kept?.once('error', reject);
    kept?.write(text);
  }),
  /** Hear datagrams: `SOURCE TEXT` each. */
  hear: (port: number) => new Promise<void>((resolve) => {
    const socket = createSocket({ type: 'udp6' });
    socket.on('message', (text, from) => { heard.push(`${from.address.replace('::ffff:', '')} ${text.toString()}`); });
    socket.bind(port, '::', () => resolve());
  }),
  heard: () => heard.splice(0),
  /** Send datagrams from an address of ours. */
  send: async (from: string, to: string, port: number, texts: string[]) => {
    const socket: UdpSocket = createSocket(from.includes(':') ? 'udp6' : 'udp4');
    socket.on('error', () => {});
    await new Promise<void>((resolve, reject) => { socket.once('error', reject); socket.bind(0, from, resolve); });
    for (const text of texts) {
      socket.send(text, port, to);
      await new Promise((resolve) => { setTimeout(resolve, 1); });
    }
    socket.close();
  },
  /** Send a datagram to each of so many ports, from the first on: as many connections. */
  spray: async (to: string, first: number, count: number) => {
    const socket: UdpSocket = createSocket(to.includes(':') ? 'udp6' : 'udp4');
    socket.on('error', () => {});
    await new Promise<void>((resolve) => { socket.bind(0, resolve); });
    for (let port = first; port < first + count; port++) await new Promise((resolve) => { socket.send('x', port, to, resolve); });
    socket.close();
  },
  /** Put frames on the wire, as hexadecimal text. */
  frames: (name: string, texts: string[]) => sendFrames(name, texts),
  /** Begin to take down what passes an interface, for `sniffed`. */
  sniff: (name: string) => { frames = sniff(name); },
  sniffed: () => frames?.() ?? [],
  /** Answer datagrams with their size. */
  measure: (port: number) => new Promise<void>((resolve) => {
    const socket = createSocket({ type: 'udp6' });
    socket.on('message', (text, from) => socket.send(String(text.length), from.port, from.address));
    socket.bind(port, '::', () => resolve());
  }),
  /** Begin to send datagrams that nobody may fragment, for `fits`. */
  probe: (to: string, port: number) => {
    probe?.close();
    probe = openProbe(to, port);
  },
  /** Send a packet of this size until it was answered, or it is known that it is too large: `answered`, or what the path carries. */
  fits: async (size: number): Promise<number | string> => {
    for (let i = 0; i < 100; i++) {
      const error = probe?.send(size);
      if (error === 90) return probe?.mtu() ?? 0; // EMSGSIZE
      await new Promise((resolve) => { setTimeout(resolve, 10); });
      // An earlier one may have been asked twice, and be answered only now.
      if (probe?.answers().includes(String(probe.carries(size)))) return 'answered';
    }
    return 'lost';
  },
  /** Whether an echo request is answered. */
  ping: (host: string) => {
    const libc = koffi.load('libc.so.6');
    const socket = libc.func('int socket(int, int, int)');
    const setsockopt = libc.func('int setsockopt(int, int, int, const uint8_t *, uint32_t)');
    const connect = libc.func('int connect(int, const uint8_t *, uint32_t)');
    const send = libc.func('long send(int, const uint8_t *, size_t, int)');
    const recv = libc.func('long recv(int, _Out_ uint8_t *, size_t, int)');
    const six = host.includes(':');
    const ip = parseIp(host);
    if (!ip) throw new Error(`${host} is no address`);
    const to = Buffer.alloc(six ? 28 : 16); // sockaddr_in6, sockaddr_in
    to.writeUInt16LE(six ? 10 : 2, 0);
    Buffer.from(ip.value.toString(16).padStart(six ? 32 : 8, '0'), 'hex').copy(to, six ? 8 : 4);
    const fd = socket(six ? 10 : 2, 3, six ? 58 : 1) as number; // SOCK_RAW, IPPROTO_ICMPV6 or IPPROTO_ICMP
    setsockopt(fd, 1, 20, new Uint8Array(new BigInt64Array([0n, 300_000n]).buffer), 16); // SO_RCVTIMEO
    connect(fd, to, to.length);
    // Type, code, checksum (the kernel's work for IPv6), id 0, sequence 0.
    const request = six ? Buffer.from([128, 0, 0, 0, 0, 0, 0, 0]) : Buffer.from([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    const answer = Buffer.alloc(256);
    try {
      if ((send(fd, request, request.length, 0) as number) < 0) return false;
      while ((recv(fd, answer, answer.length, 0) as number) > 0) if (six ? answer[0] === 129 : answer[20] === 0) return true;
      return false;
    } finally {
      closeSync(fd);
    }
  },
  /** Records of a name as a resolver gives them, or the error's code. */
  lookup: (server: string, name: string, type: string) => {
    const client = new Resolver({ timeout: 700, tries: 1 });
    client.setServers([server.includes(':') ? `[${server}]` : server]);
    return client.resolve(name, type).then((records) => (records as string[]).toSorted(), (error: NodeJS.ErrnoException) => error.code);
  },
  /** Be a resolver that answers every question with this IPv4 address. */
  answer: (address: string) => new Promise<void>((resolve) => {
    const socket = createSocket('udp4');
    socket.on('message', (question, from) => {
      const header = Buffer.from([question[0] as number, question[1] as number, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
      const asked = question.subarray(12, question.indexOf(0, 12) + 5);
      socket.send(Buffer.concat([header, asked, Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...address.split('.').map(Number)])]), from.port, from.address);
    });
    socket.bind(53, '0.0.0.0', () => resolve());
  }),
  /** Ask a resolver for so many names that nobody answers, without waiting for anything. */
  flood: async (server: string, domain: string, count: number) => {
    const socket = createSocket(server.includes(':') ? 'udp6' : 'udp4');
    socket.on('error', () => {});
    for (let i = 0; i < count; i++) {
      const labels = `x${i}.${domain}`.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)]));
      socket.send(Buffer.concat([Buffer.from([i >> 8, i & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...labels, Buffer.from([0, 0, 1, 0, 1])]), 53, server);
      if (i % 200 === 199) await new Promise((resolve) => { setImmediate(resolve); });
    }
    await new Promise<void>((resolve) => { socket.close(() => resolve()); });
  },
  /** Open TCP connections and keep them. @returns how many were taken */
  hold: async (host: string, port: number, count: number) => {
    const taken = await Promise.all(Array.from({ length: count }, () => new Promise<boolean>((resolve) => {
      const socket = createConnection({ host, port, timeout: 1500 });
      socket.once('connect', () => resolve(true));
      socket.once('timeout', () => resolve(false));
      socket.once('error', () => resolve(false));
    })));
    return taken.filter(Boolean).length;
  },
  /** Send a router advertisement to all nodes of the link. */
  advertise: () => {
    const libc = koffi.load('libc.so.6');
    const socket = libc.func('int socket(int, int, int)');
    const setsockopt = libc.func('int setsockopt(int, int, int, const int *, uint32_t)');
    const sendto = libc.func('long sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)');
    const fd = socket(10, 3, 58) as number; // AF_INET6, SOCK_RAW, IPPROTO_ICMPV6
    setsockopt(fd, 41, 18, [255], 4); // IPPROTO_IPV6, IPV6_MULTICAST_HOPS
    const to = Buffer.alloc(28); // sockaddr_in6 of ff02::1
    to.writeUInt16LE(10, 0);
    to.set([0xff, 0x02], 8);
    to.set([1], 23);
    const index = /^(\S+) (\S+) .* eth0$/m.exec(readFileSync('/proc/net/if_inet6', 'utf8'))?.[2] ?? '0';
    to.writeUInt32LE(Number.parseInt(index, 16), 24);
    const advertisement = Buffer.from([134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0]);
    return sendto(fd, advertisement, advertisement.length, 0, to, to.length) as number;
  },
};

// Link-local addresses are usable at once.
writeFileSync('/proc/sys/net/ipv6/conf/default/accept_dad', '0');
process.on('disconnect', () => process.exit());
process.on('message', (command: Command) => {
  Promise.resolve().then(() => (verbs[command.verb] as (...args: unknown[]) => unknown)(...command.args)).then(
    (value) => process.send?.({ id: command.id, value }),
    (error: Error) => process.send?.({ id: command.id, error: error.message }),
  );
});
process.send?.({ id: 0 });
