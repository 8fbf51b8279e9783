/** Routes of suspended VEs. */
import { answerOperation, operationAnswers } from './answer-operation.ts';
import { answers } from './errors.ts';
import * as schemas from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['checkpoints'];

/** Add the routes. */
export function checkpointRoutes(app: Api, { deps }: RouteContext): void {
  const { manager, operations } = deps;

  app.post('/v1/ves/:ve/suspend', {
    schema: { summary: 'Move the processes of a running VE to the disk', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
      response: operationAnswers('ve.not_found', 've.busy', 've.not_running', 've.frozen', 've.suspended', 'checkpoint.refused', 'checkpoint.failed', 'engine.missing') },
  }, (request, reply) => answerOperation(reply, operations, manager.suspend(request.params.ve, request.id), request.query.wait));

  app.post('/v1/ves/:ve/resume', {
    schema: { summary: 'Bring the processes of a suspended VE back', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
      response: operationAnswers('ve.not_found', 've.busy', 've.not_suspended', 'checkpoint.unusable', 'restore.failed', 'restore.unhealthy', 'engine.missing') },
  }, (request, reply) => answerOperation(reply, operations, manager.resume(request.params.ve, request.id), request.query.wait));

  app.get('/v1/ves/:ve/obstacles', {
    schema: { summary: 'What is in the way of suspending a running VE now', tags, params: schemas.VeParams, querystring: schemas.NoQuery,
      response: answers({ 200: schemas.Obstacles }, 've.not_found', 've.not_running', 've.frozen', 've.suspended') },
  }, async (request, reply) => reply.send(await manager.obstacles(request.params.ve)));
}
