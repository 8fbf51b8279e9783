/** Addresses of nodes: `host:port`, with IPv6 in brackets. */
import { networkInterfaces } from 'node:os';
import { isIP } from 'node:net';
import { VeldError } from '../lib/errors.ts';
import { poolsOverlap } from '../lib/instances.ts';

/** A place to connect to, or to listen at. */
export interface Endpoint {
  host: string;
  port: number;
}

/**
 * Read `host:port`.
 * @returns undefined for what is none
 */
export function parseEndpoint(text: string): Endpoint | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.-]{1,15})?)\]|([A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}))):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port < 1 || port > 65_535) return undefined;
  if (match[1] !== undefined && isIP(match[1]) !== 6) return undefined;
  return { host: match[1] ?? match[2]!, port };
}

/** @throws VeldError `usage` */
export function requireEndpoint(text: string): Endpoint {
  const endpoint = parseEndpoint(text);
  if (!endpoint) throw new VeldError('usage', `'${text}' is not an address of the form HOST:PORT.`, { hint: 'For example node2.example.org:7430, 192.0.2.7:7430 or [2001:db8::7]:7430.' });
  return endpoint;
}

export function formatEndpoint({ host, port }: Endpoint): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * What other nodes are told where this one answers.
 * @param settings `nodes.listen`, `nodes.address`, and the pools of VEs, whose addresses are not the host's
 * @returns undefined for a node that does not listen
 */
export function ownAddress({ listen, address, pools }: { listen: string; address: string; pools: readonly string[] }): string | undefined {
  if (listen === '') return undefined;
  if (address !== '') return address;
  const { host, port } = requireEndpoint(listen);
  if (host !== '0.0.0.0' && host !== '::') return listen;
  const all = Object.values(networkInterfaces()).flat().filter((each) => each !== undefined && !each.internal && !each.address.startsWith('fe80:'));
  const outside = all.filter((each) => !pools.some((pool) => poolsOverlap(pool, `${each!.address}/${each!.family === 'IPv4' ? 32 : 128}`)));
  const found = outside.find((each) => each!.family === 'IPv4') ?? (host === '::' ? outside[0] : undefined);
  return found && formatEndpoint({ host: found.address, port });
}
