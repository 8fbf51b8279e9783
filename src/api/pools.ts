/** Routes of pools, and of the disk quotas of a VE and its users. */
import { Type } from '@fastify/type-provider-typebox';
import { answerOperation, operationAnswers } from './answer-operation.ts';
import { answers } from './errors.ts';
import { NoBody, NoQuery, nullable, VeParams, WaitQuery } from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['pools'];
const closed = { additionalProperties: false } as const;
const figure = nullable(Type.Number());
const held = Type.Union([Type.Literal(true), Type.String({ description: 'Why not' })]);
const limit = (unit: string) => nullable(Type.Object({ soft: figure, hard: figure }, { description: `${unit}; null: unlimited` }));
const limits = Type.Object({ space: limit('Bytes'), inodes: limit('Files, folders and links') });
const account = Type.Object({
  space: Type.Number({ description: 'Bytes' }), inodes: figure,
  spaceUntil: nullable(Type.Number({ description: 'Seconds since 1970: until then it may have more than the soft limit' })), inodesUntil: figure,
});

export const PoolSchema = Type.Object({
  name: Type.String(), path: Type.String(), driver: Type.Enum(['overlay', 'btrfs', 'image']),
  image: nullable(Type.Object({ file: Type.String(), bytes: Type.Number(), fileSystem: Type.Enum(['ext4', 'xfs', 'btrfs']) })),
  createdAt: nullable(Type.String({ description: 'ISO 8601' })),
  room: nullable(Type.Object({ bytes: Type.Number(), freeBytes: Type.Number(), inodes: Type.Number(), freeInodes: Type.Number() }, { description: 'Of its file system; null: it is not there' })),
  holds: nullable(Type.Object({ 'disk.space': held, 'disk.inodes': held, 'disk.users': held, 'soft': held }, { description: 'Which properties can be held there; `soft`: limits that may be exceeded for a while' })),
  ves: Type.Array(Type.String({ description: 'Names of VEs whose disks lie there' })),
  shared: nullable(Type.Object({ bytes: Type.Number(), saves: Type.Number() }, { description: 'Bytes of templates that lie there, and what VEs would take more if each had its own' })),
  reclaimable: nullable(Type.Number({ description: 'Bytes that the file of its image takes and does not need' })),
}, { title: 'Pool' });

const user = Type.Object({ id: Type.Integer({ description: 'As the VE counts' }), name: nullable(Type.String()), limits, used: account });

export const QuotaSchema = Type.Object({
  ve: Type.Object({ limits, used: nullable(account), grace: Type.Integer({ description: 'Seconds' }) }),
  most: Type.Integer({ description: 'How many users and groups may have limits (disk.users)' }), users: Type.Array(user), groups: Type.Array(user),
}, { title: 'Quota' });

const CreatePool = Type.Object({
  name: Type.String({ maxLength: 200 }),
  path: Type.Optional(Type.String({ maxLength: 4095, pattern: '^/[^\\u0000]*$', description: 'Absolute path of an empty folder on the node' })),
  driver: Type.Optional(Type.Enum(['overlay', 'btrfs', 'image'])),
  imageSize: Type.Optional(Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'Bytes: a file system of its own is made, in a file; with the driver image: of the image of a VE without disk.space' })),
  fileSystem: Type.Optional(Type.Enum(['ext4', 'xfs', 'btrfs'])),
}, { ...closed, title: 'PoolRequest', examples: [{ name: 'quota', imageSize: 53687091200 }] });

const PoolParams = Type.Object({ pool: Type.String({ pattern: '^[!-.0-~]{1,100}$', description: 'Name of the pool' }) }, closed);
const UserParams = Type.Object({ ve: VeParams.properties.ve, kind: Type.Enum(['user', 'group']), who: Type.String({ pattern: '^[!-.0-~]{1,100}$', description: 'Name or number, as in the VE' }) }, closed);
const asked = Type.Optional(Type.Unknown({ description: 'One limit, or SOFT:HARD, or {soft, hard}; `unlimited` or null: none. What is left out stays' }));
const SetUser = Type.Object({ space: asked, inodes: asked }, { ...closed, title: 'QuotaRequest', examples: [{ space: '900M:1G', inodes: 10000 }] });

/** Add the routes. */
export function poolRoutes(app: Api, { deps }: RouteContext): void {
  const { manager, operations } = deps;

  app.get('/v1/pools', {
    schema: { summary: 'All pools', tags, querystring: NoQuery, response: answers({ 200: Type.Array(PoolSchema) }) },
  }, (_request, reply) => reply.send(manager.pools()));

  app.get('/v1/pools/:pool', {
    schema: { summary: 'One pool', tags, params: PoolParams, querystring: NoQuery, response: answers({ 200: PoolSchema }, 'pool.not_found') },
  }, (request, reply) => reply.send(manager.pool(request.params.pool)));

  app.post('/v1/pools', {
    schema: { summary: 'Make a pool', tags, querystring: WaitQuery, body: CreatePool, response: operationAnswers('name.invalid', 'pool.name_taken', 'pool.invalid', 'pool.unavailable', 'disk.full') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.createPool(request.body, request.id), request.query.wait);
  });

  app.delete('/v1/pools/:pool', {
    schema: { summary: 'Delete a pool on which nothing lies', tags, params: PoolParams, querystring: WaitQuery, body: NoBody, response: operationAnswers('pool.not_found', 'pool.in_use', 'pool.invalid') },
  }, (request, reply) => answerOperation(reply, operations, manager.deletePool(request.params.pool, request.id), request.query.wait));

  app.get('/v1/ves/:ve/quota', {
    schema: { summary: 'What a VE and its users may have on its disk, and have', tags, params: VeParams, querystring: NoQuery, response: answers({ 200: QuotaSchema }, 've.not_found', 'property.unsupported', 'pool.unavailable') },
  }, async (request, reply) => reply.send(await manager.quota(request.params.ve)));

  app.patch('/v1/ves/:ve/quota/:kind/:who', {
    schema: { summary: 'Limit a user or group of a VE', tags, params: UserParams, querystring: NoQuery, body: SetUser,
      response: answers({ 200: user }, 've.not_found', 've.busy', 'property.invalid', 'property.not_live', 'property.unsupported', 'request.invalid', 'pool.unavailable') },
  }, async (request, reply) => {
    const { ve, kind, who } = request.params;
    request.audit = { kind, who, ...request.body };
    return reply.send(await manager.setQuota(ve, kind, who, request.body));
  });
}
