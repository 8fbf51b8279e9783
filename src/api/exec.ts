/** Routes that run commands in VEs. */
import { isUtf8 } from 'node:buffer';
import { setMaxListeners } from 'node:events';
import { finished } from 'node:stream/promises';
import type { WebSocket } from 'ws';
import { answers } from './errors.ts';
import { bridgeSession } from './exec-bridge.ts';
import * as schemas from './schemas.ts';
import { VeldError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { ExecSession } from '../ve/types.ts';
import type { PendingSession } from './sessions.ts';
import type { Api, RouteContext } from './types.ts';

/** What is kept of each output of a command whose whole output was asked for, in bytes. */
const OUTPUT_LIMIT = 1 << 20;
/** Bytes of a body: 1 MiB of standard input, as JSON, and the command beside it. */
const EXEC_BODY_LIMIT = 8 << 20;
/** Commands that may run at a time through the API. */
const RUNNING_LIMIT = 512;

const EXEC_ERRORS = ['ve.not_found', 've.not_running', 've.frozen', 've.busy', 'exec.not_found', 'exec.not_executable', 'exec.failed', 'engine.missing',
  'daemon.overloaded'] as const;

/** Add the routes for commands. */
export function execRoutes(app: Api, { deps, sessions, metrics }: RouteContext): void {
  const taken = new WeakMap<object, PendingSession>();
  // Commands do not outlive the daemon that passes on their streams.
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  app.addHook('preClose', (done) => {
    stop.abort();
    done();
  });
  const admit = (): void => {
    if (metrics.runningCommands >= RUNNING_LIMIT) throw new VeldError('daemon.overloaded', `${RUNNING_LIMIT} commands run already.`);
    metrics.runningCommands += 1;
  };

  app.post('/v1/ves/:ve/exec', {
    bodyLimit: EXEC_BODY_LIMIT,
    schema: {
      summary: 'Run a command and return its whole output (at most 1 MiB of each stream)',
      tags: ['exec'], params: schemas.VeParams, querystring: schemas.NoQuery, body: schemas.ExecBody, response: answers({ 200: schemas.ExecResult }, ...EXEC_ERRORS),
    },
  }, async (request, reply) => {
    const { stdin, ...command } = request.body;
    request.audit = describe(command);
    admit();
    try {
      const session = await deps.manager.exec(request.params.ve, command);
      const gone = (): void => { if (!reply.raw.writableEnded) session.kill('SIGHUP'); };
      reply.raw.once('close', gone);
      stop.signal.addEventListener('abort', gone);
      if (reply.raw.destroyed) gone();
      const result = await collect(session, stdin).finally(() => stop.signal.removeEventListener('abort', gone));
      reply.raw.off('close', gone);
      request.audit.exitCode = result.exitCode;
      return result;
    } finally {
      metrics.runningCommands -= 1;
    }
  });

  app.post('/v1/ves/:ve/sessions', {
    bodyLimit: EXEC_BODY_LIMIT,
    schema: {
      summary: 'Ask for a command with streams; the answer opens one WebSocket within 10 s',
      tags: ['exec'], params: schemas.VeParams, querystring: schemas.NoQuery, body: schemas.SessionBody, response: answers({ 200: schemas.SessionSecret }, ...EXEC_ERRORS),
    },
  }, (request, reply) => {
    const view = deps.manager.show(request.params.ve);
    if (view.status === 'frozen') throw new VeldError('ve.frozen', `${view.name} is frozen.`);
    if (view.status !== 'running') throw new VeldError('ve.not_running', `${view.name} is ${view.status}.`);
    request.audit = describe(request.body);
    // By UUID: another VE may have the name when the session begins.
    return reply.send({ session: sessions.add({ ve: view.uuid, request: request.body, peer: request.peer }) });
  });

  app.route({
    method: 'GET',
    url: '/v1/sessions/:session',
    schema: {
      summary: 'WebSocket of a session',
      description: 'Binary frames; the first byte is the channel: 0 stdin, 1 stdout, 2 stderr, 3 control (JSON). Control from the client: '
        + '{"type":"resize","columns","rows"}, {"type":"signal","signal"}, {"type":"eof"}; from the daemon, as the last frame: {"type":"exit","code"} or {"type":"error","error"}.',
      tags: ['exec'], params: schemas.SessionParams, querystring: schemas.NoQuery,
      response: answers({ 101: { type: 'null', description: 'The connection is a WebSocket now' } }, 'session.invalid', 'daemon.overloaded'),
    },
    preHandler: (request, _reply, done) => {
      if (!request.ws) throw new VeldError('request.invalid', 'A session is a WebSocket: ask for an upgrade.');
      taken.set(request.raw, sessions.take(request.params.session, request.peer));
      admit();
      done();
    },
    handler: () => { throw new VeldError('request.invalid', 'A session is a WebSocket: ask for an upgrade.'); },
    wsHandler: (ws: WebSocket, request) => {
      const pending = taken.get(request.raw) as PendingSession;
      const log = (request.log as unknown as Logger).child({ ve: pending.ve });
      const audit = { audit: true, peer: request.peer, ...describe(pending.request) };
      log.info(audit, 'session begun');
      void bridgeSession(ws, () => deps.manager.exec(pending.ve, pending.request), log, stop.signal)
        .then((exitCode) => log.info({ ...audit, exitCode }, 'session ended'))
        .finally(() => { metrics.runningCommands -= 1; });
    },
  });
}

/** What the audit log says of a command: arguments and environment may hold secrets. */
function describe(request: { command: string[]; user?: string; tty?: unknown }): Record<string, unknown> {
  return { program: request.command[0]?.slice(0, 200), arguments: request.command.length - 1, user: request.user ?? 'root', terminal: request.tty != null };
}

async function collect(session: ExecSession, stdin: string | undefined) {
  session.stdin.on('error', () => {}); // the command may end without reading
  if (stdin === undefined) session.stdin.end();
  else session.stdin.end(stdin);
  const [stdout, stderr, exitCode] = await Promise.all([bounded(session.stdout), bounded(session.stderr), session.exit]);
  return {
    exitCode,
    stdout: stdout.text,
    stderr: stderr.text,
    encoding: { stdout: stdout.encoding, stderr: stderr.encoding },
    truncated: stdout.truncated || stderr.truncated,
  };
}

/** Read a stream to its end and keep its beginning. */
async function bounded(stream: NodeJS.ReadableStream | null): Promise<{ text: string; encoding: 'utf8' | 'base64'; truncated: boolean }> {
  const chunks: Buffer[] = [];
  let size = 0;
  if (stream) {
    stream.on('data', (chunk: Buffer) => {
      if (size < OUTPUT_LIMIT) chunks.push(chunk.subarray(0, OUTPUT_LIMIT - size));
      size += chunk.length;
    });
    await finished(stream, { writable: false }).catch(() => {});
  }
  let bytes: Buffer = Buffer.concat(chunks);
  const truncated = size > OUTPUT_LIMIT;
  // A cut in the middle of a character does not make text binary.
  const cut = truncated ? [0, 1, 2, 3].find((count) => isUtf8(bytes.subarray(0, bytes.length - count))) : 0;
  bytes = bytes.subarray(0, bytes.length - (cut ?? 0));
  const encoding = isUtf8(bytes) ? 'utf8' : 'base64';
  return { text: bytes.toString(encoding), encoding, truncated };
}
