/** Listens to the daemon's events. */
import { once } from 'node:events';
import type { VeldEvent } from '../../src/ops/types.ts';
import type { Api } from './http.ts';
import { until } from './wait.ts';

export interface Listener {
  /** All that came so far. */
  readonly events: readonly VeldEvent[];
  /** Wait for an event of this type, come or to come. */
  next(type: string, timeout?: number): Promise<VeldEvent>;
  close(): void;
}

/** Listen from now on. @param since also to those that are kept after this number: 0 is all */
export async function listen(api: Api, since?: number): Promise<Listener> {
  const socket = api.socket(since === undefined ? '/v1/events' : `/v1/events?since=${since}`);
  const events: VeldEvent[] = [];
  socket.on('message', (data: Buffer) => events.push(JSON.parse(data.toString('utf8')) as VeldEvent));
  socket.on('error', () => {});
  await once(socket, 'open');
  return {
    events,
    next: (type, timeout) => until(`the event ${type}`, () => events.find((event) => event.type === type), timeout),
    close: () => socket.terminate(),
  };
}
