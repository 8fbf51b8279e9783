/** The client of the daemon's API, for doors and tests. */
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import { answerError, readAll, readLines, send as sendTo } from './http.ts';
import type { Answer } from './exchange.ts';
import type { ErrorBody } from '../lib/errors.ts';
import type { OperationRecord } from '../store/types.ts';
import type { ExecRequest } from '../ve/types.ts';
import type { ExecSession } from './exec-session.ts';
import type { VeldEvent } from './event-stream.ts';

export type { ExecSession } from './exec-session.ts';
export type { VeldEvent } from './event-stream.ts';

/** How long an operation is followed after the daemon has gone: a new one may take its place. Milliseconds. */
const FOLLOW_TIMEOUT = 10_000;
const FOLLOW_INTERVAL = 250;
/** Errors of a daemon that may be back in a moment. */
const AWAY: ReadonlySet<string> = new Set(['daemon.unreachable', 'daemon.stopping', 'node.unreachable']);

/** A door to the daemon. Paths begin with `/v1/` (or are `/v1`, `/metrics`). */
export interface Client {
  /**
   * Ask, and read the answer. A text answer comes as a string.
   * @throws VeldError the daemon's error, or `daemon.unreachable`
   */
  request<T = unknown>(method: string, path: string, body?: unknown): Promise<T>;
  /**
   * Start an operation and wait for its end.
   * @param onProgress called with each record, the first and the last included
   * @returns the record, succeeded
   * @throws VeldError the request's error, or the operation's own
   */
  operation(method: string, path: string, body?: unknown, onProgress?: (record: OperationRecord) => void): Promise<OperationRecord>;
  /**
   * Ask for an answer that comes as one JSON value a line.
   * @throws VeldError the daemon's error, or `daemon.unreachable`; a connection that breaks ends the lines
   */
  lines<T = unknown>(method: string, path: string): AsyncGenerator<T>;
  /** Begin a command in a VE. @throws VeldError what the daemon says */
  exec(ve: string, request: ExecRequest): Promise<ExecSession>;
  /**
   * Begin another session: what it is says the route below the VE's.
   * @param tty whether it has one output only, as a terminal has
   * @throws VeldError what the daemon says
   */
  session(ve: string, route: string, request: object, tty: boolean): Promise<ExecSession>;
  /**
   * Events as they happen, until the loop is left or `signal` is aborted.
   * @param options `since`: first the kept events with a higher number
   * @throws VeldError `daemon.unreachable` when the connection breaks
   */
  events(options?: { since?: number; signal?: AbortSignal }): AsyncGenerator<VeldEvent>;
}

/**
 * Make a client. Nothing is opened before the first call.
 * @param socket path of the daemon's socket
 * @param node name of another node, whose API is meant: the daemon passes everything on to it
 */
export function createClient(socket: string, node?: string): Client {
  const prefix = node === undefined ? '' : `/v1/nodes/${encodeURIComponent(node)}/api`;
  const send = (socket: string, method: string, path: string, body?: unknown): Promise<Answer> => sendTo(socket, method, prefix + path, body);
  const request = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const answer = await send(socket, method, path, body);
    const text = await readAll(answer, socket);
    const status = answer.statusCode ?? 0;
    if (status >= 400) throw answerError(status, text);
    if (!(answer.headers['content-type'] ?? '').startsWith('application/json')) return text as T;
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw new VeldError('internal', 'The answer of the daemon is not JSON.', { cause: error });
    }
  };

  /** The daemon went away in the middle: ask the next one what became of the operation. */
  const follow = async (record: OperationRecord, onProgress?: (record: OperationRecord) => void): Promise<OperationRecord> => {
    let last = record;
    let until = performance.now() + FOLLOW_TIMEOUT;
    while (last.endedAt === null) {
      await sleep(FOLLOW_INTERVAL);
      try {
        last = await request<OperationRecord>('GET', `/v1/operations/${record.id}`);
        until = performance.now() + FOLLOW_TIMEOUT;
        onProgress?.(last);
      } catch (error) {
        if (!(error instanceof VeldError) || !AWAY.has(error.code) || performance.now() > until) throw error;
      }
    }
    return last;
  };

  const begin = async (ve: string, route: string, asked: object, tty: boolean): Promise<ExecSession> => {
    const { session } = await request<{ session: string }>('POST', `/v1/ves/${encodeURIComponent(ve)}/${route}`, asked);
    const { openExecSession } = await import('./exec-session.ts');
    return openExecSession(socket, `${prefix}/v1/sessions/${session}`, tty);
  };

  /** In one round trip where the request is not too long for that. */
  const exec = async (ve: string, asked: ExecRequest): Promise<ExecSession> => {
    const { openExecSession, REQUEST_LIMIT } = await import('./exec-session.ts');
    const tty = asked.tty != null;
    const text = JSON.stringify(asked);
    if (Buffer.byteLength(text) > REQUEST_LIMIT) return begin(ve, 'sessions', asked, tty);
    return openExecSession(socket, `${prefix}/v1/ves/${encodeURIComponent(ve)}/exec`, tty, text);
  };

  return {
    request,
    async operation(method, path, body, onProgress) {
      const answer = await send(socket, method, `${path}${path.includes('?') ? '&' : '?'}wait=1`, body);
      const status = answer.statusCode ?? 0;
      if (status >= 400) throw answerError(status, await readAll(answer, socket));
      let last: OperationRecord | undefined;
      for await (const line of readLines(answer)) {
        if (line === '') continue;
        last = JSON.parse(line) as OperationRecord;
        onProgress?.(last);
      }
      if (!last) throw new VeldError('daemon.unreachable', `The daemon at ${socket} went away before it answered.`);
      if (last.endedAt === null) last = await follow(last, onProgress);
      if (last.state === 'succeeded') return last;
      throw VeldError.fromBody((last.error ?? { code: 'internal', message: `The operation ended ${last.state}.`, hint: 'Look at the daemon log.' }) as ErrorBody);
    },
    exec,
    session: begin,
    async *lines<T>(method: string, path: string) {
      const answer = await send(socket, method, path);
      const status = answer.statusCode ?? 0;
      if (status >= 400) throw answerError(status, await readAll(answer, socket));
      for await (const line of readLines(answer)) if (line !== '') yield JSON.parse(line) as T;
    },
    async *events(options = {}) {
      const { listenToEvents } = await import('./event-stream.ts');
      yield* listenToEvents(socket, options, prefix);
    },
  };
}
