/**
 * Repositories of backups: restic's, in a folder or on another machine over ssh. What restic does for Veld: parts of streams that are there already are stored once, encrypted and
 * authenticated; backups are forgotten by rules; all of it can be verified. A backup is one file in it, the stream of an export.
 * Source: https://restic.readthedocs.io (restic 0.14 and later; JSON output: "Scripting").
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import type { Piped } from '../lib/piped.ts';
import { writeTo } from '../lib/streams.ts';
import { run, SAFE_PATH } from '../lib/run.ts';
import type { RepositoryRecord } from '../store/types.ts';

/** Name of the one file in each backup. */
const FILE = 've.export';
/** Most that restic tells of a repository, in bytes: some hundred thousand backups. */
const LISTED = 256 << 20;
/** On all backups of Veld's: others may lie in the same repository. */
const TAG = 'veld';

/** A backup, as the repository tells of it. */
export interface Backup {
  /** 64 hex digits. */
  id: string;
  /** ISO 8601. */
  at: string;
  /** UUID of the VE. */
  ve: string;
  /** Name that it had. */
  name: string;
  /** Fingerprint of its template. */
  template: string;
  /** Instance of Veld that has made it, and its host. */
  host: string;
}

/** How many of the newest of each span of time are kept. */
export type Keep = Partial<Record<'last' | 'hourly' | 'daily' | 'weekly' | 'monthly' | 'yearly', number>>;

export interface Repository {
  /** Make it, or find it there. @returns whether it is new. Throws `repository.invalid` for one that another password opens */
  open(): Promise<boolean>;
  /** Take a stream as a backup. It is there when this resolves, and not at all when it fails. @param of `mark`: see `forget` @returns its id, and how many bytes had to be stored */
  store(of: Omit<Backup, 'id' | 'at'> & { mark: string }, stream: Piped, signal: AbortSignal): Promise<{ id: string; added: number }>;
  /** Oldest first. @param ve of this one only */
  list(ve?: string): Promise<Backup[]>;
  /** The stream of a backup. @param id whole, or its beginning */
  read(id: string, signal: AbortSignal): Piped;
  /** Forget those of a VE that are not to be kept. @param mark of those alone: a VE that comes from elsewhere, with the UUID of another, is not to take that one's with it @param prune free what only they had @returns how many were forgotten */
  forget(ve: string, mark: string, keep: Keep, prune: boolean, signal: AbortSignal): Promise<number>;
  remove(id: string, signal: AbortSignal): Promise<void>;
  /** Verify that all is there. @param data read everything that is stored, too */
  check(data: boolean, signal: AbortSignal): Promise<void>;
}

/** Folder of what belongs to a repository on this node: its password, and the host key of the other machine. */
export function repositoryFolder(stateDir: string, name: string): string {
  return join(stateDir, 'repositories', name);
}

/** File with the password: whoever has it can read all backups, and without it nobody can. */
export function passwordFile(stateDir: string, name: string): string {
  return join(repositoryFolder(stateDir, name), 'password');
}

/** `sftp://USER@HOST[:PORT]/PATH`. */
const SFTP = /^sftp:\/\/(?:([a-z_][a-z0-9_.-]{0,31})@)?([a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?|\[[0-9a-f:]{2,45}\])(?::(\d{1,5}))?(\/[^\0-\x1f\x7f]*)$/i;

/** @throws VeldError `repository.invalid` */
export function checkLocation(location: string): void {
  if (/^\/[^\0-\x1f\x7f]*$/.test(location) && location.length <= 4000) return;
  const [, , , port] = SFTP.exec(location) ?? [];
  if (SFTP.test(location) && Number(port ?? 22) >= 1 && Number(port ?? 22) <= 65_535) return;
  throw new VeldError('repository.invalid', `${JSON.stringify(location.slice(0, 200))} is not a place for a repository.`, { hint: 'Give an absolute path, or sftp://USER@HOST[:PORT]/PATH.' });
}

/** A repository that a record tells of. Nothing is looked at before something is asked of it. */
export function openRepository(stateDir: string, { name, location, identity }: Pick<RepositoryRecord, 'name' | 'location' | 'identity'>): Repository {
  const folder = repositoryFolder(stateDir, name);
  const cache = join(stateDir, 'cache', 'restic');
  mkdirSync(cache, { recursive: true, mode: 0o700 });
  const [, user, host, port, path] = SFTP.exec(location) ?? [];
  const env = { RESTIC_REPOSITORY: host === undefined ? location : `sftp:veld:${path}`, RESTIC_PASSWORD_FILE: passwordFile(stateDir, name), RESTIC_CACHE_DIR: cache, RESTIC_PROGRESS_FPS: '1' };
  // restic splits it into words as a shell would.
  const ssh = ['ssh', '-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=accept-new', '-o', `UserKnownHostsFile=${join(folder, 'known_hosts')}`, '-o', 'ConnectTimeout=20', '-o', 'ServerAliveInterval=30',
    ...identity === null ? [] : ['-o', 'IdentitiesOnly=yes', '-i', identity], ...port === undefined ? [] : ['-p', port], ...user === undefined ? [] : ['-l', user], '-s', '--', host?.replace(/^\[|\]$/g, '') ?? '', 'sftp'];
  const options = host === undefined ? [] : ['-o', `sftp.command=${ssh.map((word) => `'${word}'`).join(' ')}`];

  const failed = (code: number | null, said: string): VeldError => {
    const words = said.trim().split('\n').filter((line) => line !== '' && !/^\{/.test(line)).slice(-4).join(' / ').slice(-600) || `restic ended with status ${code}`;
    if (/wrong password or no key found/.test(said)) return new VeldError('repository.invalid', `The password of the repository ${name} is not that of ${location}.`, { hint: 'Add it with the password with which it was made: --password-file FILE.' });
    if (/No space left on device|disk quota exceeded/i.test(said)) return new VeldError('disk.full', `No space left in the repository ${name}: ${words}`);
    if (/is already locked/.test(said)) return new VeldError('repository.unavailable', `The repository ${name} is being worked on: ${words}`, { hint: 'Try again when that has ended.' });
    return new VeldError('repository.unavailable', `The repository ${name} cannot be used: ${words}`);
  };
  const restic = async (args: readonly string[], signal?: AbortSignal): Promise<string> => {
    const { code, stdout, stderr } = await run('/usr/bin/restic', [...options, ...args], { env, allow: true, keep: LISTED, ...signal && { signal } }).catch((error: unknown) => { throw installed(error); });
    if (code !== 0) throw failed(code, stderr || stdout);
    return stdout;
  };
  const listed = async (more: readonly string[]): Promise<Backup[]> => {
    const all = JSON.parse(await restic(['snapshots', '--json', '--no-lock', '--tag', TAG, ...more]) || '[]') as { id: string; time: string; hostname: string; tags?: string[] }[] | null;
    return (all ?? []).flatMap(({ id, time, hostname, tags = [] }) => {
      const tag = (key: string): string => tags.find((one) => one.startsWith(`${key}=`))?.slice(key.length + 1) ?? '';
      return [{ id, at: new Date(time).toISOString(), ve: tag('ve'), name: tag('name'), template: tag('template'), host: hostname }];
    }).sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  };
  /** Locks of processes that have ended, as after a power cut. */
  const unlock = (signal: AbortSignal): Promise<string> => restic(['unlock'], signal);

  return {
    async open() {
      if (host === undefined && existsSync(join(location, 'config')) || host !== undefined) {
        const { code, stderr } = await run('/usr/bin/restic', [...options, 'cat', 'config', '--no-lock'], { env, allow: true }).catch((error: unknown) => { throw installed(error); });
        if (code === 0) return false;
        if (!/Is there a repository at|does not exist|no such file/i.test(stderr) || /wrong password/.test(stderr)) throw failed(code, stderr);
      }
      await restic(['init', '--repository-version', '2']);
      return true;
    },

    async store({ ve, name: veName, template, host: by, mark }, stream, signal) {
      await unlock(signal); // one that was ended in the middle of a check, say
      const tags = [TAG, `ve=${ve}`, `name=${veName}`, `template=${template}`, `mark=${mark}`].flatMap((tag) => ['--tag', tag]);
      // It must not outlive whoever feeds it: the end of its input would look like the end of the stream, and it would keep what came of it.
      const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', '--', '/usr/bin/restic', ...options, 'backup', '--json', '--stdin', '--stdin-filename', FILE, '--host', by, ...tags],
        { cwd: '/', env: { PATH: SAFE_PATH, LC_ALL: 'C', HOME: '/root', ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
      let [out, said] = ['', ''];
      // Of its progress only what comes last counts.
      child.stdout.on('data', (chunk: Buffer) => { out = (out + chunk.toString('utf8')).slice(-16_384); });
      child.stderr.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-4000); });
      const ended = new Promise<number | null>((resolve, reject) => {
        child.on('error', (error) => reject(installed(error)));
        child.on('close', resolve);
      });
      ended.catch(() => {}); // told below
      const kill = (): void => { child.kill('SIGKILL'); };
      signal.addEventListener('abort', kill, { once: true });
      try {
        await fed(child.stdin, stream.output);
        await stream.ended;
        signal.throwIfAborted();
      } catch (error) {
        // One that has closed its input is about to say why.
        if (error === EARLY) await Promise.race([ended.catch(() => {}), sleep(LAST_WORDS, undefined, { ref: false })]);
        kill(); // else before it sees the end of its input
        const code = await ended.catch(() => null);
        stream.output.destroy();
        const why = await stream.ended.then(() => error, (reason: unknown) => reason);
        throw signal.aborted ? new VeldError('operation.cancelled', 'The backup was cancelled.', { cause: error }) : error === EARLY ? failed(code, said) : why;
      } finally {
        signal.removeEventListener('abort', kill);
      }
      child.stdin.end();
      const code = await ended;
      const summary = out.trim().split('\n').flatMap((line) => { try { return [JSON.parse(line) as { message_type?: string; snapshot_id?: string; data_added?: number }]; } catch { return []; } }).find((one) => one.message_type === 'summary');
      if (code !== 0 || summary?.snapshot_id === undefined) throw failed(code, said);
      return { id: summary.snapshot_id, added: summary.data_added ?? 0 };
    },

    list: (ve) => listed(ve === undefined ? [] : ['--tag', `${TAG},ve=${ve}`]).then((all) => (ve === undefined ? all : all.filter((one) => one.ve === ve))),

    read(id, signal) {
      const child = spawn('/usr/bin/restic', [...options, 'dump', '--no-lock', id, `/${FILE}`], { cwd: '/', env: { PATH: SAFE_PATH, LC_ALL: 'C', HOME: '/root', ...env }, stdio: ['ignore', 'pipe', 'pipe'], signal });
      let said = '';
      child.stderr.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-4000); });
      const ended = new Promise<void>((resolve, reject) => {
        child.on('error', (error) => reject(error.name === 'AbortError' ? new VeldError('operation.cancelled', 'The operation was cancelled.', { cause: error }) : installed(error)));
        child.on('close', (code) => (code === 0 ? resolve() : reject(failed(code, said))));
      });
      ended.catch(() => {}); // whoever waits hears of it
      return { output: child.stdout, ended };
    },

    async forget(ve, mark, keep, prune, signal) {
      if (Object.keys(keep).length === 0) return 0;
      if (prune) await unlock(signal);
      const before = await this.list(ve);
      await restic(['forget', '--tag', `${TAG},ve=${ve},mark=${mark}`, '--group-by', '', ...Object.entries(keep).flatMap(([span, count]) => [`--keep-${span}`, String(count)]), ...prune ? ['--prune'] : []], signal);
      return before.length - (await this.list(ve)).length;
    },

    async remove(id, signal) {
      await unlock(signal);
      await restic(['forget', '--prune', id], signal);
    },

    async check(data, signal) {
      await unlock(signal);
      try {
        await restic(['check', ...data ? ['--read-data'] : []], signal);
      } catch (error) {
        if (error instanceof VeldError && error.code === 'repository.unavailable' && !/locked/.test(error.message)) throw new VeldError('repository.damaged', `The repository ${name} is not whole: ${error.message}`, { cause: error });
        throw error;
      }
    },
  };
}

/** How long restic has to say why it takes no more, in milliseconds. */
const LAST_WORDS = 10_000;

const EARLY = new Error('restic ended before it had all of the stream');

/** Give all of a stream to a program, whose input stays open: its end would mean that this was all. */
async function fed(input: Writable, stream: Readable): Promise<void> {
  input.on('error', () => {}); // it has ended: told below
  for await (const chunk of stream) {
    await writeTo(input, chunk as Buffer);
    if (input.destroyed) throw EARLY;
  }
}

function installed(error: unknown): Error {
  const { code, cause } = error as { code?: string; cause?: { code?: string } };
  if (code === 'ENOENT' || cause?.code === 'ENOENT') return new VeldError('command.failed', 'restic is not installed on this node.', { hint: 'apt-get install restic' });
  return error as Error;
}
