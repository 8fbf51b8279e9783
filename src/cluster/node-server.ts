/**
 * The door for other nodes: HTTP/1.1 over TLS 1.3, with certificates on both sides.
 *
 * TLS lets anybody in who has some certificate or none, since who wants to be paired has none that is known here; then each request is held against the list of
 * rights, by what the connection's certificate says at that moment. OpenSSL is not asked whether it knows the certificate's authority, but {@link Peers.find}
 * is: it takes a certificate for the node whose own authority signed it, whatever names it bears, and whatever authorities other nodes have.
 * Who is not paired hears one and the same refusal to everything but the request to be paired.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { constants, type X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { VeldError, toVeldError } from '../lib/errors.ts';
import { linger } from '../lib/linger.ts';
import type { Logger } from '../lib/log.ts';
import type { NodeRecord } from '../store/types.ts';
import { formatEndpoint, type Endpoint } from './addresses.ts';
import type { IdentityKeeper } from './identity.ts';
import type { Found, Peers } from './peers.ts';
import { PROTOCOL_HEADER, SPOKEN } from './protocol.ts';
import { CLOCK_HINT } from './dial.ts';
import { STREAM_PROTOCOL } from './node-client.ts';
import type { Need } from './rights.ts';

/** Connections at a time, those that are not through with TLS, and those of nobody who is paired. */
const CONNECTION_LIMIT = 2048;
const HANDSHAKE_LIMIT = 256;
const STRANGER_LIMIT = 32;
/** How long TLS may take, and how long the headers of a request, in milliseconds. */
const PATIENCE = 10_000;
/** How long a connection of nobody who is paired may last, in milliseconds. */
const STRANGER_LIFETIME = 30_000;
const HEADER_LIMIT = 16 << 10;
/** Largest message that is read in whole, in bytes, and how long it may take, in milliseconds. */
const MESSAGE_LIMIT = 64 << 10;
const PREFIX = '/node/v1/';

/** A request of another node. */
export interface NodeCall {
  /** Who asks. Undefined only where `needs` is `nothing`. */
  node: NodeRecord | undefined;
  /** Of the connection. */
  certificate: X509Certificate | undefined;
  request: IncomingMessage;
  /** What follows the route's path, with the query. */
  rest: string;
  socket: TLSSocket;
}

/** What is answered to one path. */
export interface NodeRoute {
  /** Below `/node/v1/`; one that ends with `/` stands for everything below it. */
  path: string;
  /** What the other node must have: see rights.ts. It is looked up on each request. */
  needs: Need;
  /** POST when left out; `*`: any. */
  method?: string;
  /** Answers a request. What it throws is answered as an error, or breaks off an answer that has begun. */
  handle?(call: NodeCall, response: ServerResponse): Promise<void> | void;
  /** Takes over a connection: see {@link acceptStream}. What it throws is answered as an error. @param head what has come of the other protocol already */
  upgrade?(call: NodeCall, head: Buffer): Promise<void> | void;
}

export interface NodeServer {
  /** Answer a path from now on. */
  register(route: NodeRoute): void;
  /** @throws Error of listen(2) */
  listen(endpoint: Endpoint): Promise<void>;
  /** Use the identity as it is now for new connections. */
  refresh(): void;
  /** End all connections of a node. */
  endConnections(id: string): void;
  close(): Promise<void>;
}

/** The certificate of a connection, which can be asked for once only (Node 24), and whose it was at first; a stranger has neither. */
interface Owner {
  leaf?: X509Certificate | undefined;
  found?: Found | undefined;
}

/** A door that is not open yet. */
export function createNodeServer({ identity, peers, log }: { identity: IdentityKeeper; peers: Peers; log: Logger }): NodeServer {
  const routes: NodeRoute[] = [];
  const owners = new Map<TLSSocket, Owner>();
  const shaking = new Set<Socket>();
  const strangers = new Set<TLSSocket>();
  let server: Server | undefined;

  /** The node at the other end, as the pairings are at this moment. @throws VeldError `node.untrusted` for a certificate whose time it is not */
  const ownerOf = (socket: TLSSocket): NodeRecord | undefined => {
    const { leaf, found } = owners.get(socket) ?? {};
    if (!leaf || !found) return undefined;
    const node = peers.byId(found.node.id);
    if (!node || node.ended || !node.authorities.some(({ fingerprint }) => fingerprint === found.authority)) return undefined;
    if (!found.isTimely()) throw new VeldError('node.untrusted', 'Your certificate is not good now, by the clock of this node.', { hint: CLOCK_HINT });
    return node;
  };

  /** @throws VeldError when there is no such route, or the other may not use it */
  const admit = (request: IncomingMessage, kind: 'handle' | 'upgrade'): { route: NodeRoute; call: NodeCall } => {
    const socket = request.socket as TLSSocket;
    const node = ownerOf(socket);
    const url = request.url ?? '';
    // Compared as it is: what is spelled in another way is another path.
    const asked = url.startsWith(PREFIX) ? url.slice(PREFIX.length) : undefined;
    const route = asked === undefined ? undefined : routes.find(({ path, method = 'POST', ...rest }) => rest[kind] && (path.endsWith('/') ? asked.startsWith(path) : asked.split('?')[0] === path)
      && (kind === 'upgrade' || method === '*' || method === request.method));
    if (!node && route?.needs !== 'nothing') throw new VeldError('node.not_paired', 'This node knows of no pairing with you.');
    if (!route || asked === undefined) throw new VeldError('route.not_found', `There is no ${request.method} ${url.split('?')[0]!.slice(0, 200)} for nodes.`);
    const protocol = Number(request.headers[PROTOCOL_HEADER] ?? Number.NaN);
    // How to greet and how to part is the same in all of them.
    if (node && route.needs !== 'pairing' && !(protocol >= SPOKEN.min && protocol <= SPOKEN.max)) throw new VeldError('node.protocol', `This node speaks the node protocol ${SPOKEN.min} to ${SPOKEN.max}, not ${String(request.headers[PROTOCOL_HEADER]).slice(0, 20)}.`);
    if (node && route.needs !== 'nothing' && route.needs !== 'pairing' && !node.allow.includes(route.needs)) {
      throw new VeldError('node.not_allowed', `You may not do this here: it needs the right ${route.needs}, which this node has not given you.`, {
        hint: `Allow it there: \`veld node set ${node.name} allow=${[...node.allow, route.needs].sort().join(',')}\`.`, details: { right: route.needs },
      });
    }
    return { route, call: { node, certificate: owners.get(socket)?.leaf, request, rest: asked.slice(route.path.length), socket } };
  };

  const onRequest = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    request.on('error', () => {});
    response.on('error', () => {});
    linger(request);
    try {
      const { route, call } = admit(request, 'handle');
      await route.handle!(call, response);
    } catch (error) {
      const known = tell(log, request, error);
      if (response.headersSent) response.destroy();
      else {
        response.setHeader('connection', 'close');
        answerJson(response, known.http, { error: known.toBody() });
      }
    }
  };

  const onUpgrade = async (request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    socket.on('error', () => {});
    try {
      const { route, call } = admit(request, 'upgrade');
      await route.upgrade!(call, head);
    } catch (error) {
      const known = tell(log, request, error);
      const body = JSON.stringify({ error: known.toBody() });
      socket.end(`HTTP/1.1 ${known.http} Refused\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`);
    }
  };

  /** Whatever somebody's certificate holds, or the disk does, it ends no daemon. */
  const ownerAtFirst = (socket: TLSSocket): Owner => {
    const owner: Owner = {};
    try {
      owner.leaf = socket.getPeerX509Certificate();
      owner.found = owner.leaf && peers.find(owner.leaf);
      if (owner.found) peers.used(owner.found);
    } catch (error) {
      log.warn({ err: error, from: socket.remoteAddress }, 'a certificate could not be looked up');
    }
    return owner;
  };

  const context = () => {
    const { chain, key } = identity.current();
    // No list of authorities: the pairings are asked, see above.
    return { cert: chain, key, ca: [], minVersion: 'TLSv1.3' as const, secureOptions: constants.SSL_OP_NO_TICKET };
  };

  /** Over a limit, the oldest goes: whoever means it is through in no time. */
  const crowd = <T extends Socket>(sockets: Set<T>, socket: T, limit: number): void => {
    sockets.add(socket);
    const [oldest] = sockets;
    if (sockets.size > limit) oldest?.destroy();
  };

  return {
    register: (route) => void routes.push(route),
    async listen(endpoint) {
      const made = createServer({
        ...context(), requestCert: true, rejectUnauthorized: false, handshakeTimeout: PATIENCE, maxHeaderSize: HEADER_LIMIT, headersTimeout: PATIENCE,
        requestTimeout: 0, // streams of a migration take as long as they take; messages have a limit of their own
        noDelay: true, keepAlive: true, keepAliveInitialDelay: 10_000,
      });
      made.maxConnections = CONNECTION_LIMIT;
      made.on('connection', (socket: Socket) => {
        crowd(shaking, socket, HANDSHAKE_LIMIT);
        socket.once('close', () => shaking.delete(socket));
      });
      made.on('secureConnection', (socket) => {
        for (const raw of shaking) if (raw.remotePort === socket.remotePort && raw.remoteAddress === socket.remoteAddress) shaking.delete(raw);
        const owner = ownerAtFirst(socket);
        owners.set(socket, owner);
        socket.once('close', () => {
          owners.delete(socket);
          strangers.delete(socket);
        });
        if (owner.found) return;
        crowd(strangers, socket, STRANGER_LIMIT);
        const timer = setTimeout(() => socket.destroy(), STRANGER_LIFETIME);
        socket.once('close', () => clearTimeout(timer));
      });
      made.on('request', (request, response) => void onRequest(request, response));
      made.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => void onUpgrade(request, socket, head));
      made.on('clientError', (_error, socket) => socket.destroy());
      made.on('tlsClientError', (error, socket) => log.debug({ err: error.message, from: socket.remoteAddress }, 'a connection did not get through TLS'));
      await new Promise<void>((resolve, reject) => {
        made.once('error', reject);
        made.listen(endpoint.port, endpoint.host, () => {
          made.off('error', reject);
          resolve();
        });
      });
      made.on('error', (error) => log.error({ err: error }, 'the door for other nodes'));
      server = made;
      log.info({ address: formatEndpoint(endpoint) }, 'other nodes are heard');
    },
    refresh: () => server?.setSecureContext(context()),
    endConnections(id) {
      for (const [socket, { found }] of owners) if (found?.node.id === id) socket.destroy();
    },
    async close() {
      const closing = server;
      server = undefined;
      if (!closing) return;
      await new Promise<void>((resolve) => {
        closing.close(() => resolve());
        for (const socket of [...owners.keys(), ...shaking]) socket.destroy();
      });
    },
  };
}

function tell(log: Logger, request: IncomingMessage, error: unknown): VeldError {
  const known = toVeldError(error);
  const from = request.socket.remoteAddress;
  if (known.kind === 'internal') log.error({ err: known, from }, 'a request of another node failed');
  else log.debug({ code: known.code, from }, 'a request of another node was refused');
  return known.code === 'internal' ? new VeldError('internal', 'The node met an unexpected error.') : known;
}

/** Answer with JSON. */
export function answerJson(response: ServerResponse, status: number, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length }).end(body);
}

/**
 * Read a message in whole.
 * @throws VeldError `request.invalid` for one that is too large, no JSON, or does not come
 */
export async function readMessage(request: IncomingMessage): Promise<unknown> {
  const bad = (why: string, cause?: unknown): VeldError => new VeldError('request.invalid', `The message is not valid: ${why}.`, { ...cause !== undefined && { cause } });
  const bytes = await new Promise<Buffer>((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      request.off('data', take);
      settle();
    };
    const take = (chunk: Buffer): void => {
      size += chunk.length;
      chunks.push(chunk);
      if (size > MESSAGE_LIMIT) end(() => reject(bad('it is too large')));
    };
    const timer = setTimeout(() => end(() => reject(bad('it did not come'))), PATIENCE);
    request.on('data', take);
    request.once('end', () => end(() => resolve(Buffer.concat(chunks))));
    request.once('close', () => end(() => reject(bad('it broke off'))));
  });
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch (error) {
    throw bad('it is not JSON', error);
  }
}

/** Agree to an upgrade: from here on the connection is a raw stream, the other end of `NodeClient.stream`. @param head of the route's `upgrade` */
export function acceptStream({ socket }: NodeCall, head: Buffer): Duplex {
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${STREAM_PROTOCOL}\r\n\r\n`);
  if (head.length > 0) socket.unshift(head);
  return socket;
}
