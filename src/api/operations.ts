/** Routes of operations. */
import { Type } from '@fastify/type-provider-typebox';
import { answerOperation, operationAnswers, operationLines } from './answer-operation.ts';
import { answers } from './errors.ts';
import * as schemas from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['operations'];

/** Add the routes of operations. */
export function operationRoutes(app: Api, { deps }: RouteContext): void {
  const { operations } = deps;

  app.get('/v1/operations', {
    schema: { summary: 'Operations, newest first', tags, querystring: schemas.OperationsQuery, response: answers({ 200: Type.Array(schemas.Operation) }) },
  }, (request, reply) => reply.send(operations.list(request.query.limit ?? 100)));

  app.get('/v1/operations/:id', {
    schema: {
      summary: 'One operation; with `wait` each of its changes until it has ended', tags, params: schemas.OperationParams, querystring: schemas.WaitQuery,
      response: answers({
        200: { description: 'The record; with `wait` one a line', content: { 'application/json': { schema: schemas.Operation }, 'application/x-ndjson': { schema: schemas.Operation } } },
      }, 'operation.not_found'),
    },
  }, (request, reply) => {
    if (request.query.wait) return reply.type('application/x-ndjson').send(operationLines(operations, request.params.id));
    return reply.send(operations.get(request.params.id));
  });

  app.delete('/v1/operations/:id', {
    schema: { summary: 'Cancel an operation: it stops and takes back what it did', tags, params: schemas.OperationParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
      response: operationAnswers('operation.not_found', 'operation.committed') },
  }, (request, reply) => answerOperation(reply, operations, operations.cancel(request.params.id), request.query.wait));
}
