/** Answers of an HTTP server that come early. */
import type { IncomingMessage } from 'node:http';

/** How long what comes after an early answer is thrown away, in milliseconds. */
const LINGER = 1000;

/**
 * Let an answer that comes before its request has ended be read: what still comes is thrown away for a moment. A connection that is closed with bytes unread
 * is reset, and the other side, in the middle of writing, never sees the answer.
 */
export function linger(request: IncomingMessage): void {
  const { socket } = request;
  const close = socket.destroySoon.bind(socket);
  socket.destroySoon = () => {
    if (request.complete || socket.destroyed) return close();
    socket.end();
    request.resume();
    const timer = setTimeout(close, LINGER);
    request.once('close', () => {
      clearTimeout(timer);
      close();
    });
  };
}
