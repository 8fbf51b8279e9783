/** The part of the manager that is about backups: each wish becomes an operation. */
import type { OperationRecord, RepositoryRecord, VeRecord } from '../../store/types.ts';
import { VeldError } from '../../lib/errors.ts';
import type { Task } from '../../ops/types.ts';
import { parseKeep } from '../../spec/backup-properties.ts';
import { resolveProperties } from '../../spec/properties.ts';
import type { Backup } from '../../storage/repository.ts';
import { findVe, type VeContext } from '../context.ts';
import { checkNewName } from '../set.ts';
import type { VeView } from '../types.ts';
import { backUp, backUpByItself, deleteBackup, restoreBackup, verifyBackup } from './backups.ts';
import { addRepository, checkRepository, chooseRepository, findRepository, removeRepository, repositoryOf, viewRepositories } from './repositories.ts';
import type { BackupRestoreRequest, RepositoryRequest, RepositoryView } from './types.ts';

/** `task` verbs answer at once with the operation's record. */
export interface BackupManager {
  repositories(): RepositoryView[];
  /** Throws `repository.not_found`. */
  repository(name: string): RepositoryView;
  addRepository(request: RepositoryRequest, requestId: string | null): OperationRecord;
  /** What is in it stays. Throws `repository.not_found`, `repository.in_use`. */
  removeRepository(name: string): void;
  /** Verify it. @param data read all that is stored, too */
  checkRepository(name: string, data: boolean, requestId: string | null): OperationRecord;
  /** @param repository default: that of the VE, or the only one @param own by its schedule: then those that are not to be kept are forgotten */
  backUp(key: string, repository: string | undefined, requestId: string | null, own?: boolean): OperationRecord;
  /** Oldest first. @param ve name, number or UUID, or the UUID or the name of one that is gone */
  backups(repository?: string, ve?: string): Promise<(Backup & { repository: string })[]>;
  restoreBackup(id: string, repository: string | undefined, request: BackupRestoreRequest, requestId: string | null): OperationRecord;
  verifyBackup(id: string, repository: string | undefined, requestId: string | null): OperationRecord;
  deleteBackup(id: string, repository: string | undefined, requestId: string | null): OperationRecord;
}

export function backupManager(context: VeContext, begin: <T>(kind: string, ve: VeRecord, requestId: string | null, work: (task: Task) => Promise<T>) => OperationRecord, view: (ve: VeRecord) => VeView): BackupManager {
  const { operations, store } = context;
  const beingAdded = new Set<string>();
  const start = <T>(kind: string, requestId: string | null, work: (task: Task) => Promise<T>): OperationRecord => operations.start({ kind, ve: null, requestId }, work);
  return {
    repositories: () => viewRepositories(context),
    repository: (name) => findRepository(context, name),
    addRepository(request, requestId) {
      const record: RepositoryRecord = checkRepository(context, request);
      if (beingAdded.has(record.name)) throw new VeldError('repository.name_taken', `The repository ${record.name} is being added.`);
      beingAdded.add(record.name);
      try {
        return start('repository-add', requestId, (task) => addRepository(context, record, request.passwordFile, task).finally(() => beingAdded.delete(record.name)));
      } catch (error) {
        beingAdded.delete(record.name);
        throw error;
      }
    },
    removeRepository: (name) => removeRepository(context, name),
    checkRepository(name, data, requestId) {
      const repository = repositoryOf(context, name);
      return start('repository-check', requestId, (task) => repository.check(data, task.signal));
    },
    backUp(key, asked, requestId, own = false) {
      const ve = findVe(store, key);
      const { 'backup.repository': set, 'backup.keep': keep } = resolveProperties(ve.properties);
      const repository = chooseRepository(context, asked, set);
      return begin('backup', ve, requestId, (task) => (own ? backUpByItself(context, ve.uuid, repository, parseKeep(keep), task) : backUp(context, ve.uuid, repository, task)));
    },
    async backups(asked, key) {
      const names = asked === undefined ? store.listRepositories().map(({ name }) => name) : [findRepository(context, asked).name];
      const ve = key === undefined ? undefined : veOf(context, key);
      const lists = await Promise.all(names.map(async (repository) => (await repositoryOf(context, repository).list()).map((backup) => ({ ...backup, repository }))));
      return lists.flat().filter((backup) => ve === undefined || backup.ve === ve || (backup.name === ve && store.veByName(ve) === undefined)).sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
    },
    restoreBackup(id, asked, request, requestId) {
      const repository = chooseRepository(context, asked);
      if (request.name !== undefined) checkNewName(context, { name: '' } as VeRecord, request.name);
      return start('backup-restore', requestId, async (task) => view(await restoreBackup(context, repository, id, request, task)));
    },
    verifyBackup(id, asked, requestId) {
      const repository = chooseRepository(context, asked);
      return start('backup-verify', requestId, (task) => verifyBackup(context, repository, id, task));
    },
    deleteBackup(id, asked, requestId) {
      const repository = chooseRepository(context, asked);
      return start('backup-delete', requestId, (task) => deleteBackup(context, repository, id, task));
    },
  };
}

/** UUID of a VE that is here; else the word itself, which may be the UUID or the name of one that is gone. */
function veOf({ store }: VeContext, key: string): string {
  try {
    return findVe(store, key).uuid;
  } catch {
    return key;
  }
}
