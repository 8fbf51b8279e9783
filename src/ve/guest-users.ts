/** Users of a VE, from its own account files (formats: passwd(5), group(5)). The text comes from inside the VE: trust nothing. */
import { VeldError } from '../lib/errors.ts';

export interface GuestUser {
  name: string;
  uid: number;
  gid: number;
  /** Supplementary groups. */
  groups: number[];
  home: string;
  shell: string;
}

/** Ids that exist in a VE's range: 0 to one less. */
export const UIDS = 65_536;
const MAX_ID = UIDS - 1;

/** What is read of /etc/passwd and /etc/group, in bytes. */
export const MAX_ACCOUNT_FILE = 1 << 20;

/** Most supplementary groups that are taken over (the kernel allows 65536). */
const MAX_GROUPS = 1024;

/**
 * Find a user by name or number.
 * @throws VeldError `request.invalid` when the VE has no such user
 */
export function findUser(wanted: string, passwd: string, group: string): GuestUser {
  const numeric = /^\d{1,5}$/.test(wanted) ? Number(wanted) : undefined;
  const rows = passwd.split('\n').map((line) => line.split(':')).filter((row) => row.length >= 7 && isId(row[2]) && isId(row[3]));
  const row = rows.find((r) => r[0] === wanted) ?? rows.find((r) => numeric !== undefined && Number(r[2]) === numeric);
  if (!row) {
    if (wanted === 'root' || numeric === 0) return { name: 'root', uid: 0, gid: 0, groups: [], home: '/root', shell: '/bin/sh' };
    if (numeric !== undefined && numeric <= MAX_ID) return { name: wanted, uid: numeric, gid: numeric, groups: [], home: '/', shell: '/bin/sh' };
    throw new VeldError('request.invalid', `The VE has no user ${JSON.stringify(wanted.slice(0, 64))}.`, { hint: 'Name a user of its /etc/passwd, or a uid.' });
  }
  const [name, , uid, gid, , home, shell] = row as [string, string, string, string, string, string, string];
  const groups = group.split('\n').map((line) => line.split(':'))
    .filter((g) => g.length >= 4 && isId(g[2]) && g[3]!.split(',').includes(name)).map((g) => Number(g[2])).slice(0, MAX_GROUPS);
  return { name, uid: Number(uid), gid: Number(gid), groups, home: home.startsWith('/') ? home : '/', shell: shell || '/bin/sh' };
}

/** Names by uid; of several for one uid the first counts, as with getpwuid(3). */
export function userNames(passwd: string): Map<number, string> {
  const names = new Map<number, string>();
  for (const line of passwd.split('\n')) {
    const [name = '', , uid] = line.split(':');
    if (name !== '' && isId(uid) && !names.has(Number(uid))) names.set(Number(uid), name);
  }
  return names;
}

/** Names that locale(7) and gettext read. */
const LOCALE_NAME = /^(LANG|LANGUAGE|LC_[A-Z]+)$/;

/** The variables of a locale file (`LANG="C.UTF-8"`, one a line; format: locale.conf(5)). Whatever else it holds is left out. */
export function parseLocale(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const match = /^\s*([A-Z_]+)=(["']?)([A-Za-z0-9._@:-]{1,64})\2\s*$/.exec(line);
    if (match && LOCALE_NAME.test(match[1]!)) found[match[1]!] = match[3]!;
  }
  return found;
}

function isId(text: string | undefined): boolean {
  return text !== undefined && /^\d{1,5}$/.test(text) && Number(text) <= MAX_ID;
}
