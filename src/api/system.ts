/** Routes about the daemon itself. */
import { Type } from '@fastify/type-provider-typebox';
import { answers } from './errors.ts';
import { openApiDocument } from './openapi.ts';
import * as schemas from './schemas.ts';
import { PROPERTIES } from '../spec/properties.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['system'];

/** Add the routes about the daemon. */
export function systemRoutes(app: Api, { deps, metrics }: RouteContext): void {
  const startedAt = new Date().toISOString();
  let document: string | undefined;

  app.get('/v1', {
    schema: { summary: 'What answers here', tags, querystring: schemas.NoQuery, response: answers({ 200: schemas.About }) },
  }, (_request, reply) => reply.send({ name: 'veld' as const, version: deps.version, api: 'v1' as const, instance: deps.instance, startedAt }));

  app.get('/v1/openapi.json', {
    schema: { summary: 'This document', tags, querystring: schemas.NoQuery, response: answers({ 200: Type.Record(Type.String(), Type.Unknown()) }) },
    serializerCompiler: () => (text: unknown) => text as string,
  }, (_request, reply) => {
    document ??= JSON.stringify(openApiDocument(app));
    return reply.type('application/json; charset=utf-8').send(document);
  });

  app.get('/v1/properties', {
    schema: { summary: 'All properties that a VE has', tags, querystring: schemas.NoQuery, response: answers({ 200: Type.Array(schemas.Property) }) },
  }, (_request, reply) => reply.send(PROPERTIES.map(({ type, ...row }) => ({
    ...row, type: { ...type, ...('pattern' in type && type.pattern && { pattern: type.pattern.source }) },
  }))));

  app.get('/v1/doctor', {
    schema: { summary: 'What this host lacks, and what follows from it', tags, querystring: schemas.NoQuery, response: answers({ 200: schemas.DoctorReportSchema }) },
  }, () => deps.doctor());

  app.get('/metrics', {
    schema: { summary: 'Numbers for Prometheus', tags, querystring: schemas.NoQuery,
      response: answers({ 200: { description: 'Text format 0.0.4', content: { 'text/plain': { schema: Type.String() } } } }) },
  }, async (_request, reply) => reply.type('text/plain; version=0.0.4; charset=utf-8').send(await metrics.render()));
}
