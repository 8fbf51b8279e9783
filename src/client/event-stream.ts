/** Events of the daemon as an endless loop. */
import { VeldError } from '../lib/errors.ts';
import { openWebSocket } from './web-socket.ts';

/** Something that happened. */
export interface VeldEvent {
  /** Increasing, from 1 with each daemon. */
  seq: number;
  /** ISO 8601. */
  time: string;
  /** e.g. `ve.started`; `events.lost`: events that were asked for are no longer kept. */
  type: string;
  /** UUID of the VE, when it is about one. */
  ve?: string;
  data?: Record<string, unknown>;
}

/** See `Client.events`. @param prefix of the path, for another node */
export async function* listenToEvents(socket: string, options: { since?: number; signal?: AbortSignal }, prefix = ''): AsyncGenerator<VeldEvent> {
  const queue: VeldEvent[] = [];
  let closed = false;
  let wake = (): void => {};
  const { signal } = options;
  const ws = await openWebSocket(socket, `${prefix}/v1/events${options.since === undefined ? '' : `?since=${options.since}`}`, (opening) => ({
    message(data) {
      queue.push(JSON.parse(data.toString('utf8')) as VeldEvent);
      if (queue.length > 1000) opening.pause();
      wake();
    },
    close() {
      closed = true;
      wake();
    },
  }));
  const abort = (): void => ws.terminate();
  signal?.addEventListener('abort', abort, { once: true });
  if (signal?.aborted) abort();
  try {
    for (;;) {
      while (queue.length > 0) yield queue.shift() as VeldEvent;
      ws.resume();
      if (signal?.aborted) return;
      if (closed) throw new VeldError('daemon.unreachable', `The connection to the daemon at ${socket} broke.`);
      await new Promise<void>((resolve) => { wake = resolve; });
    }
  } finally {
    signal?.removeEventListener('abort', abort);
    ws.terminate();
  }
}
