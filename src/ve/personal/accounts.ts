/**
 * The account files of a VE as text: what useradd(8) and chpasswd(8) would make of them, without a program of the VE. Formats: passwd(5), shadow(5), group(5),
 * gshadow(5). What is not understood stays as it is. Pure.
 */
import { VeldError } from '../../lib/errors.ts';

/** Content of the four; absent: the VE has no such file. */
export interface AccountFiles {
  passwd: string;
  shadow?: string | undefined;
  group: string;
  gshadow?: string | undefined;
}

export interface NewAccount {
  name: string;
  /** Absent: no password will do. */
  passwordHash?: string | undefined;
  /** Those that the VE has of these it belongs to, too. */
  groups: readonly string[];
  home: string;
  shell: string;
}

export interface AddedAccount {
  files: AccountFiles;
  uid: number;
  gid: number;
  /** Of the groups that were asked for. */
  groups: string[];
}

/** Where useradd(8) begins and ends (login.defs(5): UID_MIN, UID_MAX). */
const FIRST_ID = 1000;
const LAST_ID = 59_999;

/** Passwords that nobody has. `!` would not do: sshd without PAM takes an account so marked for locked, and its keys, too. */
const NONE = '*';

/** Fields of a root that is locked without having a password. */
const LOCKED = ['!', '!!', '!*'];

/**
 * Add an account with a group of its own.
 * @param day today, in days since 1970
 * @throws VeldError `personal.invalid` when the VE has such a user or group, or no number is free
 */
export function addAccount(files: AccountFiles, account: NewAccount, day: number): AddedAccount {
  const { name, home, shell, passwordHash } = account;
  for (const [file, text] of [['user', files.passwd], ['group', files.group]] as const) {
    if (rows(text).some(([other]) => other === name)) throw new VeldError('personal.invalid', `The template has a ${file} ${name} already.`, { hint: 'Choose another name.' });
  }
  const id = freeId(files);
  const groups = account.groups.filter((group) => rows(files.group).some(([other, , gid]) => other === group && gid !== undefined));
  const password = passwordHash ?? NONE;
  return {
    uid: id, gid: id, groups,
    files: {
      passwd: added(files.passwd, `${name}:${files.shadow === undefined ? password : 'x'}:${id}:${id}::${home}:${shell}`),
      shadow: files.shadow === undefined ? undefined : added(files.shadow, `${name}:${password}:${day}:0:99999:7:::`),
      group: added(joined(files.group, groups, name), `${name}:x:${id}:`),
      gshadow: files.gshadow === undefined ? undefined : added(joined(files.gshadow, groups, name), `${name}:!::`),
    },
  };
}

/** Give an account that is there a password; the file that has its password now gets it. */
export function withPassword(files: AccountFiles, name: string, hash: string, day: number): AccountFiles {
  const shadowed = files.shadow !== undefined && rows(files.shadow).some(([other]) => other === name);
  const put = (text: string): string => changed(text, name, (row) => [row[0]!, hash, ...(shadowed ? [String(day), ...row.slice(3)] : row.slice(2))]);
  return shadowed ? { ...files, shadow: put(files.shadow!) } : { ...files, passwd: put(files.passwd) };
}

/** Let keys of an account do that has no password and is marked as locked: see NONE. */
export function openForKeys(files: AccountFiles, name: string): AccountFiles {
  if (files.shadow === undefined) return files;
  return { ...files, shadow: changed(files.shadow, name, (row) => (LOCKED.includes(row[1]!) ? [row[0]!, NONE, ...row.slice(2)] : row)) };
}

/** Home of an account. */
export function homeOf(files: AccountFiles, name: string): string | undefined {
  const home = rows(files.passwd).find(([other]) => other === name)?.[5];
  return home?.startsWith('/') === true && home.length > 1 ? home : undefined;
}

/** The first number that is neither a user's nor a group's. */
function freeId({ passwd, group }: AccountFiles): number {
  const taken = new Set([...rows(passwd), ...rows(group)].map(([, , id]) => Number(id)));
  for (let id = FIRST_ID; id <= LAST_ID; id++) if (!taken.has(id)) return id;
  throw new VeldError('personal.invalid', `The template has no user number free: all from ${FIRST_ID} to ${LAST_ID} are taken.`);
}

function rows(text: string): string[][] {
  return text.split('\n').map((line) => line.split(':'));
}

/** Add a row at the end; entries of NIS (`+`, `-`: passwd(5) of old, nsswitch.conf(5) "compat") must stay the last. */
function added(text: string, row: string): string {
  const lines = text.split('\n');
  while (lines.at(-1) === '') lines.pop();
  const nis = lines.findIndex((line) => /^[+-]/.test(line));
  lines.splice(nis < 0 ? lines.length : nis, 0, row);
  return `${lines.join('\n')}\n`;
}

function changed(text: string, name: string, change: (row: string[]) => string[]): string {
  return rows(text).map((row) => (row[0] === name && row.length > 1 ? change(row) : row).join(':')).join('\n');
}

/** Make a user a member of groups: the last field of their rows. */
function joined(text: string, groups: readonly string[], name: string): string {
  return rows(text).map((row) => {
    if (!groups.includes(row[0]!) || row.length < 4) return row.join(':');
    const members = row[3]!.split(',').filter(Boolean);
    return [...row.slice(0, 3), [...members, name].join(','), ...row.slice(4)].join(':');
  }).join('\n');
}
