/** `backup create|list|restore|verify|delete`: a backup is the stream of an export in a repository. */
import { hostname } from 'node:os';
import { VeldError } from '../../lib/errors.ts';
import { faultPoint } from '../../lib/faults.ts';
import type { Piped } from '../../lib/piped.ts';
import type { Task } from '../../ops/types.ts';
import type { VeRecord } from '../../store/types.ts';
import type { Backup, Keep } from '../../storage/repository.ts';
import { reload, type VeContext } from '../context.ts';
import { PartReader } from '../export/parts.ts';
import { finishImport, importVe } from '../export/read.ts';
import { exportStream } from '../export/write.ts';
import { markOf } from './mark.ts';
import { repositoryOf } from './repositories.ts';
import type { BackedUp, BackupRestoreRequest } from './types.ts';

/** When what only forgotten backups had was freed last, by repository. */
const PRUNED = 'backup.pruned.';
/** How often that is done by itself, in milliseconds. */
const PRUNE = 24 * 3_600_000;

/** Back a VE up, running or not. */
export async function backUp(context: VeContext, uuid: string, repository: string, task: Task): Promise<BackedUp> {
  const ve = reload(context.store, uuid);
  const stream = exportStream(context, uuid, {}, task);
  const { id, added } = await repositoryOf(context, repository).store({ ve: uuid, name: ve.name, template: ve.template, host: hostname(), mark: markOf(context, uuid) }, stream, task.signal);
  faultPoint('backup.stored');
  context.events.emit('backup.created', { ve: uuid, data: { name: ve.name, repository, backup: id } });
  return { id, repository, added, ...await stream.exported };
}

/** The same, and then forget those that are not to be kept. */
export async function backUpByItself(context: VeContext, uuid: string, repository: string, keep: Keep, task: Task): Promise<BackedUp> {
  const done = await backUp(context, uuid, repository, task);
  task.progress(97, 'forgetting those that are not to be kept');
  const last = context.store.getMeta<string>(PRUNED + repository);
  const prune = last === undefined || Date.now() - Date.parse(last) >= PRUNE;
  await repositoryOf(context, repository).forget(uuid, markOf(context, uuid), keep, prune, task.signal);
  if (prune) context.store.setMeta(PRUNED + repository, new Date().toISOString());
  return done;
}

/** @throws VeldError `backup.not_found` when none or several begin so */
export async function findBackup(context: VeContext, repository: string, id: string): Promise<Backup> {
  const found = (await repositoryOf(context, repository).list()).filter((backup) => backup.id.startsWith(id));
  if (found.length === 1) return found[0]!;
  throw new VeldError('backup.not_found', `${found.length === 0 ? 'No backup' : `${found.length} backups`} of the repository ${repository} begin with ${JSON.stringify(id.slice(0, 64))}.`);
}

/** Make a VE of a backup; it is stopped. */
export async function restoreBackup(context: VeContext, repository: string, id: string, choices: BackupRestoreRequest, task: Task): Promise<VeRecord> {
  task.progress(1, 'looking for it');
  const backup = await findBackup(context, repository, id);
  const stream = repositoryOf(context, repository).read(backup.id, task.signal);
  let ve: VeRecord;
  try {
    ve = await importVe(context, stream.output, choices, task);
  } catch (error) {
    return because(stream, error);
  }
  await stream.ended;
  return finishImport(context, ve, task);
}

/** Read all of a backup, as a restore would. @returns bytes @throws VeldError `export.unusable`, `repository.*` */
export async function verifyBackup(context: VeContext, repository: string, id: string, task: Task): Promise<{ id: string; bytes: number }> {
  const backup = await findBackup(context, repository, id);
  const stream = repositoryOf(context, repository).read(backup.id, task.signal);
  const parts = new PartReader(stream.output);
  let bytes = 0;
  try {
    for (;;) {
      const { type } = await parts.message();
      if (type === 'end') break;
      if (type === 'veld-export') continue;
      for await (const block of parts.bulk()) {
        bytes += block.length;
        task.progress(50, `${Math.round(bytes / (1 << 20))} MiB read`);
      }
    }
    await parts.end();
  } catch (error) {
    return because(stream, error);
  }
  await stream.ended;
  return { id: backup.id, bytes };
}

/** Why a stream came to its end too early says more than that it did; whatever else went wrong says itself why. */
async function because(stream: Piped, error: unknown): Promise<never> {
  const early = error instanceof VeldError && error.code === 'export.unusable' && error.message.endsWith('is cut short.');
  stream.output.destroy();
  const ended = stream.ended.catch((reason: unknown) => reason);
  const reason = await ended;
  throw early && reason !== undefined ? reason : error;
}

export async function deleteBackup(context: VeContext, repository: string, id: string, task: Task): Promise<void> {
  const backup = await findBackup(context, repository, id);
  task.progress(20, 'freeing what only it had');
  await repositoryOf(context, repository).remove(backup.id, task.signal);
  context.events.emit('backup.deleted', { ve: backup.ve, data: { name: backup.name, repository, backup: backup.id } });
}
