/** The HTTP application: strict about what comes in, one shape for what fails. Not yet listening: see socket.ts. */
import { randomUUID } from 'node:crypto';
import swagger from '@fastify/swagger';
import websocket from '@fastify/websocket';
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox';
import { LogController, fastify, type FastifyBaseLogger, type FastifyReply } from 'fastify';
import type { WebSocket } from 'ws';
import { VeldError } from '../lib/errors.ts';
import { auditRequests, watchPeers } from './audit.ts';
import { handleClientError, handleError, handleNotFound } from './errors.ts';
import { eventRoutes } from './events.ts';
import { FRAME_LIMIT } from './exec-bridge.ts';
import { execRoutes } from './exec.ts';
import { createMetrics } from './metrics.ts';
import { nodeRoutes } from './nodes.ts';
import { doorForNodes, passUpgrades } from './passing.ts';
import { backupRoutes } from './backups.ts';
import { poolRoutes } from './pools.ts';
import { planningRoutes } from './planning.ts';
import { operationRoutes } from './operations.ts';
import { createSessionTable } from './sessions.ts';
import { streamRoutes } from './streams.ts';
import { statsRoutes } from './stats.ts';
import { systemRoutes } from './system.ts';
import { imageRoutes } from './images.ts';
import { publishedRoutes } from './published.ts';
import { recipeRoutes } from './recipes.ts';
import { templateRoutes } from './templates.ts';
import { templateVersionRoutes } from './template-versions.ts';
import { veRoutes } from './ves.ts';
import { checkpointRoutes } from './checkpoints.ts';
import type { ApiDoor } from '../cluster/types.ts';
import { migrationRoutes } from './migrations.ts';
import type { Api, ApiDeps, RouteContext } from './types.ts';

/** Largest body of most routes, in bytes. */
export const BODY_LIMIT = 1 << 20;
/** Connections at a time. */
const CONNECTION_LIMIT = 2048;
/** How long a WebSocket may take to say goodbye when the daemon stops, in milliseconds. */
const CLOSE_GRACE = 1000;

/** The way in for users of other nodes, of each application. */
const doors = new WeakMap<Api, ApiDoor>();

/** The way in for users of other nodes. */
export function apiDoor(app: Api): ApiDoor {
  return doors.get(app)!;
}

/**
 * Build the application with all routes.
 * @param deps what it stands on
 * @param parts replacements for tests
 */
export async function buildApi(deps: ApiDeps, parts: Partial<Pick<RouteContext, 'sessions'>> = {}): Promise<Api> {
  const app = fastify({
    loggerInstance: deps.log as unknown as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    genReqId: () => randomUUID(),
    bodyLimit: BODY_LIMIT,
    routerOptions: { maxParamLength: 200 },
    // Time in which a request must have come in whole; answers may take as long as they need.
    requestTimeout: 30_000,
    forceCloseConnections: true,
    return503OnClosing: false,
    exposeHeadRoutes: false,
    onProtoPoisoning: 'error',
    onConstructorPoisoning: 'error',
    clientErrorHandler: (error, socket) => handleClientError(error, socket),
    frameworkErrors: (error, request, reply) => handleError(error, request, reply as unknown as FastifyReply),
  }) as unknown as Api;
  app.server.maxConnections = CONNECTION_LIMIT;

  // Bodies are taken as they are (a string is no number); parameters of paths and queries, always text, are converted.
  app.setValidatorCompiler(TypeBoxValidatorCompiler);
  // Answers come from our own types; the schemas of answers are documentation, and a test holds answers against them.
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  app.setErrorHandler(handleError);
  app.setNotFoundHandler(handleNotFound);

  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, {});
    else void parseJson(request, body as string, done);
  });
  // Verbs that take nothing may be sent without a body.
  app.addHook('preValidation', (request, _reply, done) => {
    if (request.body === undefined && request.method !== 'GET') request.body = {};
    done();
  });

  const metrics = createMetrics({ manager: deps.manager, stats: deps.stats, planning: deps.planning, events: deps.events, version: deps.version, instance: deps.instance });
  const context: RouteContext = { deps, metrics, sessions: parts.sessions ?? createSessionTable(), remote: new WeakMap(), peerOf: watchPeers(app, deps) };
  app.addHook('onClose', (_app, done) => {
    metrics.close();
    done();
  });

  auditRequests(app, context);
  app.addHook('onRequest', (request, _reply, done) => {
    if (deps.stopping?.() && request.method !== 'GET') throw new VeldError('daemon.stopping', 'The daemon is stopping.');
    done();
  });

  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Veld', version: deps.version, description: 'Divides a Linux server into virtual environments. Served on a unix socket.' },
    },
  });
  await app.register(websocket, {
    options: { maxPayload: FRAME_LIMIT, perMessageDeflate: false },
    preClose(done) {
      for (const client of this.websocketServer.clients) {
        client.close(1001, 'the daemon stops');
        setTimeout(() => client.terminate(), CLOSE_GRACE).unref();
      }
      this.websocketServer.close();
      done();
    },
    errorHandler: (error: Error, socket: WebSocket, request) => {
      request.log.debug({ err: error }, 'a WebSocket failed');
      socket.terminate();
    },
  });

  for (const routes of [systemRoutes, veRoutes, statsRoutes, planningRoutes, checkpointRoutes, migrationRoutes, execRoutes, streamRoutes, backupRoutes, templateRoutes, templateVersionRoutes, imageRoutes, publishedRoutes, recipeRoutes, poolRoutes, operationRoutes, eventRoutes, nodeRoutes]) {
    await app.register((scope, _options, done) => {
      routes(scope, context);
      done();
    });
  }
  await app.ready();
  passUpgrades(app, context);
  doors.set(app, doorForNodes(app, context.remote));
  return app;
}
