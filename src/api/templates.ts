/** Routes of templates. */
import { Type } from '@fastify/type-provider-typebox';
import { answerOperation, operationAnswers } from './answer-operation.ts';
import { answers } from './errors.ts';
import * as schemas from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['templates'];

/** Add the routes of templates. */
export function templateRoutes(app: Api, { deps }: RouteContext): void {
  const { manager, operations } = deps;

  app.get('/v1/templates', {
    schema: { summary: 'All templates', tags, querystring: schemas.NoQuery, response: answers({ 200: Type.Array(schemas.Template) }) },
  }, (_request, reply) => reply.send(manager.templates()));

  app.get('/v1/templates/:template', {
    schema: { summary: 'One template', tags, params: schemas.TemplateParams, querystring: schemas.NoQuery, response: answers({ 200: schemas.Template }, 'template.not_found') },
  }, (request, reply) => reply.send(manager.template(request.params.template)));

  app.post('/v1/templates/build', {
    schema: { summary: 'Build a template from a distribution\'s suite', tags, querystring: schemas.WaitQuery, body: schemas.BuildBody,
      response: operationAnswers('name.invalid', 'template.name_taken', 'template.build_failed', 'template.invalid') },
  }, (request, reply) => {
    const build = { ...request.body, include: request.body.include ?? [] };
    request.audit = { suite: build.suite, init: build.init, name: build.name };
    return answerOperation(reply, operations, manager.buildTemplate(build, request.id), request.query.wait);
  });

  app.post('/v1/templates/import', {
    schema: { summary: 'Make a template of an archive that lies on the node', tags, querystring: schemas.WaitQuery, body: schemas.ImportBody,
      response: operationAnswers('name.invalid', 'template.name_taken', 'template.invalid', 'path.refused') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.importTemplate(request.body, request.id), request.query.wait);
  });

  app.post('/v1/templates/:template/warm', {
    schema: { summary: 'Make a warm image of a template: new VEs of it need not boot', tags, params: schemas.TemplateParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
      response: operationAnswers('template.not_found', 'template.cold', 'engine.missing', 'checkpoint.refused', 'checkpoint.failed', 've.start_failed') },
  }, (request, reply) => answerOperation(reply, operations, manager.warmTemplate(request.params.template, request.id), request.query.wait));

  app.delete('/v1/templates/:template/warm', {
    schema: { summary: 'Throw a template\'s warm image away', tags, params: schemas.TemplateParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
      response: operationAnswers('template.not_found') },
  }, (request, reply) => answerOperation(reply, operations, manager.coolTemplate(request.params.template, request.id), request.query.wait));

  app.delete('/v1/templates/:template', {
    schema: { summary: 'Delete a template', tags, params: schemas.TemplateParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
      response: operationAnswers('template.not_found', 'template.in_use', 'layer.in_use') },
  }, (request, reply) => answerOperation(reply, operations, manager.deleteTemplate(request.params.template, request.id), request.query.wait));
}
