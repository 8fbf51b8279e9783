/** Requests that belong to another node: handed on to it, and requests of users of other nodes: handed to our own routes. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { PassThrough, type Duplex, type Readable } from 'node:stream';
import { toApiError } from './errors.ts';
import { NodeParams } from './schemas.ts';
import { VeldError } from '../lib/errors.ts';
import { linger } from '../lib/linger.ts';
import { passedHeaders } from '../cluster/passing.ts';
import type { ApiDoor, NodeManager, PassedRequest } from '../cluster/types.ts';
import type { Api, Peer, RouteContext } from './types.ts';

/** Largest answer to an upgrade that was refused, in bytes. */
const REFUSAL_LIMIT = 64 << 10;
const ROUTE = '/v1/nodes/:node/api/*';

/** Path of the API there, with the query, as the client spelled it. */
function pathThere(url: string): string {
  const match = /^\/v1\/nodes\/[^/?]+\/api(\/[^]*)$/.exec(url);
  if (!match) throw new VeldError('request.invalid', 'The request is not valid: its path must be spelled /v1/nodes/NAME/api/...');
  return match[1]!;
}

const uidOf = (peer: Peer | undefined): number | null => peer?.uid ?? null;

/** Add the route that hands requests on: bodies are streams both ways. */
export function passRoute(app: Api, nodes: NodeManager, response: ReturnType<typeof Object>): void {
  void app.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, payload, parsed) => parsed(null, payload));
    const schema = {
      summary: 'The API of another node', tags: ['nodes'], response,
      description: 'With any method. What follows `/api` is a path of that node\'s API, with its query; WebSockets pass, too. That node must have allowed it (`manage`). Routes about nodes are not served so.',
      params: { type: 'object', properties: { 'node': NodeParams.properties.node, '*': { type: 'string', description: 'Path there, such as v1/ves' } } },
    };
    // Documented once.
    for (const { method, hide } of [{ method: ['GET'], hide: false }, { method: ['POST', 'PUT', 'PATCH', 'DELETE'], hide: true }]) {
      scope.route({
        method, url: ROUTE, schema: { ...schema, hide },
        // Strings of a path need no check here: they are looked up.
        validatorCompiler: () => () => true,
        handler: async (request, reply) => {
          const { node } = request.params as { node: string };
          linger(request.raw);
          const gone = new AbortController();
          reply.raw.once('close', () => gone.abort());
          const passed: PassedRequest = {
            node, method: request.method, path: pathThere(request.raw.url ?? ''), headers: request.headers, uid: uidOf(request.peer), requestId: request.id, signal: gone.signal,
          };
          const answer = await nodes.pass(passed, bodyOf(request.raw, request.body));
          return reply.code(answer.statusCode ?? 502).headers(passedHeaders(answer.headers)).send(answer);
        },
      });
    }
    done();
  });
}

/** The body as a stream, where there is one. */
function bodyOf(raw: IncomingMessage, body: unknown): Readable | undefined {
  const length = raw.headers['content-length'];
  if (raw.headers['transfer-encoding'] === undefined && (length === undefined || length === '0')) return undefined;
  if (body !== raw) return undefined;
  // A stream of its own: when the other node answers early and goes away, only that ends, and our client still gets the answer.
  const passed = new PassThrough();
  raw.pipe(passed);
  raw.once('close', () => { if (!raw.complete) passed.destroy(); });
  passed.on('error', () => {});
  passed.once('close', () => {
    raw.unpipe(passed);
    raw.resume();
  });
  return passed;
}

/** Let upgrades that belong to another node pass as raw streams; all others go where they went. To be called when all routes are there. */
export function passUpgrades(app: Api, { deps, remote, peerOf }: RouteContext): void {
  const { nodes } = deps;
  if (!nodes) return;
  const auditLog = deps.log.child({ audit: true }, { level: 'info' });
  const others = app.server.listeners('upgrade');
  app.server.removeAllListeners('upgrade');
  app.server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const node = /^\/v1\/nodes\/([a-z0-9-]+)\/api\//.exec(request.url ?? '')?.[1];
    if (node === undefined) {
      for (const listener of others) Reflect.apply(listener, app.server, [request, socket, head]);
      return;
    }
    socket.on('error', () => socket.destroy());
    const gone = new AbortController();
    socket.once('close', () => gone.abort());
    void (async () => {
      try {
        // As in nodes.ts: nobody reaches a third node through this one.
        if (remote.has(request)) throw new VeldError('node.not_allowed', 'Nodes are managed on the node itself, not by way of another one.');
        const peer = peerOf(request.socket);
        const passed: PassedRequest = { node, method: 'GET', path: pathThere(request.url ?? ''), headers: request.headers, uid: uidOf(peer), requestId: randomUUID(), signal: gone.signal };
        auditLog.info({ requestId: passed.requestId, peer: peer ?? null, method: 'GET', route: ROUTE, params: { node }, upgrade: request.headers.upgrade }, 'request');
        const { answer, stream } = await nodes.passUpgrade(passed);
        if (!stream) return await refuse(socket, answer);
        writeHead(socket, answer);
        if (head.length > 0) stream.write(head);
        join(socket, stream);
      } catch (error) {
        const known = toApiError(error);
        end(socket, known.http, JSON.stringify({ error: known.toBody() }));
      }
    })();
  });
}

/** The way in for users of other nodes. To be called when all routes are there. */
export function doorForNodes(app: Api, remote: RouteContext['remote']): ApiDoor {
  return {
    request(request, response, from) {
      remote.set(request, from);
      app.routing(request, response);
    },
    upgrade(request, socket, head, from) {
      remote.set(request, from);
      app.server.emit('upgrade', request, socket, head);
    },
  };
}

function writeHead(socket: Duplex, answer: IncomingMessage): void {
  const lines: string[] = [];
  for (let i = 0; i + 1 < answer.rawHeaders.length; i += 2) lines.push(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}\r\n`);
  socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`);
}

async function refuse(socket: Duplex, answer: IncomingMessage): Promise<void> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > REFUSAL_LIMIT) break;
    chunks.push(chunk);
  }
  end(socket, answer.statusCode ?? 502, Buffer.concat(chunks).toString('utf8'));
}

function end(socket: Duplex, status: number, body: string): void {
  socket.end(`HTTP/1.1 ${status} Refused\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`);
}

/** Two streams as one: what comes on one goes out on the other, and so do their ends. */
function join(a: Duplex, b: Duplex): void {
  for (const [from, to] of [[a, b], [b, a]] as const) {
    from.pipe(to);
    from.on('error', () => to.destroy());
    from.on('close', () => to.destroy());
  }
}
