/** This machine's end of a copy: GNU tar with the rights of whoever runs `veld`. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, rmdirSync, statSync, utimesSync, type Stats } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import { lastWords, listenTo, pour, type Source, type Target } from './ends.ts';

const ENVIRONMENT = { ...process.env, LC_ALL: 'C.UTF-8', TAR_OPTIONS: undefined, POSIXLY_CORRECT: undefined };

/** A file or folder of this machine as a tar stream with the root `d`. */
export function localSource(path: string, follow: boolean): Source {
  const stat = statOf(path, follow || path.endsWith('/'));
  if (!stat) throw failure(`there is no ${path}`);
  if (stat.isSocket()) throw failure(`${path} is a socket`);
  // A link that is followed by the last name only: the name stays.
  const where = stat.isDirectory() ? [`--directory=${resolve(path)}`, '--transform=s,^\\.,d,S', '.']
    : [`--directory=${dirname(resolve(path))}`, '--transform=s,^\\./.*,d,S', ...(follow ? ['--dereference'] : []), '--', `./${basename(path)}`];
  const child = spawn('tar', ['--create', '--file=-', '--format=posix', '--numeric-owner', '--sparse', '--acls', '--xattrs', '--xattrs-include=user.*',
    '--xattrs-include=security.capability', '--warning=no-file-ignored', ...where], { env: ENVIRONMENT, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = listenTo(child.stderr);
  const ended = endOf(child);
  return {
    stream: child.stdout,
    async finished() {
      const code = await ended;
      if (code > 1) throw failure(lastWords(said()) || `tar ended with status ${code}`);
      return said();
    },
    abort: () => { child.kill(); },
  };
}

/**
 * A place of this machine. All is written into a fresh folder beside the target first, which only the user can enter, and is renamed when it is whole.
 * What is there already is not followed: a link in the target's place is replaced, one where a folder should be is refused.
 * @param request `path` as typed; `name` for an existing folder, empty: into it; `folder`: what comes is one; `privileged`: with file capabilities
 */
export function localTarget({ path, name, folder, privileged }: { path: string; name: string; folder: boolean; privileged: boolean }): Target {
  const { final, merge } = targetOf(path, name, folder);
  const stage = join(merge ? final : dirname(final), `.veld-cp-${randomBytes(8).toString('hex')}`);
  attempt(`${dirname(stage)} cannot be written`, () => mkdirSync(stage, { mode: 0o700 }));
  const owner = process.getuid?.() === 0 ? '--same-owner' : '--no-same-owner';
  const child = spawn('tar', ['--extract', '--file=-', `--directory=${stage}`, '--numeric-owner', owner, '--preserve-permissions', '--delay-directory-restore', '--acls', '--xattrs',
    '--xattrs-include=user.*', ...(privileged ? ['--xattrs-include=security.capability'] : []), '--warning=no-timestamp'], { env: ENVIRONMENT, stdio: ['pipe', 'ignore', 'pipe'] });
  const said = listenTo(child.stderr);
  const ended = endOf(child);
  child.stdin.on('error', () => {}); // it ended early: its status and words follow
  let failed = false;
  child.on('exit', (code) => { failed = code !== 0; });
  const remove = (): void => rmSync(stage, { recursive: true, force: true });
  return {
    async write(chunk) {
      await pour(child.stdin, chunk);
      if (failed || child.stdin.destroyed) throw failure(await ended.then(() => lastWords(said())) || 'tar ended too early'); // no use in reading the rest
    },
    async commit() {
      try {
        child.stdin.end();
        const code = await ended;
        if (code !== 0) throw failure(lastWords(said()) || `tar ended with status ${code}`);
        const made = join(stage, 'd');
        if (!privileged) checkHarmless(made);
        attempt(`${final} cannot be replaced`, () => {
          if (merge) {
            checkMerge(made, final);
            mergeInto(made, final);
          } else renameSync(made, final);
        });
      } finally {
        remove();
      }
    },
    async abort() {
      child.kill('SIGKILL');
      await ended.catch(() => {});
      remove();
    },
  };
}

/** Where the copy goes: as `cp -a` decides. */
function targetOf(path: string, name: string, folder: boolean): { final: string; merge: boolean } {
  const place = resolve(path);
  let final = place;
  if (statOf(place, true)?.isDirectory()) {
    if (name === '' && !folder) throw failure(`${path} is a folder`);
    final = name === '' ? place : join(place, name);
  } else if (path.endsWith('/')) throw failure(`there is no folder ${path}`);
  if (!statOf(dirname(final), true)?.isDirectory()) throw failure(`there is no folder ${dirname(final)}`);
  // A folder that the user has named may be a link to it; one that was found in there may not.
  const there = statOf(final, name === '');
  if (there?.isDirectory() && !folder) throw failure(`${final} is a folder`);
  if (there && !there.isDirectory() && folder) throw failure(`${final} is there already, and is not a folder`);
  return { final, merge: there?.isDirectory() === true };
}

/** The filter has taken care of this; that nothing got past it is made sure of before the user's name is on it. */
function checkHarmless(path: string): void {
  const stat = lstatSync(path);
  if (stat.isCharacterDevice() || stat.isBlockDevice() || (stat.isFile() && (stat.mode & 0o6000) !== 0)) {
    throw new VeldError('path.refused', 'The stream of files held a device node or a set-user-id program in disguise.', { hint: 'Nothing of it was kept.' });
  }
  if (stat.isDirectory()) for (const name of readdirSync(path)) checkHarmless(join(path, name));
}

/** Before anything is moved: can all of it be? */
function checkMerge(from: string, to: string): void {
  for (const name of readdirSync(from)) {
    const next = statOf(join(to, name), false);
    if (!next) continue;
    const isFolder = lstatSync(join(from, name)).isDirectory();
    if (next.isDirectory() !== isFolder) throw failure(`${join(to, name)} is there already, and is ${next.isDirectory() ? 'a' : 'not a'} folder`);
    if (isFolder) checkMerge(join(from, name), join(to, name));
  }
}

function mergeInto(from: string, to: string): void {
  const stat = lstatSync(from);
  for (const name of readdirSync(from)) {
    const next = join(from, name);
    if (lstatSync(next).isDirectory() && existsSync(join(to, name))) mergeInto(next, join(to, name));
    else renameSync(next, join(to, name));
  }
  if (process.getuid?.() === 0) chownSync(to, stat.uid, stat.gid);
  chmodSync(to, stat.mode & 0o7777);
  utimesSync(to, stat.atime, stat.mtime);
  rmdirSync(from);
}

function endOf(child: ReturnType<typeof spawn>): Promise<number> {
  const ended = new Promise<number>((done, reject) => {
    child.on('error', (error) => reject(failure(`tar could not be run on this machine: ${error.message}`)));
    child.on('close', (code) => done(code ?? 128));
  });
  ended.catch(() => {}); // awaited later
  return ended;
}

function statOf(path: string, follow: boolean): Stats | undefined {
  try {
    return follow ? statSync(path) : lstatSync(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw failure(message);
  }
}

function attempt(what: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (error instanceof VeldError) throw error;
    throw failure(`${what}: ${(error as Error).message}`);
  }
}

function failure(what: string): VeldError {
  return new VeldError('copy.failed', `${what[0]?.toUpperCase()}${what.slice(1)}.`);
}
