/** Users of a running VE, and what their login begins with: read from the VE's own files through its root, with limits. */
import { openGuestRoot, type GuestRoot } from '../kernel/guest-tree.ts';
import type { ProcessId } from '../kernel/process.ts';
import { MAX_ACCOUNT_FILE, findUser, parseLocale, type GuestUser } from './guest-users.ts';

/** Of the locale's file, in bytes. */
const MAX_LOCALE_FILE = 1 << 14;

/** What a login takes when the shell that passwd names is not there. */
const SHELLS = ['/bin/bash', '/bin/sh'];

export interface ResolvedUser extends GuestUser {
  /** Folder to begin in: home, if it is there. */
  start: string;
}

export interface Login {
  user: ResolvedUser;
  /** A shell that exists, as far as can be seen from outside. */
  shell: string;
  /** LANG and its relatives, as the VE's administrator set them. */
  locale: Record<string, string>;
}

/** A user by name or uid. @throws VeldError `request.invalid` when there is no such user, `path.refused` when init has ended */
export async function resolveUser(init: ProcessId, wanted: string): Promise<ResolvedUser> {
  return withRoot(init, (root) => userIn(root, wanted));
}

/** All that a login shell of the user needs to know. Throws as {@link resolveUser}. */
export async function resolveLogin(init: ProcessId, wanted: string): Promise<Login> {
  return withRoot(init, async (root) => {
    const user = await userIn(root, wanted);
    let shell = user.shell;
    for (const candidate of [user.shell, ...SHELLS]) {
      if (!(await root.programExists(candidate))) continue;
      shell = candidate;
      break;
    }
    // Debian's place, then systemd's: what PAM would read for a login by ssh.
    const locale = parseLocale(await read(root, '/etc/default/locale', MAX_LOCALE_FILE) || await read(root, '/etc/locale.conf', MAX_LOCALE_FILE));
    return { user, shell, locale };
  });
}

async function withRoot<T>(init: ProcessId, work: (root: GuestRoot) => Promise<T>): Promise<T> {
  const root = await openGuestRoot(init);
  try {
    return await work(root);
  } finally {
    root.close();
  }
}

async function userIn(root: GuestRoot, wanted: string): Promise<ResolvedUser> {
  const user = findUser(wanted, await read(root, '/etc/passwd', MAX_ACCOUNT_FILE), await read(root, '/etc/group', MAX_ACCOUNT_FILE));
  // As su does: a user without a home begins at the top.
  return { ...user, start: (await root.folderExists(user.home)) ? user.home : '/' };
}

async function read(root: GuestRoot, path: string, limit: number): Promise<string> {
  try {
    return (await root.readFile(path, limit)).toString('utf8');
  } catch {
    return ''; // none, or not an ordinary file: root and numbers still work
  }
}
