/** Routes of sessions: what was asked for opens one WebSocket with its streams. Commands are asked for in exec.ts, all else here. */
import { setMaxListeners } from 'node:events';
import type { WebSocket } from 'ws';
import { admitSession, checkEnterable, EXEC_ERRORS } from './admission.ts';
import { answers } from './errors.ts';
import { bridgeSession } from './exec-bridge.ts';
import * as schemas from './schemas.ts';
import { VeldError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { PendingSession } from './sessions.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['exec'];

/** Add the routes. */
export function streamRoutes(app: Api, { deps, sessions, metrics }: RouteContext): void {
  const { manager } = deps;
  const taken = new WeakMap<object, { pending: PendingSession; release: () => void }>();
  // Commands do not outlive the daemon that passes on their streams.
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  app.addHook('preClose', (done) => {
    stop.abort();
    done();
  });

  app.post('/v1/ves/:ve/shell', {
    schema: {
      summary: 'Ask for a login shell; the answer opens one WebSocket within 10 s',
      tags, params: schemas.VeParams, querystring: schemas.NoQuery, body: schemas.ShellBody, response: answers({ 200: schemas.SessionSecret }, ...EXEC_ERRORS),
    },
  }, (request, reply) => {
    const { uuid } = checkEnterable(manager.view(request.params.ve));
    const { body, peer } = request;
    request.audit = { program: 'login shell', user: body.user ?? 'root', terminal: body.tty != null };
    return reply.send({ session: sessions.add({ ve: uuid, peer, audit: request.audit, begin: () => manager.shell(uuid, body) }) });
  });

  app.post('/v1/ves/:ve/console', {
    schema: {
      summary: 'Ask for init\'s console; the answer opens one WebSocket within 10 s',
      description: 'First the last lines of the log, then what comes, on channel 1; keys on channel 0. It goes on over reboots and ends with status 0 when the VE has stopped.',
      tags, params: schemas.VeParams, querystring: schemas.NoQuery, body: schemas.ConsoleBody,
      response: answers({ 200: schemas.SessionSecret }, 've.not_found', 've.not_running', 'daemon.overloaded'),
    },
  }, (request, reply) => {
    const { uuid } = manager.view(request.params.ve);
    const { body, peer } = request;
    request.audit = { program: 'console' };
    return reply.send({ session: sessions.add({ ve: uuid, peer, audit: request.audit, begin: () => manager.console(uuid, body) }) });
  });

  app.post('/v1/ves/:ve/files/read', {
    schema: {
      summary: 'Ask for files of a VE; the answer opens one WebSocket within 10 s',
      description: 'They come on channel 1; status 0 at the end means that all has come, 1 that something changed meanwhile.',
      tags, params: schemas.VeParams, querystring: schemas.NoQuery, body: schemas.ReadBody, response: answers({ 200: schemas.SessionSecret }, ...EXEC_ERRORS),
    },
  }, (request, reply) => {
    const { uuid } = checkEnterable(manager.view(request.params.ve));
    const { body, peer } = request;
    request.audit = { program: 'read files', path: body.path };
    return reply.send({ session: sessions.add({ ve: uuid, peer, audit: request.audit, begin: () => manager.readFiles(uuid, body) }) });
  });

  app.post('/v1/ves/:ve/files/write', {
    schema: {
      summary: 'Write files into a VE; the answer opens one WebSocket within 10 s',
      description: 'On channel 0: a tar stream whose last entry is an empty file `end`; or, for content, frames: a line with a number of bytes (1 to 1048576), the bytes, '
        + '..., and the line `end`. Status 0 at the end means that everything is at its place.',
      tags, params: schemas.VeParams, querystring: schemas.NoQuery, body: schemas.WriteBody, response: answers({ 200: schemas.SessionSecret }, ...EXEC_ERRORS),
    },
  }, (request, reply) => {
    const { uuid } = checkEnterable(manager.view(request.params.ve));
    const { body, peer } = request;
    request.audit = { program: 'write files', path: body.path };
    return reply.send({ session: sessions.add({ ve: uuid, peer, audit: request.audit, begin: () => manager.writeFiles(uuid, body) }) });
  });

  app.route({
    method: 'GET',
    url: '/v1/sessions/:session',
    schema: {
      summary: 'WebSocket of a session',
      description: 'Binary frames; the first byte is the channel: 0 stdin, 1 stdout, 2 stderr, 3 control (JSON). Control from the client: '
        + '{"type":"resize","columns","rows"}, {"type":"signal","signal"}, {"type":"eof"}; from the daemon, as the last frame: {"type":"exit","code"} or {"type":"error","error"}.',
      tags, params: schemas.SessionParams, querystring: schemas.NoQuery,
      response: answers({ 101: { type: 'null', description: 'The connection is a WebSocket now' } }, 'session.invalid', 'daemon.overloaded'),
    },
    preHandler: (request, _reply, done) => {
      if (!request.ws) throw new VeldError('request.invalid', 'A session is a WebSocket: ask for an upgrade.');
      const pending = sessions.take(request.params.session, request.peer);
      taken.set(request.raw, { pending, release: admitSession(metrics) });
      done();
    },
    handler: () => { throw new VeldError('request.invalid', 'A session is a WebSocket: ask for an upgrade.'); },
    wsHandler: (ws: WebSocket, request) => {
      const { pending, release } = taken.get(request.raw)!;
      const log = (request.log as unknown as Logger).child({ ve: pending.ve });
      const audit = { audit: true, peer: request.peer, ...pending.audit };
      log.info(audit, 'session begun');
      void bridgeSession(ws, () => pending.begin(), log, stop.signal)
        .then((exitCode) => log.info({ ...audit, exitCode }, 'session ended'))
        .finally(release);
    },
  });
}
