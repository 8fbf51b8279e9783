/** Routes of VEs and the verbs of their life. */
import { Readable } from 'node:stream';
import { Type } from '@fastify/type-provider-typebox';
import { answerOperation, operationAnswers } from './answer-operation.ts';
import { answers } from './errors.ts';
import { outlineOf } from '../spec/personal.ts';
import { CreateBody } from './personal.ts';
import { withPreset } from './planning.ts';
import * as schemas from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['ves'];
const START_ERRORS = ['engine.missing', 'kernel.unsupported', 'property.unsupported', 'mount.refused', 'exec.not_found', 'exec.not_executable'] as const;

/** Add the routes of VEs. */
export function veRoutes(app: Api, { deps }: RouteContext): void {
  const { manager, operations } = deps;

  app.get('/v1/ves', {
    schema: { summary: 'All VEs', tags, querystring: schemas.ListQuery, response: answers({ 200: Type.Array(Type.Union([schemas.Ve, schemas.VeDetails])) }) },
  }, (request, reply) => reply.send(request.query.details === true ? manager.listDetails() : manager.list()));

  app.post('/v1/ves', {
    schema: {
      summary: 'Create a VE', tags, querystring: schemas.WaitQuery, body: CreateBody,
      response: operationAnswers('name.invalid', 've.name_taken', 'template.not_found', 'property.unknown', 'property.invalid', 'property.not_live', 'repository.not_found', 'address.none_free',
        'address.taken', 'uid.none_free', 'preset.not_found', 'preset.invalid', 'capacity.exceeded', 'personal.invalid', 'template.no_cloud_init', ...START_ERRORS),
    },
  }, (request, reply) => {
    const { preset, ...body } = request.body;
    request.audit = { name: body.name, template: body.template, preset, properties: body.properties, ...body.personal && { personal: outlineOf(body.personal) } };
    return answerOperation(reply, operations, manager.create({ ...body, properties: withPreset(deps, preset, body.properties) }, request.id), request.query.wait);
  });

  app.get('/v1/ves/:ve', {
    schema: { summary: 'One VE with its properties and usage', tags, params: schemas.VeParams, querystring: schemas.NoQuery,
      response: answers({ 200: schemas.VeDetails }, 've.not_found') },
  }, (request, reply) => reply.send(manager.show(request.params.ve)));

  app.delete('/v1/ves/:ve', {
    schema: { summary: 'Destroy a VE', tags, params: schemas.VeParams, querystring: schemas.DestroyQuery, body: schemas.NoBody,
      response: operationAnswers('ve.not_found', 've.busy', 've.running') },
  }, (request, reply) => {
    const { force, wait } = request.query;
    request.audit = { force };
    return answerOperation(reply, operations, manager.destroy(request.params.ve, { force }, request.id), wait);
  });

  app.post('/v1/ves/:ve/start', {
    schema: { summary: 'Start a VE', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.StartBody,
      response: operationAnswers('ve.not_found', 've.busy', 've.running', 've.suspended', 'capacity.exceeded', ...START_ERRORS) },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.start(request.params.ve, request.body, request.id), request.query.wait);
  });

  for (const verb of ['freeze', 'thaw'] as const) {
    app.post(`/v1/ves/:ve/${verb}`, {
      schema: { summary: `${verb[0]?.toUpperCase()}${verb.slice(1)} a VE`, tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
        response: operationAnswers('ve.not_found', 've.busy', 've.not_running', 've.frozen') },
    }, (request, reply) => answerOperation(reply, operations, manager[verb](request.params.ve, request.id), request.query.wait));
  }

  for (const verb of ['stop', 'restart'] as const) {
    app.post(`/v1/ves/:ve/${verb}`, {
      schema: { summary: `${verb === 'stop' ? 'Stop' : 'Restart'} a VE`, tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.StopBody,
        response: operationAnswers('ve.not_found', 've.busy', 've.not_running', 've.frozen', ...verb === 'restart' ? START_ERRORS : []) },
    }, (request, reply) => {
      request.audit = { ...request.body };
      return answerOperation(reply, operations, manager[verb](request.params.ve, request.body, request.id), request.query.wait);
    });
  }

  app.post('/v1/ves/:ve/rename', {
    schema: { summary: 'Rename a VE', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.RenameBody,
      response: operationAnswers('ve.not_found', 've.busy', 've.name_taken', 'name.invalid', 've.running') },
  }, (request, reply) => {
    request.audit = { name: request.body.name };
    return answerOperation(reply, operations, manager.rename(request.params.ve, request.body.name, request.id), request.query.wait);
  });

  app.patch('/v1/ves/:ve/properties', {
    schema: { summary: 'Change properties; null unsets', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.SetBody,
      response: operationAnswers('ve.not_found', 've.busy', 'property.unknown', 'property.invalid', 'property.not_live', 'property.unsupported', 'mount.refused', 'repository.not_found', 'address.taken',
        'address.none_free', 've.not_running', 'preset.not_found', 'preset.invalid', 'capacity.exceeded') },
  }, (request, reply) => {
    const { preset, changes, ...options } = request.body;
    request.audit = { preset, changes, ...options };
    return answerOperation(reply, operations, manager.set(request.params.ve, withPreset(deps, preset, changes), options, request.id), request.query.wait);
  });

  app.get('/v1/usage', {
    schema: {
      summary: 'What all VEs use now', description: 'Counters: of two samples, parted by `clock`, a reader makes rates. Nothing is kept for it here.',
      tags, querystring: schemas.NoQuery, response: answers({ 200: schemas.UsageSampleSchema }),
    },
  }, (_request, reply) => reply.send(manager.usage()));

  app.get('/v1/traffic', {
    schema: { summary: 'What all VEs have received and sent, by class', tags, querystring: schemas.NoQuery, response: answers({ 200: schemas.TrafficReportSchema }, 'network.failed') },
  }, async (_request, reply) => reply.send(await manager.traffic()));

  app.get('/v1/ves/:ve/traffic', {
    schema: { summary: 'What a VE has received and sent, by class', tags, params: schemas.VeParams, querystring: schemas.NoQuery,
      response: answers({ 200: schemas.TrafficReportSchema }, 've.not_found', 'network.failed') },
  }, async (request, reply) => reply.send(await manager.traffic(request.params.ve)));

  app.get('/v1/ves/:ve/connections', {
    schema: { summary: 'Connections of a VE in the host\'s connection table', tags, params: schemas.VeParams, querystring: schemas.NoQuery,
      response: answers({ 200: schemas.ConnectionUseSchema }, 've.not_found', 'network.failed') },
  }, async (request, reply) => reply.send(await manager.connections(request.params.ve)));

  app.get('/v1/ves/:ve/processes', {
    schema: { summary: 'Processes of a running VE', tags, params: schemas.VeParams, querystring: schemas.NoQuery,
      response: answers({ 200: schemas.VeProcessesSchema }, 've.not_found', 've.not_running') },
  }, async (request, reply) => reply.send(await manager.processes(request.params.ve)));

  app.get('/v1/ves/:ve/beancounters', {
    schema: {
      summary: 'User beancounters of a running VE', description: 'The rows of OpenVZ\'s /proc/user_beancounters, in its order. What is not in `kept` says nothing; what has no `enforced` is not limited.',
      tags, params: schemas.VeParams, querystring: schemas.NoQuery, response: answers({ 200: schemas.BeancountersSchema }, 've.not_found', 've.not_running'),
    },
  }, async (request, reply) => reply.send(await manager.beancounters(request.params.ve)));

  app.get('/v1/ves/:ve/logs', {
    schema: {
      summary: 'Console log of this and earlier boots', tags, params: schemas.VeParams, querystring: schemas.LogsQuery,
      response: answers({ 200: {
        description: 'With `follow`: a ConsoleLine a line, until the client goes away or the VE is destroyed',
        content: { 'application/json': { schema: schemas.ConsoleLog }, 'application/x-ndjson': { schema: schemas.ConsoleLine } },
      } }, 've.not_found'),
    },
  }, (request, reply) => {
    const { tail, follow } = request.query;
    if (!follow) return reply.send({ log: manager.logs(request.params.ve, { tail }) });
    const gone = new AbortController();
    const lines = manager.followLogs(request.params.ve, { tail, signal: gone.signal });
    // A stream that is closed waits for the line under way, which may never come: the signal ends that wait.
    reply.raw.once('close', () => gone.abort());
    return reply.type('application/x-ndjson').send(Readable.from(asJson(lines)));
  });
}

/** One object a line. */
async function* asJson(lines: AsyncGenerator<string>): AsyncGenerator<string> {
  for await (const line of lines) yield `${JSON.stringify({ line })}\n`;
}
