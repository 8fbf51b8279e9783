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
      response: operationAnswers('ve.not_found', 've.busy', 've.not_suspended', 'mount.refused', 'capacity.exceeded', 'checkpoint.unusable', 'restore.failed', 'restore.unhealthy', 'engine.missing') },
  }, (request, reply) => answerOperation(reply, operations, manager.resume(request.params.ve, request.id), request.query.wait));

  app.post('/v1/ves/:ve/clone', {
    schema: { summary: 'Make another VE that begins where this one is', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.CloneBody,
      response: operationAnswers('ve.not_found', 've.busy', 've.running', 've.not_running', 've.frozen', 'name.invalid', 've.name_taken', 'snapshot.not_found', 'checkpoint.unusable', 'property.unknown', 'property.invalid',
        'address.none_free', 'address.taken', 'uid.none_free', 'capacity.exceeded', 'checkpoint.refused', 'checkpoint.failed', 'restore.failed', 'engine.missing') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.clone(request.params.ve, request.body, request.id), request.query.wait);
  });

  app.post('/v1/ves/:ve/checkpoint', {
    schema: { summary: 'Write a VE with its processes into a file on the node', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.CheckpointBody,
      response: operationAnswers('ve.not_found', 've.busy', 've.not_running', 've.frozen', 'checkpoint.refused', 'checkpoint.failed', 'checkpoint.file', 'template.not_found', 'engine.missing') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.checkpoint(request.params.ve, request.body, request.id), request.query.wait);
  });

  app.post('/v1/restore', {
    schema: { summary: 'Make a VE from a file on the node', tags, querystring: schemas.WaitQuery, body: schemas.RestoreBody,
      response: operationAnswers('checkpoint.file', 'checkpoint.unusable', 'capacity.exceeded', 'name.invalid', 've.name_taken', 'template.not_found', 'address.none_free', 'address.taken', 'uid.none_free', 'restore.failed',
        'restore.unhealthy', 'engine.missing') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.restore(request.body, request.id), request.query.wait);
  });

  app.get('/v1/ves/:ve/snapshots', {
    schema: { summary: 'Snapshots of a VE, oldest first', tags, params: schemas.VeParams, querystring: schemas.NoQuery, response: answers({ 200: schemas.Snapshots }, 've.not_found') },
  }, (request, reply) => reply.send(manager.snapshots(request.params.ve)));

  app.post('/v1/ves/:ve/snapshots', {
    schema: { summary: 'Keep a VE as it is now', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.SnapshotBody,
      response: operationAnswers('ve.not_found', 've.busy', 've.running', 've.not_running', 've.frozen', 'name.invalid', 'snapshot.name_taken', 'checkpoint.refused', 'checkpoint.failed', 'restore.failed',
        'engine.missing') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.createSnapshot(request.params.ve, request.body, request.id), request.query.wait);
  });

  app.delete('/v1/ves/:ve/snapshots/:snapshot', {
    schema: { summary: 'Delete a snapshot', tags, params: schemas.SnapshotParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
      response: operationAnswers('ve.not_found', 've.busy', 'snapshot.not_found') },
  }, (request, reply) => answerOperation(reply, operations, manager.deleteSnapshot(request.params.ve, request.params.snapshot, request.id), request.query.wait));

  app.post('/v1/ves/:ve/snapshots/:snapshot/restore', {
    schema: { summary: 'Make a VE what it was; what it is now is lost', tags, params: schemas.SnapshotParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
      response: operationAnswers('ve.not_found', 've.busy', 'snapshot.not_found', 'capacity.exceeded', 'checkpoint.unusable', 'restore.failed', 'restore.unhealthy', 'engine.missing') },
  }, (request, reply) => answerOperation(reply, operations, manager.rollBack(request.params.ve, request.params.snapshot, request.id), request.query.wait));

  app.get('/v1/ves/:ve/snapshots/:snapshot/diff', {
    schema: { summary: 'What has changed on the disk since a snapshot', tags, params: schemas.SnapshotParams, querystring: schemas.DiffQuery,
      response: answers({ 200: schemas.Differences }, 've.not_found', 'snapshot.not_found', 'storage.failed', 'pool.unavailable') },
  }, async (request, reply) => reply.send(await manager.snapshotDiff(request.params.ve, request.params.snapshot, request.query.to)));

  app.get('/v1/ves/:ve/obstacles', {
    schema: { summary: 'What is in the way of suspending a running VE now', tags, params: schemas.VeParams, querystring: schemas.NoQuery,
      response: answers({ 200: schemas.Obstacles }, 've.not_found', 've.not_running', 've.frozen', 've.suspended') },
  }, async (request, reply) => reply.send(await manager.obstacles(request.params.ve)));
}
