/** Routes that run commands in VEs. */
import { isUtf8 } from 'node:buffer';
import { setMaxListeners } from 'node:events';
import { finished } from 'node:stream/promises';
import { admitSession, checkEnterable, describeCommand, EXEC_ERRORS } from './admission.ts';
import { answers } from './errors.ts';
import { execSocketRoute } from './exec-socket.ts';
import * as schemas from './schemas.ts';
import type { ExecSession } from '../ve/types.ts';
import type { Api, RouteContext } from './types.ts';

/** What is kept of each output of a command whose whole output was asked for, in bytes. */
const OUTPUT_LIMIT = 1 << 20;
/** Bytes of a body: 1 MiB of standard input, as JSON, and the command beside it. */
const EXEC_BODY_LIMIT = 8 << 20;

/** Add the routes for commands. */
export function execRoutes(app: Api, context: RouteContext): void {
  const { deps, sessions, metrics } = context;
  // Commands do not outlive the daemon that passes on their streams.
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  app.addHook('preClose', (done) => {
    stop.abort();
    done();
  });

  app.post('/v1/ves/:ve/exec', {
    bodyLimit: EXEC_BODY_LIMIT,
    schema: {
      summary: 'Run a command and return its whole output (at most 1 MiB of each stream)',
      tags: ['exec'], params: schemas.VeParams, querystring: schemas.NoQuery, body: schemas.ExecBody, response: answers({ 200: schemas.ExecResult }, ...EXEC_ERRORS),
    },
  }, async (request, reply) => {
    const { stdin, ...command } = request.body;
    request.audit = describeCommand(command);
    const release = admitSession(metrics);
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
      release();
    }
  });

  execSocketRoute(app, context, stop.signal);

  app.post('/v1/ves/:ve/sessions', {
    bodyLimit: EXEC_BODY_LIMIT,
    schema: {
      summary: 'Ask for a command with streams; the answer opens one WebSocket within 10 s',
      tags: ['exec'], params: schemas.VeParams, querystring: schemas.NoQuery, body: schemas.SessionBody, response: answers({ 200: schemas.SessionSecret }, ...EXEC_ERRORS),
    },
  }, (request, reply) => {
    const { uuid } = checkEnterable(deps.manager.view(request.params.ve));
    request.audit = describeCommand(request.body);
    return reply.send({ session: sessions.add({ ve: uuid, peer: request.peer, audit: request.audit, begin: () => deps.manager.exec(uuid, request.body) }) });
  });
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
