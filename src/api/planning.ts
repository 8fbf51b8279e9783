/** Routes of what this node can carry, and of presets. */
import { Type } from '@fastify/type-provider-typebox';
import { formatProperty } from '../spec/properties.ts';
import { answers } from './errors.ts';
import { NoQuery, nullable } from './schemas.ts';
import type { Api, ApiDeps, RouteContext } from './types.ts';

const tags = ['system'];
const figure = nullable(Type.Number());
const promised = {
  total: Type.Number({ description: 'Of the host' }), promised: Type.Number({ description: 'By the limits of VEs that run' }), promisedToAll: Type.Number({ description: 'And of all that there are' }),
  ratio: Type.Number({ description: '`promised` of `total`: 1 is all of it' }), unlimited: Type.Integer({ description: 'VEs that run without a limit; they count for nothing above' }),
  used: nullable(Type.Number({ description: 'By VEs, together' })),
};

export const CapacitySchema = Type.Object({
  cpu: Type.Object({ cpus: Type.Integer(), ...promised }, { description: 'Percent of one CPU' }),
  memory: Type.Object({ ...promised, cache: figure, available: Type.Number({ description: 'As MemAvailable of /proc/meminfo' }) }, { description: 'Bytes; `used` without `cache`, which goes when there is need' }),
  memoryAndSwap: Type.Object(promised, { description: 'Bytes' }),
  disk: Type.Object({ total: Type.Number(), free: Type.Number() }, { description: 'Bytes of the file system that holds the VEs' }),
  ves: Type.Array(Type.Object({
    name: Type.String(), running: Type.Boolean(), cpuWeight: Type.Integer(), cpuPercent: figure, memoryBytes: figure, swapBytes: figure,
    used: nullable(Type.Object({ cpuPercent: figure, memoryBytes: figure, cacheBytes: figure, swapBytes: figure })),
    cpuShare: nullable(Type.Number({ description: 'What it gets of the CPUs when all want everything' })),
  })),
}, { title: 'Capacity' });

export const PresetSchema = Type.Object({
  name: Type.String(), description: Type.String(), properties: Type.Record(Type.String(), Type.Unknown()), file: Type.String(),
  ignored: Type.Array(Type.String(), { description: 'Keys of a sample of OpenVZ for which there is no property' }),
  shipped: Type.Boolean({ description: 'It came with Veld; false: it is the administrator\'s' }), error: nullable(Type.String({ description: 'Why it cannot be used' })),
}, { title: 'Preset' });

const PresetParams = Type.Object({ preset: Type.String({ pattern: '^[!-.0-~]{1,100}$', description: 'Name of the preset' }) }, { additionalProperties: false });

/** Add the routes. */
export function planningRoutes(app: Api, { deps }: RouteContext): void {
  app.get('/v1/capacity', {
    schema: { summary: 'What of this node is promised to VEs, and what they use', tags, querystring: NoQuery, response: answers({ 200: CapacitySchema }) },
  }, (_request, reply) => reply.send(deps.planning.capacity()));

  app.get('/v1/presets', {
    schema: { summary: 'All presets', tags, querystring: NoQuery, response: answers({ 200: Type.Array(PresetSchema) }) },
  }, (_request, reply) => reply.send(deps.planning.presets()));

  app.get('/v1/presets/:preset', {
    schema: { summary: 'One preset', tags, params: PresetParams, querystring: NoQuery, response: answers({ 200: PresetSchema }, 'preset.not_found', 'preset.invalid') },
  }, (request, reply) => reply.send(deps.planning.preset(request.params.preset)));
}

/** Properties of a preset below those that are given beside it. As texts: in a change, null would unset. @throws VeldError `preset.not_found`, `preset.invalid` */
export function withPreset(deps: Pick<ApiDeps, 'planning'>, preset: string | undefined, given: Record<string, unknown> = {}): Record<string, unknown> {
  if (preset === undefined) return given;
  const { properties } = deps.planning.preset(preset);
  return { ...Object.fromEntries(Object.entries(properties).map(([name, value]) => [name, formatProperty(name, value)])), ...given };
}
