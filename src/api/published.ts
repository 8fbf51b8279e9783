/** Routes of templates that this node publishes. */
import { Type } from '@fastify/type-provider-typebox';
import { answerOperation, operationAnswers } from './answer-operation.ts';
import { answers } from './errors.ts';
import { NoQuery, nullable, TemplateParams, WaitQuery } from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['templates'];
const closed = { additionalProperties: false };
const text = nullable(Type.String());
const file = { sha256: Type.String(), size: Type.Number({ description: 'Bytes' }) };

export const PublishedSchema = Type.Object({
  product: Type.String({ description: 'OS:RELEASE:ARCHITECTURE:VARIANT' }), os: Type.String(), release: Type.String(), codename: text, variant: Type.String(), architecture: Type.String(),
  aliases: Type.Array(Type.String(), { description: 'Other names, for Incus and LXD' }), endOfLife: nullable(Type.String({ description: 'YYYY-MM-DD' })),
  versions: Type.Array(Type.Object({
    serial: Type.String({ description: 'YYYYMMDD_HHMMSS, UTC' }), template: Type.Object({ name: Type.String(), fingerprint: Type.String() }, { description: 'Of which it was made; it may be gone' }),
    tree: Type.Object(file), metadata: Type.Object(file), lxc: Type.Object(file), fingerprint: Type.String({ description: 'What Incus and LXD call the image by' }),
    openvz: nullable(Type.Object({ ...file, signature: nullable(Type.String({ description: 'OpenPGP, armored' })) })),
  }), { description: 'Oldest first' }),
}, { title: 'PublishedProduct' });

export const ImageServerSchema = Type.Object({
  url: nullable(Type.String({ description: 'Where others find it; null: it is not to listen' })), error: nullable(Type.String({ description: 'Why it does not listen although it should' })),
  authority: nullable(Type.String({ description: 'Certificate that clients have to trust, PEM; null: they do already, or there is no TLS' })),
  key: nullable(Type.Object({ fingerprint: Type.String(), armored: Type.String({ description: 'Public part' }) }, { description: 'The key that signs the lists; null: nothing is signed' })),
  requests: Type.Number({ description: 'Since the daemon began' }), bytes: Type.Number({ description: 'That were sent since then' }),
}, { title: 'ImageServer' });

const PublishBody = Type.Object({
  as: Type.Optional(Type.String({ minLength: 1, maxLength: 100, description: 'DISTRIBUTION:RELEASE[/VARIANT]; default by the template' })),
  aliases: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 50, description: 'Further names; default: those that it had' })),
  openvz: Type.Optional(Type.Boolean({ description: 'Also as a precreated template of OpenVZ. Default: as its version before' })),
  level: Type.Optional(Type.Integer({ minimum: 0, maximum: 9, description: 'Preset of xz. Default 6' })),
}, { ...closed, title: 'PublishRequest', examples: [{ as: 'debian:12/web', aliases: ['web'] }] });

const UnpublishBody = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 200, description: 'Product, alias, DISTRIBUTION:RELEASE[/VARIANT], or the template of which its newest version was made' }),
  version: Type.Optional(Type.String({ minLength: 1, maxLength: 40, description: 'Only this one' })),
}, { ...closed, title: 'UnpublishRequest', examples: [{ name: 'debian:12/web' }] });

/** Add the routes. */
export function publishedRoutes(app: Api, { deps }: RouteContext): void {
  const { manager, operations } = deps;

  app.get('/v1/published', {
    schema: { summary: 'Templates that this node publishes', tags, querystring: NoQuery, response: answers({ 200: Type.Array(PublishedSchema) }, 'published.damaged') },
  }, (_request, reply) => reply.send(manager.published()));

  app.get('/v1/image-server', {
    schema: { summary: 'The server of published templates: where it is, and what others need to trust it', tags, querystring: NoQuery, response: answers({ 200: ImageServerSchema }, 'published.damaged') },
  }, (_request, reply) => reply.send(manager.imageServer()));

  app.post('/v1/templates/:template/publish', {
    schema: { summary: 'Publish a template: as the newest version of its product', tags, params: TemplateParams, querystring: WaitQuery, body: PublishBody,
      response: operationAnswers('template.not_found', 'template.invalid', 'published.name_invalid', 'published.name_taken', 'published.unsigned', 'published.damaged', 'disk.full') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.publishTemplate(request.params.template, request.body, request.id), request.query.wait);
  });

  app.post('/v1/published/unpublish', {
    schema: { summary: 'Take away what is published under a name, or one version of it', tags, querystring: WaitQuery, body: UnpublishBody,
      response: operationAnswers('published.not_found', 'image.ambiguous', 'published.unsigned', 'published.damaged') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.unpublish(request.body.name, request.body.version, request.id), request.query.wait);
  });
}
