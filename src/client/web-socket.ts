/** A WebSocket over the daemon's socket. */
import { WebSocket } from 'ws';
import { answerError, connectionError, readAll } from './http.ts';

/**
 * Connect, and wait until it is open.
 * @param prepare called before anything can arrive: the place to attach listeners
 * @throws VeldError the daemon's error, or `daemon.unreachable`
 */
export function openWebSocket(socket: string, path: string, prepare: (ws: WebSocket) => void): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`ws+unix:${socket}:${path}`, { perMessageDeflate: false, maxPayload: 64 << 20 });
    ws.on('unexpected-response', (request, answer) => {
      readAll(answer, socket).then((text) => reject(answerError(answer.statusCode ?? 0, text)), reject).finally(() => request.destroy());
    });
    ws.on('error', (error) => reject(connectionError(error, socket)));
    ws.on('open', () => resolve(ws));
    prepare(ws);
  });
}
