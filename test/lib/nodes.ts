/** Nodes of a test: instances that listen for each other on the loopback, and clients that talk to their doors without being one. */
import { once } from 'node:events';
import { request } from 'node:https';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { freePort } from '../../src/cluster/testing.ts';
import { makeInstance, type Instance, type InstanceOptions } from './instance.ts';

/** An instance that listens at 127.0.0.1; nothing runs yet. */
export async function makeNode(name: string, options: InstanceOptions = {}): Promise<Instance> {
  const port = await freePort();
  return makeInstance({ ...options, settings: (settings) => {
    settings.nodes = { listen: `127.0.0.1:${port}`, name, address: '' };
    options.settings?.(settings);
  } });
}

/** Port of a node's door. */
export function portOf(node: Instance): number {
  return Number(node.settings.nodes.listen.split(':')[1]);
}

/** Pair `a` with `b` by a token of `b`. @param there rights of a on b @param here rights of b on a */
export async function pair(a: Instance, b: Instance, name = b.settings.nodes.name, { there = 'migrate', here = 'migrate' } = {}): Promise<void> {
  const { token } = await b.json<{ token: string }>('node', 'token', '--allow', there);
  const added = await a.cliWith(`${token}\n`, 'node', 'add', name, '--allow', here);
  if (added.code !== 0) throw new Error(`veld node add: ${added.stderr}`);
}

export interface Raw {
  /** HTTP status; 0 when the connection was refused or broken off. */
  status: number;
  body: string;
}

/** One request to a door, with whatever TLS is wanted. */
export function ask(port: number, method: string, path: string, body: string | undefined, options: ConnectionOptions = {}, headers: Record<string, string> = {}): Promise<Raw> {
  return new Promise((resolve) => {
    const call = request({ host: '127.0.0.1', port, method, path, agent: false, rejectUnauthorized: false, headers: { 'content-type': 'application/json', ...headers }, timeout: 10_000, ...options }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', () => resolve({ status: 0, body: 'broken off' }));
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }));
    });
    call.on('timeout', () => call.destroy());
    call.on('error', (error) => resolve({ status: 0, body: error.message }));
    call.end(body);
  });
}

/** A connection through TLS. Rejects when the handshake does. */
export async function handshake(port: number, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options });
  await once(socket, 'secureConnect');
  return socket;
}
