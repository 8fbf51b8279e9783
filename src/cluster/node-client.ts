/**
 * Requests to paired nodes.
 *
 * Each has a connection of its own: a long stream never stands in the way of a short question. Bodies are streams both ways, with back-pressure. Who is
 * at the other end was proven by its certificate before the first byte is sent.
 */
import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import { pipeline, type Duplex, type Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { VeldError, type ErrorBody } from '../lib/errors.ts';
import { requireEndpoint } from './addresses.ts';
import { dial, unreachable } from './dial.ts';
import type { IdentityKeeper } from './identity.ts';
import type { Peers } from './peers.ts';
import { PROTOCOL_HEADER, SPOKEN, chooseProtocol, type ProtocolRange } from './protocol.ts';
import type { NodeRecord } from '../store/types.ts';

/** Largest answer that is taken in whole, in bytes. */
const ANSWER_LIMIT = 256 << 10;
/** How long a short question may take, in milliseconds. */
export const CALL_TIMEOUT = 5000;
/** What a connection that becomes a raw stream is called (header Upgrade). */
export const STREAM_PROTOCOL = 'veld-stream';

export interface SendOptions {
  headers?: OutgoingHttpHeaders;
  /** Ends the request, whatever it is doing. */
  signal?: AbortSignal;
  /** Also to a node that is not known here any more: to tell it so. */
  farewell?: boolean;
}

export interface CallOptions extends SendOptions {
  /** Milliseconds for the whole; {@link CALL_TIMEOUT} when left out. */
  timeout?: number;
}

/** Questions on one connection. */
export interface Line {
  /** @throws VeldError as {@link NodeClient.call} */
  call(path: string, message: unknown): Promise<unknown>;
  close(): void;
}

export interface NodeClient {
  /**
   * Ask with JSON and read JSON.
   * @param path below `/node/v1/`
   * @returns the parsed answer, unchecked
   * @throws VeldError `node.unreachable`, `node.untrusted`, `node.not_paired`, `node.protocol`, or what the other says
   */
  call(node: NodeRecord, path: string, message: unknown, options?: CallOptions): Promise<unknown>;
  /** Connect once for several questions, which are part of being paired (`hello`). */
  line(node: NodeRecord, timeout?: number): Promise<Line>;
  /**
   * Send a stream, and get one. The answer may begin before the body has ended.
   * @param path below `/node/v1/`
   * @param body ended, or failing, with the request; a failing body breaks the request off
   * @returns the answer once its headers have come (a 2xx); an answer that breaks off fails with an error
   * @throws VeldError as {@link NodeClient.call}
   */
  post(node: NodeRecord, path: string, body: Readable, options?: SendOptions): Promise<IncomingMessage>;
  /**
   * Turn a connection into a raw stream, both ways.
   * @param path below `/node/v1/`
   * @throws VeldError as {@link NodeClient.call}
   */
  stream(node: NodeRecord, path: string, options?: SendOptions): Promise<Duplex>;
  /** Any request; whatever is answered is given back. @param body undefined sends none @throws VeldError of the connection */
  send(node: NodeRecord, method: string, path: string, body?: Readable | Uint8Array, options?: SendOptions): Promise<IncomingMessage>;
  /** Any upgrade. `stream` when the other agreed, else its answer. */
  upgrade(node: NodeRecord, path: string, options?: SendOptions): Promise<{ answer: IncomingMessage; stream?: Duplex }>;
  /** End all connections to a node. */
  endConnections(id: string): void;
}

/** @param onUnpaired called when a node, by its own certificate, says that it knows of no pairing */
export function createNodeClient({ identity, peers, onUnpaired }: { identity: IdentityKeeper; peers: Peers; onUnpaired: (node: NodeRecord) => void }): NodeClient {
  const open = new Map<string, Set<TLSSocket>>();

  const connectTo = async (node: NodeRecord, { signal, farewell = false }: SendOptions, protocol: number, timeout?: number): Promise<{ socket: TLSSocket; headers: OutgoingHttpHeaders }> => {
    if (node.ended) throw new VeldError('node.not_paired', `${node.name} is not paired any more: ${node.ended.reason}.`);
    if (node.address === null) throw new VeldError('node.unreachable', `${node.name} has no address: it does not listen.`, { hint: `Give it one: set nodes.listen there, then \`veld node set ${node.name} address=HOST:PORT\` here.` });
    const { socket, authority } = await dial({
      name: node.name, endpoint: requireEndpoint(node.address), identity: identity.current(), authorities: node.authorities, ...signal && { signal }, ...timeout !== undefined && { timeout },
    });
    // Removed while it was being dialled.
    const now = farewell ? node : peers.byId(node.id);
    if (!now || now.ended) {
      socket.destroy();
      throw new VeldError('node.not_found', `There is no node ${node.name} any more.`);
    }
    if (!farewell) peers.used({ node: now, authority });
    const sockets = open.get(node.id) ?? new Set();
    open.set(node.id, sockets.add(socket));
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => {}); // whoever uses it hears of it, too
    return { socket, headers: { [PROTOCOL_HEADER]: protocol } };
  };

  /** Greeting and parting are the same in all protocols; what was last heard of the other may be old. */
  const protocolOf = (node: NodeRecord, path: string): number => path === 'hello' || path === 'unpair' || !node.facts ? SPOKEN.max : chooseProtocol(node.facts.protocol as ProtocolRange, node.name);

  const broke = (node: NodeRecord, error: unknown): VeldError => error instanceof VeldError ? error
    : (error as Error).name === 'AbortError' ? new VeldError('operation.cancelled', `The request to ${node.name} was cancelled.`, { cause: error })
      : unreachable(node.name, node.address ?? 'no address', 'the connection broke off', error);

  const begin = async (node: NodeRecord, method: string, path: string, options: SendOptions): Promise<ClientRequest> => {
    const { headers, signal } = options;
    const connection = await connectTo(node, options, protocolOf(node, path));
    return httpRequest({
      method, path: `/node/v1/${path}`, headers: { host: 'veld', connection: 'close', ...headers, ...connection.headers }, createConnection: () => connection.socket, ...signal && { signal },
    });
  };

  const answerOf = (node: NodeRecord, request: ClientRequest): Promise<IncomingMessage> => new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.on('error', (error) => reject(broke(node, error)));
  });

  /** @param shown fingerprint of this node's authority when the connection was made @throws VeldError the other's, for an answer that is one */
  const check = async (node: NodeRecord, answer: IncomingMessage, shown: string): Promise<IncomingMessage> => {
    const status = answer.statusCode ?? 0;
    if (status >= 200 && status < 300) return answer;
    const error = errorOf(node, status, await readText(node, answer));
    // A connection of an authority that has been replaced meanwhile says nothing about the pairing.
    if (error.code === 'node.not_paired' && shown === identity.current().fingerprint) onUnpaired(node);
    throw error;
  };

  const client: NodeClient = {
    async call(node, path, message, { timeout = CALL_TIMEOUT, ...options } = {}) {
      const late = AbortSignal.timeout(timeout);
      const signal = options.signal ? AbortSignal.any([late, options.signal]) : late;
      try {
        const shown = identity.current().fingerprint;
        const answer = await client.send(node, 'POST', path, Buffer.from(JSON.stringify(message)), { ...options, headers: { 'content-type': 'application/json', ...options.headers }, signal });
        return parse(node, await readText(node, await check(node, answer, shown)));
      } catch (error) {
        if (late.aborted) throw unreachable(node.name, node.address ?? 'no address', `no answer within ${timeout / 1000} s`, error);
        throw error;
      }
    },
    async line(node, timeout = CALL_TIMEOUT) {
      const shown = identity.current().fingerprint;
      const { socket, headers } = await connectTo(node, {}, SPOKEN.max, timeout);
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      agent.createConnection = () => socket;
      const timer = setTimeout(() => socket.destroy(), timeout);
      return {
        async call(path, message) {
          const payload = Buffer.from(JSON.stringify(message));
          const request = httpRequest({ agent, method: 'POST', path: `/node/v1/${path}`, headers: { host: 'veld', 'content-type': 'application/json', 'content-length': payload.length, ...headers } });
          request.end(payload);
          return parse(node, await readText(node, await check(node, await answerOf(node, request), shown)));
        },
        close() {
          clearTimeout(timer);
          agent.destroy();
          socket.destroy();
        },
      };
    },
    async send(node, method, path, body, options = {}) {
      const request = await begin(node, method, path, options);
      const answered = answerOf(node, request);
      if (body === undefined || body instanceof Uint8Array) request.end(body);
      // An error of either is told by the other: a request whose body fails is broken off.
      else pipeline(body, request, () => {});
      return answered;
    },
    async post(node, path, body, options = {}) {
      const shown = identity.current().fingerprint;
      const headers = { 'content-type': 'application/octet-stream', ...options.headers };
      return check(node, await client.send(node, 'POST', path, body, { ...options, headers }), shown);
    },
    async stream(node, path, options = {}) {
      const shown = identity.current().fingerprint;
      const { answer, stream } = await client.upgrade(node, path, { ...options, headers: { upgrade: STREAM_PROTOCOL, ...options.headers } });
      if (stream) return stream;
      await check(node, answer, shown);
      throw new VeldError('node.failed', `${node.name} did not open a stream.`);
    },
    async upgrade(node, path, options = {}) {
      const request = await begin(node, 'GET', path, { ...options, headers: { ...options.headers, connection: 'Upgrade' } });
      return new Promise((resolve, reject) => {
        request.once('upgrade', (answer, stream, head) => {
          if (head.length > 0) stream.unshift(head);
          resolve({ answer, stream });
        });
        request.once('response', (answer) => resolve({ answer }));
        request.on('error', (error) => reject(broke(node, error)));
        request.end();
      });
    },
    endConnections(id) {
      for (const socket of open.get(id) ?? []) socket.destroy();
    },
  };
  return client;
}

function parse(node: NodeRecord, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new VeldError('node.failed', `The answer of ${node.name} is not JSON.`, { cause: error });
  }
}

async function readText(node: NodeRecord, answer: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > ANSWER_LIMIT) throw new VeldError('node.failed', `The answer of ${node.name} is too large.`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof VeldError ? error : unreachable(node.name, node.address ?? 'no address', 'the connection broke off', error);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** What the other node says, marked as its words. */
function errorOf(node: NodeRecord, status: number, text: string): VeldError {
  try {
    const { error } = JSON.parse(text) as { error: ErrorBody };
    if ([error.code, error.message, error.hint].every((each) => typeof each === 'string')) return VeldError.fromBody({ ...error, message: `${node.name}: ${error.message.slice(0, 2000)}`, hint: error.hint.slice(0, 2000) });
  } catch { /* not ours */ }
  return new VeldError('node.failed', `${node.name} answered with HTTP status ${status}.`);
}
