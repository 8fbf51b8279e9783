/** Routes of templates that are made of VEs, and of their versions. */
import { Type } from '@fastify/type-provider-typebox';
import { answerOperation, operationAnswers } from './answer-operation.ts';
import { answers } from './errors.ts';
import { Differences, newName, NoQuery, nullable, TemplateParams, VeParams, WaitQuery } from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['templates'];
const closed = { additionalProperties: false };

const pattern = Type.String({ maxLength: 4096, pattern: '^/[^\\u0000-\\u001f]*$', description: 'A path; * stands for any characters of a name, /** at the end for all below' });
export const CommitBody = Type.Object({
  name: newName,
  replace: Type.Optional(Type.Boolean({ description: 'There is a template of that name, and this is its next version' })),
  description: Type.Optional(Type.String({ maxLength: 500, pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$', description: 'What it is for, one line' })),
  allowSecrets: Type.Optional(Type.Boolean({ description: 'What looks like a secret may be in it' })),
  keep: Type.Optional(Type.Array(pattern, { maxItems: 100, description: 'What is not to be cleaned away' })),
}, { ...closed, title: 'CommitRequest', examples: [{ name: 'web-server', description: 'nginx, and what we always want' }] });

export const VersionsSchema = Type.Array(Type.Object({
  number: Type.Integer(), name: Type.String({ description: 'What it is called now' }), fingerprint: Type.String(), current: Type.Boolean({ description: 'It has the name' }),
  createdAt: Type.String({ description: 'ISO 8601' }), ve: nullable(Type.String({ description: 'Name of the VE that it was made of' })), description: Type.String(),
  size: Type.Number({ description: 'Bytes of its uppermost layer' }), layers: Type.Integer(), uses: Type.Integer({ description: 'VEs that stand on it' }),
}), { title: 'TemplateVersions' });

const version = Type.Object({ name: Type.String(), version: Type.String() });
export const TemplateDiffSchema = Type.Object({
  from: Type.String(), to: Type.String(),
  packages: nullable(Type.Object({
    manager: Type.Enum(['dpkg', 'apk']), added: Type.Array(version), removed: Type.Array(version), changed: Type.Array(Type.Object({ name: Type.String(), from: Type.String(), to: Type.String() })),
  }, { description: 'Null: one of both has no database of packages that can be read' })),
  files: Type.Optional(Differences),
}, { title: 'TemplateDiff' });

const DiffQuery = Type.Object({
  to: Type.String({ minLength: 1, maxLength: 100, description: 'Name or fingerprint of the other template' }), files: Type.Optional(Type.Boolean({ description: 'Also each file that differs' })),
}, closed);
const RollBackBody = Type.Object({
  version: Type.Optional(Type.String({ minLength: 1, maxLength: 100, description: 'Number, name or fingerprint; default: the one before' })),
}, { ...closed, title: 'RollBackTemplateRequest', examples: [{ version: '2' }] });

/** Add the routes. */
export function templateVersionRoutes(app: Api, { deps }: RouteContext): void {
  const { manager, operations } = deps;

  app.post('/v1/ves/:ve/commit', {
    schema: { summary: 'Make a template of a VE that is at rest', tags, params: VeParams, querystring: WaitQuery, body: CommitBody,
      response: operationAnswers('ve.not_found', 've.busy', 've.running', 've.suspended', 'name.invalid', 'template.not_found', 'template.name_taken', 'template.secrets', 'template.unchanged', 'template.invalid', 'disk.full', 'storage.failed', 'pool.unavailable') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.commit(request.params.ve, request.body, request.id), request.query.wait);
  });

  app.get('/v1/templates/:template/history', {
    schema: { summary: 'Versions of a template, newest first', tags, params: TemplateParams, querystring: NoQuery, response: answers({ 200: VersionsSchema }, 'template.not_found') },
  }, (request, reply) => reply.send(manager.history(request.params.template)));

  app.get('/v1/templates/:template/diff', {
    schema: { summary: 'What another template has that this one has not', tags, params: TemplateParams, querystring: DiffQuery, response: answers({ 200: TemplateDiffSchema }, 'template.not_found', 'storage.failed', 'pool.unavailable') },
  }, async (request, reply) => reply.send(await manager.templateDiff(request.params.template, request.query.to, request.query.files === true)));

  app.post('/v1/templates/:template/rollback', {
    schema: { summary: 'Give the name of a template to an earlier version of it', tags, params: TemplateParams, querystring: WaitQuery, body: RollBackBody, response: operationAnswers('template.not_found', 'version.not_found') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.rollBackTemplate(request.params.template, request.body.version, request.id), request.query.wait);
  });
}
