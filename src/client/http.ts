/** Requests to the daemon and their answers, in Veld's errors. */
import type { Readable } from 'node:stream';
import { exchange, type Answer } from './exchange.ts';
import { VeldError, type ErrorBody } from '../lib/errors.ts';

/** Largest answer that is taken in whole, in bytes. */
const ANSWER_LIMIT = 256 << 20;

/** Errors of connecting, in words that name the socket. */
export function connectionError(error: NodeJS.ErrnoException, socket: string): VeldError {
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    return new VeldError('daemon.unreachable', `You may not use the socket ${socket}.`, { cause: error, hint: 'Use sudo, or join the group that owns the socket (it equals root).' });
  }
  const why = error.code === 'ENOENT' || error.code === 'ECONNREFUSED' ? 'nobody answers' : error.message;
  return new VeldError('daemon.unreachable', `The daemon cannot be reached at ${socket}: ${why}.`, { cause: error });
}

/** The error in an answer's body; a body of another shape becomes `internal`. */
export function answerError(status: number, text: string): VeldError {
  try {
    const { error } = JSON.parse(text) as { error: ErrorBody };
    if (typeof error.code === 'string' && typeof error.message === 'string') return VeldError.fromBody(error);
  } catch { /* not ours */ }
  return new VeldError('internal', `The daemon answered with HTTP status ${status}.`, { details: { body: text.slice(0, 500) } });
}

/**
 * Send a request.
 * @param body JSON value; undefined sends none
 * @returns the answer once its headers have come; its body is still to be read
 * @throws VeldError `daemon.unreachable`
 */
export async function send(socket: string, method: string, path: string, body?: unknown): Promise<Answer> {
  try {
    return await exchange(socket, method, path, body === undefined ? undefined : Buffer.from(JSON.stringify(body)));
  } catch (error) {
    throw connectionError(error as NodeJS.ErrnoException, socket);
  }
}

/** Read an answer to its end. @throws VeldError `daemon.unreachable` when it breaks off */
export async function readAll(answer: Readable, socket: string): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > ANSWER_LIMIT) break;
    }
  } catch (error) {
    throw connectionError(error as NodeJS.ErrnoException, socket);
  }
  if (size > ANSWER_LIMIT) throw new VeldError('internal', 'The answer of the daemon is too large.');
  return Buffer.concat(chunks).toString('utf8');
}

/** Lines of an answer as they come. A connection that breaks ends the lines. */
export async function* readLines(answer: Readable): AsyncGenerator<string> {
  let rest = '';
  answer.setEncoding('utf8');
  try {
    for await (const chunk of answer as AsyncIterable<string>) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      yield* lines;
    }
  } catch { /* the caller sees that the last line was not the last record */ }
}
