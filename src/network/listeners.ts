/** What listens on this host, from /proc/net (formats: proc_pid_net(5); addresses are in the byte order of the machine, word by word). */
import { endianness } from 'node:os';
import { readIfExists } from '../lib/files.ts';
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

/** All of them, both protocols and families. @param folder replaced in tests */
export function listeners(folder = '/proc/net'): Listener[] {
  return (['tcp', 'udp'] as const).flatMap((protocol) => [protocol, `${protocol}6`].flatMap((file) => parseListeners(readIfExists(`${folder}/${file}`) ?? '', protocol)));
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
