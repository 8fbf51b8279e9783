/** The stream of events. */
import type { WebSocket } from 'ws';
import { answers } from './errors.ts';
import * as schemas from './schemas.ts';
import { VeldError } from '../lib/errors.ts';
import type { EventBus } from '../ops/events.ts';
import type { VeldEvent } from '../ops/types.ts';
import type { Api, RouteContext } from './types.ts';

/** Bytes that may wait for a slow listener before it is sent away; it comes back with `since`. */
const BACKLOG_LIMIT = 4 << 20;
/** Status codes of WebSocket: try again later. */
const TRY_AGAIN_LATER = 1013;
/** Clients send nothing here. */
const POLICY_VIOLATION = 1008;

/** Add `/v1/events`. */
export function eventRoutes(app: Api, { deps }: RouteContext): void {
  const needsUpgrade = (): never => { throw new VeldError('request.invalid', 'Events come by WebSocket: ask for an upgrade.'); };
  app.route({
    method: 'GET',
    url: '/v1/events',
    schema: {
      summary: 'WebSocket of events',
      description: 'One event a text message. Where events that `since` asks for are no longer kept, the first message is of the type `events.lost`.',
      tags: ['events'], querystring: schemas.EventsQuery, response: answers({ 101: { ...schemas.EventSchema, description: 'The connection is a WebSocket now' } }),
    },
    preHandler: (request, _reply, done) => {
      if (!request.ws) needsUpgrade();
      done();
    },
    handler: needsUpgrade,
    wsHandler: (ws, request) => serveEvents(ws, deps.events, request.query.since),
  });
}

/** Send the kept events after `since`, then each new one. */
function serveEvents(ws: WebSocket, events: EventBus, since: number | undefined): void {
  const send = (event: VeldEvent): void => {
    if (ws.readyState !== ws.OPEN) return;
    ws.send(JSON.stringify(event));
    if (ws.bufferedAmount > BACKLOG_LIMIT) ws.close(TRY_AGAIN_LATER, 'too slow');
  };
  ws.on('message', () => ws.close(POLICY_VIOLATION, 'nothing is read here'));
  if (since !== undefined) {
    const kept = events.since(since);
    const oldest = kept[0]?.seq ?? events.last + 1;
    // A higher number than the last one comes from an earlier daemon.
    if (since > events.last || oldest > since + 1) {
      send({ seq: since > events.last ? 0 : oldest - 1, time: new Date().toISOString(), type: 'events.lost' });
    }
    for (const event of since > events.last ? events.since(0) : kept) send(event);
  }
  ws.on('close', events.subscribe(send));
}
