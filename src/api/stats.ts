/** Routes of what VEs have used. */
import { Type } from '@fastify/type-provider-typebox';
import { COUNTERS, GAUGES, SPANS, type Span } from '../resources/history/fields.ts';
import { answers } from './errors.ts';
import { nullable, Ve, VeParams } from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const time = Type.String({ description: 'ISO 8601' });
const figure = nullable(Type.Number());
const figures = (names: readonly string[], description: string) => Type.Object(Object.fromEntries(names.map((name) => [name, figure])), { description });
const { uuid, number, name, status } = Ve.properties;

/** Answer of the route. */
export const VeStatsSchema = Type.Object({
  uuid, number, name, status,
  limits: Type.Object({ cpuPercent: figure, memoryBytes: figure, swapBytes: figure, tasks: figure }),
  sample: nullable(Type.Object({
    time, gauges: figures(GAUGES, 'As they are'), counters: figures(COUNTERS, 'Since the VE was started'),
    rates: nullable(figures(COUNTERS, 'Growth per second since the sample before')),
  }, { description: 'At most a second old; null while the VE does not run' })),
  history: nullable(Type.Object({
    resolution: Type.Integer({ description: 'Seconds from one point to the next' }),
    points: Type.Array(Type.Object({
      time, seconds: Type.Number({ description: 'For how many of its seconds there are samples' }),
      gauges: Type.Object(Object.fromEntries(GAUGES.map((gauge) => [gauge, Type.Object({ min: figure, mean: figure, max: figure })]))),
      counters: figures(COUNTERS, 'By how much each grew'),
    }), { description: 'Oldest first; the last one is still growing' }),
  })),
}, { title: 'VeStats' });

const StatsQuery = Type.Object({ history: Type.Optional(Type.Enum(Object.keys(SPANS) as Span[], { description: 'Seconds of ten minutes, minutes of a day, or quarters of an hour of 30 days' })) },
  { additionalProperties: false });

/** Add the routes. */
export function statsRoutes(app: Api, { deps }: RouteContext): void {
  app.get('/v1/ves/:ve/stats', {
    schema: {
      summary: 'What a VE uses and has used', description: 'Figures are null where the host does not count them. One sampler reads them once a second, whoever asks.',
      tags: ['ves'], params: VeParams, querystring: StatsQuery, response: answers({ 200: VeStatsSchema }, 've.not_found'),
    },
  }, (request, reply) => reply.send(deps.stats.of(request.params.ve, request.query.history)));
}
