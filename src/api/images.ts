/** Routes of sources of templates, and of the images that they offer. */
import { Type } from '@fastify/type-provider-typebox';
import { answerOperation, operationAnswers } from './answer-operation.ts';
import { answers } from './errors.ts';
import { newName, NoQuery, nullable, TemplateParams, WaitQuery } from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['templates'];
const closed = { additionalProperties: false };
const text = nullable(Type.String());

export const SourceSchema = Type.Object({
  name: Type.String(), description: Type.String(), protocol: Type.Enum(['simplestreams', 'precreated']), urls: Type.Array(Type.String(), { description: 'Addresses with the same content' }),
  keyring: nullable(Type.String({ description: 'File with the keys that may sign' })), trust: Type.Enum(['signature', 'https'], { description: 'signature: what is not signed is refused' }),
  ca: nullable(Type.String({ description: 'File with the certificates to check its TLS against' })), order: Type.Integer({ description: 'Lower ones are asked first' }), file: Type.String(),
  shipped: Type.Boolean({ description: 'It came with Veld; false: it is the administrator\'s' }), error: nullable(Type.String({ description: 'Why it cannot be used' })),
}, { title: 'Source' });

export const ImagesSchema = Type.Object({
  images: Type.Array(Type.Object({
    name: Type.String({ description: 'What to ask for it by' }), source: Type.String(), product: Type.String({ description: 'The same for all its versions' }), serial: Type.String({ description: 'Its version' }),
    os: Type.String(), release: Type.String(), codename: text, variant: Type.String(), architecture: Type.String(), title: Type.String(), aliases: Type.Array(Type.String()),
    endOfLife: nullable(Type.String({ description: 'YYYY-MM-DD' })), fingerprint: nullable(Type.String({ description: 'As Incus has it: sha256 of its files' })), bytes: nullable(Type.Number({ description: 'To be brought' })),
    here: Type.Array(Type.String(), { description: 'Templates here that were made of this version' }),
  })),
  failed: Type.Array(Type.Object({ source: Type.String(), code: Type.String(), message: Type.String() }), { description: 'Sources that could not be asked' }),
}, { title: 'Images' });

const ImagesQuery = Type.Object({
  words: Type.Optional(Type.String({ maxLength: 500, description: 'Words, with spaces between, that must all be in its names or title' })), source: Type.Optional(Type.String({ maxLength: 100 })),
  all: Type.Optional(Type.Boolean({ description: 'Also those for other machines, and older versions' })),
}, closed);

const image = Type.String({ minLength: 1, maxLength: 200, description: '`ubuntu:24.04`, `debian:12/cloud`, `SOURCE:NAME`, a product; `@VERSION` for one that is not the newest; `docker://HOST/PATH:TAG`, `oci:FOLDER:TAG`' });
const PullBody = Type.Object({
  image, name: Type.Optional(newName), architecture: Type.Optional(Type.String({ pattern: '^[a-z0-9]{2,16}$', description: 'As Debian names it; default: this machine\'s' })),
  init: Type.Optional(Type.Boolean({ description: 'false: it may lack /sbin/init and /bin/sh. Default true' })),
  any: Type.Optional(Type.Boolean({ description: 'true: a template of that name and image that is here will do, also an older version' })),
}, { ...closed, title: 'PullRequest', examples: [{ image: 'ubuntu:24.04' }] });
const UpdateBody = Type.Object({ keep: Type.Optional(Type.Boolean({ description: 'The version that is replaced stays, also when no VE stands on it' })) }, { ...closed, title: 'UpdateTemplateRequest', examples: [{ keep: true }] });

const ExportBody = Type.Object({
  file: Type.String({ maxLength: 4095, pattern: '^/[^\\u0000-\\u001f]+$', description: 'Absolute path on the node; the name must be free' }), compress: Type.Optional(Type.Enum(['zstd', 'gzip', 'xz', 'none'], { description: 'Default zstd' })),
}, { ...closed, title: 'ExportTemplateRequest', examples: [{ file: '/srv/debian-12.tar.zst' }] });

const FROM_SOURCES = ['source.not_found', 'source.invalid', 'source.unreachable', 'source.untrusted', 'source.corrupt', 'image.not_found', 'image.ambiguous', 'image.busy', 'template.invalid', 'disk.full'] as const;

/** Add the routes. */
export function imageRoutes(app: Api, { deps }: RouteContext): void {
  const { manager, operations } = deps;

  app.get('/v1/sources', {
    schema: { summary: 'Servers from which templates come', tags, querystring: NoQuery, response: answers({ 200: Type.Array(SourceSchema) }) },
  }, (_request, reply) => reply.send(manager.sources()));

  app.get('/v1/images', {
    schema: { summary: 'What they offer', tags, querystring: ImagesQuery, response: answers({ 200: ImagesSchema }, 'source.not_found', 'source.invalid') },
  }, async (request, reply) => {
    const { words, ...search } = request.query;
    return reply.send(await manager.images({ ...search, ...words !== undefined && { words: words.split(/\s+/).filter(Boolean) } }));
  });

  app.post('/v1/templates/pull', {
    schema: { summary: 'Make a template of an image that a source offers', tags, querystring: WaitQuery, body: PullBody, response: operationAnswers('request.invalid', 'name.invalid', 'template.name_taken', ...FROM_SOURCES) },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.pullTemplate(request.body, request.id), request.query.wait);
  });

  app.post('/v1/templates/:template/export', {
    schema: { summary: 'Write a template into a file that Incus, LXD and other nodes take', tags, params: TemplateParams, querystring: WaitQuery, body: ExportBody, response: operationAnswers('template.not_found', 'export.file', 'disk.full') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.exportTemplate(request.params.template, request.body, request.id), request.query.wait);
  });

  app.post('/v1/templates/:template/update', {
    schema: { summary: 'Bring the newest version of a template that came from a source', tags, params: TemplateParams, querystring: WaitQuery, body: UpdateBody, response: operationAnswers('template.not_found', ...FROM_SOURCES) },
  }, (request, reply) => answerOperation(reply, operations, manager.updateTemplate(request.params.template, request.body, request.id), request.query.wait));
}
