/** `repository add|list|remove|check`: places for backups. */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, existsSync, fstatSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import { faultPoint } from '../../lib/faults.ts';
import { writeFileAtomic } from '../../lib/files.ts';
import type { Task } from '../../ops/types.ts';
import { REPOSITORY_NAME } from '../../spec/backup-properties.ts';
import { checkLocation, openRepository, passwordFile, repositoryFolder, type Repository } from '../../storage/repository.ts';
import type { RepositoryRecord } from '../../store/types.ts';
import type { VeContext } from '../context.ts';
import type { RepositoryRequest, RepositoryView } from './types.ts';

/** Bytes of a password that is made up. */
const PASSWORD = 24;
/** Longest password that is taken, in bytes. */
const LONGEST = 4096;

export function viewRepositories({ settings, store }: VeContext): RepositoryView[] {
  const ves = store.listVes();
  return store.listRepositories().map((record) => ({
    ...record, passwordFile: passwordFile(settings.stateDir, record.name), ves: ves.filter(({ ready, properties }) => ready && properties['backup.repository'] === record.name).map(({ name }) => name),
  }));
}

/** @throws VeldError `repository.not_found` */
export function findRepository(context: VeContext, name: string): RepositoryView {
  const found = viewRepositories(context).find((one) => one.name === name);
  if (!found) throw new VeldError('repository.not_found', `There is no repository ${JSON.stringify(name.slice(0, 80))}.`);
  return found;
}

/** What works with it. @throws VeldError `repository.not_found` */
export function repositoryOf(context: VeContext, name: string): Repository {
  return openRepository(context.settings.stateDir, findRepository(context, name));
}

/** The one that was asked for; else the VE's own; else the only one there is. @throws VeldError `repository.not_found` */
export function chooseRepository({ store }: VeContext, asked: string | undefined, own = ''): string {
  const names = store.listRepositories().map(({ name }) => name);
  const name = asked ?? (own ? own : names.length === 1 ? names[0] : undefined);
  if (name === undefined) throw new VeldError('repository.not_found', names.length === 0 ? 'There is no repository.' : 'There are several repositories, and none is named.', { hint: names.length === 0 ? 'Add one: `veld repository add NAME LOCATION`.' : 'Say which: --repository NAME.' });
  if (!names.includes(name)) throw new VeldError('repository.not_found', `There is no repository ${JSON.stringify(name.slice(0, 80))}.`);
  return name;
}

/** Check what a new one is to be. @throws VeldError `name.invalid`, `repository.name_taken`, `repository.invalid` */
export function checkRepository({ store }: VeContext, { name, location, passwordFile: password, identity }: RepositoryRequest): RepositoryRecord {
  if (!REPOSITORY_NAME.test(name)) throw new VeldError('name.invalid', `${JSON.stringify(name.slice(0, 80))} cannot be the name of a repository.`, { hint: 'A name is 1 to 31 characters of a-z, 0-9 and -, and begins with a letter.' });
  if (store.listRepositories().some((one) => one.name === name)) throw new VeldError('repository.name_taken', `There is a repository named ${name} already.`);
  checkLocation(location);
  for (const file of [password, identity]) {
    if (file === undefined) continue;
    if (!isAbsolute(file) || /['\p{Cc}]/u.test(file)) throw new VeldError('repository.invalid', `${JSON.stringify(file.slice(0, 200))} is not an absolute path without quotes.`);
    if (!existsSync(file)) throw new VeldError('repository.invalid', `There is no file ${file} on this node.`);
  }
  return { name, location, identity: identity ?? null, createdAt: new Date().toISOString() };
}

/**
 * Make a repository, or take one that is there.
 * @throws VeldError `repository.invalid`, `repository.unavailable`
 */
export async function addRepository(context: VeContext, record: RepositoryRecord, password: string | undefined, task: Task): Promise<RepositoryView & { made: boolean }> {
  const { settings: { stateDir }, store } = context;
  const folder = repositoryFolder(stateDir, record.name);
  rmSync(folder, { recursive: true, force: true }); // of one that was cut short: no record leads there
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  task.undo('folder', () => { if (!store.listRepositories().some(({ name }) => name === record.name)) rmSync(folder, { recursive: true, force: true }); });
  const file = passwordFile(stateDir, record.name);
  if (password === undefined) writeFileAtomic(file, `${randomBytes(PASSWORD).toString('base64url')}\n`, 0o600);
  else {
    writeFileAtomic(file, readPassword(password), 0o600);
  }
  task.progress(20, 'looking what is there');
  const made = await openRepository(stateDir, record).open();
  faultPoint('repository.open');
  store.insertRepository(record);
  task.commit();
  context.events.emit('repository.added', { data: { name: record.name } });
  return { ...findRepository(context, record.name), made };
}

/** @throws VeldError `repository.invalid` for what is no small file */
function readPassword(file: string): Buffer {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size === 0 || stat.size > LONGEST) throw new VeldError('repository.invalid', `${file} holds no password.`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Forget it on this node; what is in it stays. @throws VeldError `repository.in_use` */
export function removeRepository(context: VeContext, name: string): void {
  const { ves } = findRepository(context, name);
  if (ves.length > 0) throw new VeldError('repository.in_use', `${ves.slice(0, 5).join(', ')}${ves.length > 5 ? ` and ${ves.length - 5} more` : ''} ${ves.length === 1 ? 'is' : 'are'} backed up to the repository ${name}.`);
  context.store.deleteRepository(name);
  rmSync(repositoryFolder(context.settings.stateDir, name), { recursive: true, force: true });
  context.events.emit('repository.removed', { data: { name } });
}
