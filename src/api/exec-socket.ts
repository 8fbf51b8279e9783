/**
 * A command in one round trip: the WebSocket's first frame asks for it, and the socket carries its streams.
 *
 * Nothing waits to be taken up here, so there is no secret: the command begins with its client there, and gets SIGHUP when that goes. Who may ask is who may
 * connect, as everywhere. A browser, which can be made to open a WebSocket by any page, says so (Origin), and is refused: it has POST .../sessions.
 */
import type { RawData, WebSocket } from 'ws';
import { Compile } from 'typebox/compile';
import { admitSession, checkEnterable, describeCommand, EXEC_ERRORS } from './admission.ts';
import { answers, toApiError } from './errors.ts';
import { bridgeSession, CHANNEL, frame, toBuffer } from './exec-bridge.ts';
import * as schemas from './schemas.ts';
import { VeldError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { ExecRequest } from '../ve/types.ts';
import type { Api, RouteContext } from './types.ts';

/** How long the first frame may take, in milliseconds. */
const PATIENCE = 10_000;

const sessionBody = Compile(schemas.SessionBody);

/** Add the route. @param stop aborted when the daemon stops */
export function execSocketRoute(app: Api, { deps, metrics }: RouteContext, stop: AbortSignal): void {
  const admitted = new WeakMap<object, { uuid: string; release: () => void }>();
  const parseJson = app.getDefaultJsonParser('error', 'error');

  /** @throws VeldError `request.invalid` */
  const read = (request: Parameters<typeof parseJson>[0], data: RawData, isBinary: boolean): ExecRequest => {
    const bytes = toBuffer(data);
    let body: unknown;
    if (isBinary && bytes[0] === CHANNEL.control) {
      // Answers before it returns.
      void parseJson(request, bytes.toString('utf8', 1), (error, value) => {
        if (error) throw toApiError(error);
        body = value;
      });
    }
    if (sessionBody.Check(body)) return body;
    throw toApiError({ validation: sessionBody.Errors(body) });
  };

  app.route({
    method: 'GET',
    url: '/v1/ves/:ve/exec',
    schema: {
      summary: 'WebSocket that asks for a command and carries its streams',
      description: 'The first frame, on channel 3, is the request as JSON, as POST .../sessions takes it; it may be sent with the handshake, and must come within 10 s. '
        + 'From then on it is a session: see /v1/sessions/. What is wrong with the request itself comes as the last frame. Not for browsers: a request with an Origin is refused.',
      tags: ['exec'], params: schemas.VeParams, querystring: schemas.NoQuery,
      response: answers({ 101: { type: 'null', description: 'The connection is a WebSocket now' } }, ...EXEC_ERRORS),
    },
    preHandler: (request, _reply, done) => {
      if (!request.ws) throw new VeldError('request.invalid', 'This is a WebSocket: ask for an upgrade, or POST.');
      if (request.headers.origin !== undefined) throw new VeldError('request.invalid', 'Browsers ask for a session first.');
      if (deps.stopping?.()) throw new VeldError('daemon.stopping', 'The daemon is stopping.'); // it begins something, though it is a GET
      const { uuid } = checkEnterable(deps.manager.view(request.params.ve));
      admitted.set(request.raw, { uuid, release: admitSession(metrics) });
      done();
    },
    handler: () => { throw new VeldError('request.invalid', 'This is a WebSocket: ask for an upgrade, or POST.'); },
    wsHandler: (ws: WebSocket, request) => {
      const { uuid, release } = admitted.get(request.raw)!;
      const log = (request.log as unknown as Logger).child({ ve: uuid });
      const over = (): void => {
        clearTimeout(late);
        release();
      };
      const refuse = (error: unknown): void => {
        ws.send(frame(CHANNEL.control, JSON.stringify({ type: 'error', error: toApiError(error).toBody() })), { binary: true });
        ws.close(1008);
      };
      const late = setTimeout(() => refuse(new VeldError('request.invalid', `No request came within ${PATIENCE / 1000} s.`)), PATIENCE);
      ws.once('close', over);
      ws.once('message', (data, isBinary) => {
        let asked: ExecRequest;
        try {
          asked = read(request, data, isBinary);
        } catch (error) {
          refuse(error);
          return;
        }
        ws.off('close', over);
        clearTimeout(late);
        const audit = { peer: request.peer ?? null, ...describeCommand(asked) };
        // Like the line of a request that changes something: written whatever the log's level is.
        const auditLog = log.child({ audit: true }, { level: 'info' });
        auditLog.info(audit, 'session begun');
        void bridgeSession(ws, () => deps.manager.exec(uuid, asked), log, stop)
          .then((exitCode) => auditLog.info({ ...audit, exitCode }, 'session ended'))
          .finally(release);
      });
    },
  });
}
