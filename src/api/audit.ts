/** Who asked for what: the peer of each connection, a line for every request that changes something, and the count of all. */
import type { Socket } from 'node:net';
import type { FastifyRequest } from 'fastify';
import type { Logger } from '../lib/log.ts';
import type { Api, ApiDeps, Peer, RouteContext } from './types.ts';

/** Route as the table knows it: the path itself may hold a session's secret. */
function routeOf(request: FastifyRequest): string {
  return request.routeOptions.url ?? 'unknown';
}

/** Processes at the other ends of the socket's connections. */
export function watchPeers(app: Api, deps: Pick<ApiDeps, 'peerCredentials' | 'log'>): (socket: Socket) => Peer | undefined {
  const peers = new WeakMap<Socket, Peer>();
  app.server.on('connection', (socket: Socket) => {
    try {
      const peer = deps.peerCredentials?.(socket);
      if (peer) peers.set(socket, peer);
    } catch (error) {
      deps.log.warn({ err: error }, 'the peer of a connection is unknown');
    }
  });
  return (socket) => peers.get(socket);
}

/** Add the hooks. Audit lines are written whatever the log's level is. */
export function auditRequests(app: Api, { deps, metrics, remote, peerOf }: RouteContext): void {
  const auditLog = deps.log.child({ audit: true }, { level: 'info' });

  app.decorateRequest('peer', undefined);
  app.decorateRequest('audit', undefined);
  app.addHook('onRequest', (request, reply, done) => {
    request.peer = remote.get(request.raw) ?? peerOf(request.raw.socket);
    void reply.header('x-request-id', request.id);
    done();
  });

  app.addHook('onResponse', (request, reply, done) => {
    const route = routeOf(request);
    metrics.request(request.method, route, reply.statusCode, reply.elapsedTime / 1000);
    const fields = { method: request.method, route, status: reply.statusCode, ms: Math.round(reply.elapsedTime * 10) / 10 };
    if (request.method === 'GET' || request.method === 'HEAD') {
      (request.log as unknown as Logger).debug(fields, 'request');
    } else {
      auditLog.info({ requestId: request.id, peer: request.peer ?? null, ...fields, params: request.params, ...request.audit && { asked: request.audit } }, 'request');
    }
    done();
  });
}
