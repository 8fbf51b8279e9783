/** What listens on this host, from /proc/net (formats: proc_pid_net(5); addresses are in the byte order of the machine, word by word). */
import { endianness } from 'node:os';
import { readIfExists } from '../lib/files.ts';
import { readSysctl } from '../kernel/sysctl.ts';
import { formatIp } from './ip.ts';

export interface Listener {
  protocol: 'tcp' | 'udp';
  address: string;
  port: number;
  /** Only programs of the host itself reach it. */
  loopback: boolean;
}

/** States of a socket that waits for anybody: TCP_LISTEN; for UDP one that is not connected. */
const WAITING = { tcp: '0A', udp: '07' } as const;

/**
 * All of them, both protocols and families. Of UDP not those on ports that the kernel gives to clients: a socket of a client waits in the
 * same way as one of a server, and is gone in a moment.
 */
export function listeners(): Listener[] {
  const [low, high] = (readSysctl('net', 'ipv4', 'ip_local_port_range') ?? '').split(/\s+/).map(Number);
  const found = (['tcp', 'udp'] as const).flatMap((protocol) => [protocol, `${protocol}6`].flatMap((file) => parseListeners(readIfExists(`/proc/net/${file}`) ?? '', protocol)));
  return found.filter(({ protocol, port }) => protocol === 'tcp' || low === undefined || high === undefined || port < low || port > high);
}

/** Parse one of the tables. */
export function parseListeners(text: string, protocol: 'tcp' | 'udp'): Listener[] {
  return text.split('\n').flatMap((line) => {
    const found = /^\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) /.exec(line);
    if (!found || found[3] !== WAITING[protocol]) return [];
    const bytes = Buffer.from(found[1] as string, 'hex');
    if (endianness() === 'LE') bytes.swap32();
    const value = BigInt(`0x${bytes.toString('hex')}`);
    const family = bytes.length === 4 ? 4 : 6;
    const mapped = family === 6 && value >> 32n === 0xffffn;
    const address = formatIp(mapped ? { family: 4, value: value & 0xffffffffn } : { family, value });
    return [{ protocol, address, port: Number.parseInt(found[2] as string, 16), loopback: address.startsWith('127.') || address === '::1' }];
  });
}
