/** Routes of files that hold VEs without processes, of repositories, and of the backups in them. */
import { Type } from '@fastify/type-provider-typebox';
import { answerOperation, operationAnswers } from './answer-operation.ts';
import { answers } from './errors.ts';
import { ImportChoices, NoBody, NoQuery, nodePath, nullable, packing, VeParams, WaitQuery } from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['backups'];
const closed = { additionalProperties: false } as const;
const name = (description: string) => Type.String({ pattern: '^[!-.0-~]{1,100}$', description });

const ExportBody = Type.Object({ file: nodePath, withTemplate: Type.Optional(Type.Boolean({ description: 'Its template goes along, for a node that has not got it' })), ...packing }, { ...closed, title: 'ExportRequest', examples: [{ file: '/srv/web.export', withTemplate: true }] });
const VeImportBody = Type.Object({ file: nodePath, ...ImportChoices, identity: Type.Optional(nodePath) }, { ...closed, title: 'VeImportRequest', examples: [{ file: '/srv/web.export', name: 'web2' }] });

const Repository = Type.Object({
  name: Type.String(), location: Type.String({ description: 'Absolute path, or sftp://USER@HOST[:PORT]/PATH' }), identity: nullable(Type.String({ description: 'File with the key of ssh; null: root\'s own' })), createdAt: Type.String({ description: 'ISO 8601' }),
  passwordFile: Type.String({ description: 'File on the node: without what is in it nobody can read the backups' }), ves: Type.Array(Type.String({ description: 'VEs that are backed up there by themselves' })),
}, { title: 'Repository' });
const AddRepository = Type.Object({
  name: Type.String({ maxLength: 200 }), location: Type.String({ minLength: 1, maxLength: 4500, description: 'Absolute path on the node, or sftp://USER@HOST[:PORT]/PATH' }),
  passwordFile: Type.Optional(nodePath), identity: Type.Optional(nodePath),
}, { ...closed, title: 'RepositoryRequest', examples: [{ name: 'nas', location: 'sftp://backup@nas.example/srv/veld' }] });
const Backup = Type.Object({
  id: Type.String(), at: Type.String({ description: 'ISO 8601' }), ve: Type.String({ description: 'UUID of the VE' }), name: Type.String({ description: 'That it had' }), template: Type.String(), host: Type.String(), repository: Type.String(),
}, { title: 'Backup' });

const RepositoryParams = Type.Object({ repository: name('Name of the repository') }, closed);
const BackupParams = Type.Object({ backup: Type.String({ pattern: '^[0-9a-f]{4,64}$', description: 'Id of the backup, or at least 4 digits of it' }) }, closed);
const repository = Type.Optional(name('Name of the repository; default: the only one'));
const FromQuery = Type.Object({ wait: WaitQuery.properties.wait, repository }, closed);
const ListQuery = Type.Object({ repository: Type.Optional(name('Of this repository; default: of all')), ve: Type.Optional(name('Of this VE: name, number or UUID, also of one that is gone')) }, closed);
const unreachable = ['repository.not_found', 'repository.unavailable', 'repository.invalid', 'backup.not_found'] as const;
const becoming = ['migration.stream', 'capacity.exceeded', 'name.invalid', 've.name_taken', 'template.not_found', 'property.unknown', 'property.invalid', 'property.unsupported', 'mount.refused', 'address.none_free', 'address.taken', 'port.taken',
  'uid.none_free', 'pool.not_found', 'pool.unavailable'] as const;

/** Add the routes. */
export function backupRoutes(app: Api, { deps }: RouteContext): void {
  const { manager, operations } = deps;

  app.post('/v1/ves/:ve/export', {
    schema: { summary: 'Write what is on the disk of a VE into a file on the node', tags, params: VeParams, querystring: WaitQuery, body: ExportBody,
      response: operationAnswers('ve.not_found', 've.busy', 'export.file', 'request.invalid', 'template.not_found', 'pool.unavailable', 'timeout') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.export(request.params.ve, request.body, request.id), request.query.wait);
  });

  app.post('/v1/import', {
    schema: { summary: 'Make a VE of such a file', tags, querystring: WaitQuery, body: VeImportBody, response: operationAnswers('export.file', 'export.unusable', ...becoming) },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.import(request.body, request.id), request.query.wait);
  });

  app.get('/v1/repositories', {
    schema: { summary: 'All repositories of backups', tags, querystring: NoQuery, response: answers({ 200: Type.Array(Repository) }) },
  }, (_request, reply) => reply.send(manager.repositories()));

  app.post('/v1/repositories', {
    schema: { summary: 'Make a repository, or take one that is there', tags, querystring: WaitQuery, body: AddRepository, response: operationAnswers('name.invalid', 'repository.name_taken', 'repository.invalid', 'repository.unavailable', 'disk.full') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.addRepository(request.body, request.id), request.query.wait);
  });

  app.get('/v1/repositories/:repository', {
    schema: { summary: 'One repository', tags, params: RepositoryParams, querystring: NoQuery, response: answers({ 200: Repository }, 'repository.not_found') },
  }, (request, reply) => reply.send(manager.repository(request.params.repository)));

  app.delete('/v1/repositories/:repository', {
    schema: { summary: 'Forget a repository; what is in it stays', tags, params: RepositoryParams, querystring: NoQuery, body: NoBody, response: answers({ 200: Repository }, 'repository.not_found', 'repository.in_use') },
  }, (request, reply) => {
    const gone = manager.repository(request.params.repository);
    manager.removeRepository(gone.name);
    return reply.send(gone);
  });

  app.post('/v1/repositories/:repository/check', {
    schema: { summary: 'Verify that a repository is whole', tags, params: RepositoryParams, querystring: WaitQuery, body: Type.Object({ data: Type.Optional(Type.Boolean({ description: 'Read all that is stored, too' })) }, { ...closed, examples: [{ data: true }] }),
      response: operationAnswers('repository.not_found', 'repository.unavailable', 'repository.damaged') },
  }, (request, reply) => answerOperation(reply, operations, manager.checkRepository(request.params.repository, request.body.data === true, request.id), request.query.wait));

  app.post('/v1/ves/:ve/backup', {
    schema: { summary: 'Back a VE up', tags, params: VeParams, querystring: WaitQuery, body: Type.Object({ repository: Type.Optional(name('Default: that of the VE, or the only one')) }, { ...closed, title: 'BackupRequest', examples: [{ repository: 'nas' }] }),
      response: operationAnswers('ve.not_found', 've.busy', 'repository.not_found', 'repository.unavailable', 'repository.invalid', 'template.not_found', 'pool.unavailable', 'timeout') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.backUp(request.params.ve, request.body.repository, request.id), request.query.wait);
  });

  app.get('/v1/backups', {
    schema: { summary: 'Backups, oldest first', tags, querystring: ListQuery, response: answers({ 200: Type.Array(Backup) }, 'repository.not_found', 'repository.unavailable', 'repository.invalid', 'command.failed') },
  }, async (request, reply) => reply.send(await manager.backups(request.query.repository, request.query.ve)));

  app.post('/v1/backups/:backup/restore', {
    schema: { summary: 'Make a VE of a backup', tags, params: BackupParams, querystring: FromQuery, body: Type.Object(ImportChoices, { ...closed, title: 'BackupRestoreRequest', examples: [{ name: 'web2' }] }),
      response: operationAnswers(...unreachable, 'export.unusable', ...becoming) },
  }, (request, reply) => {
    request.audit = { backup: request.params.backup, ...request.body };
    return answerOperation(reply, operations, manager.restoreBackup(request.params.backup, request.query.repository, request.body, request.id), request.query.wait);
  });

  app.post('/v1/backups/:backup/verify', {
    schema: { summary: 'Read all of a backup', tags, params: BackupParams, querystring: FromQuery, body: NoBody, response: operationAnswers(...unreachable, 'export.unusable') },
  }, (request, reply) => answerOperation(reply, operations, manager.verifyBackup(request.params.backup, request.query.repository, request.id), request.query.wait));

  app.delete('/v1/backups/:backup', {
    schema: { summary: 'Delete a backup', tags, params: BackupParams, querystring: FromQuery, body: NoBody, response: operationAnswers(...unreachable) },
  }, (request, reply) => {
    request.audit = { backup: request.params.backup };
    return answerOperation(reply, operations, manager.deleteBackup(request.params.backup, request.query.repository, request.id), request.query.wait);
  });
}
