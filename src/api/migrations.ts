/** Routes that move VEs between nodes. */
import { answerOperation, operationAnswers } from './answer-operation.ts';
import * as schemas from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['nodes'];

/** Add the routes. */
export function migrationRoutes(app: Api, { deps }: RouteContext): void {
  const { migration, operations } = deps;

  app.post('/v1/ves/:ve/migrate', {
    schema: { summary: 'Move a VE to a paired node, with its processes when it runs', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.MigrateBody,
      response: operationAnswers('ve.not_found', 'name.invalid', 've.busy', 've.frozen', 've.name_taken', 'template.not_found', 'address.taken', 'port.taken', 'checkpoint.refused', 'checkpoint.failed', 'capacity.exceeded', 'property.unsupported', 'migration.refused', 'migration.link',
        'migration.stream', 'migration.undecided', 'disk.full', 'storage.failed', 'engine.missing') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, migration.migrate(request.params.ve, request.body, request.id), request.query.wait);
  });

  app.post('/v1/ves/:ve/take-back', {
    schema: { summary: 'Bring back a VE that was granted to a node which does not answer any more', tags, params: schemas.VeParams, querystring: schemas.WaitQuery, body: schemas.NoBody,
      response: operationAnswers('ve.not_found', 've.busy', 'migration.refused', 'restore.failed', 'restore.unhealthy', 'engine.missing') },
  }, (request, reply) => answerOperation(reply, operations, migration.takeBack(request.params.ve, request.id), request.query.wait));
}
