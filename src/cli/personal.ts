/** What `veld create` lays into a VE for its users: read from options and files here, so that a password never leaves this process but as a hash. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { VeldError } from '../lib/errors.ts';
import { run } from '../lib/run.ts';
import { CLOUD_DATA_MAX, checkPersonal, type Personal } from '../spec/personal.ts';
import { looksLikeKey } from '../spec/ssh-keys.ts';

export interface PersonalOptions {
  user?: string;
  sshKey?: string[];
  passwordFile?: string;
  sudo?: boolean;
  locale?: string;
  timezone?: string;
  userData?: string;
  vendorData?: string;
  networkConfig?: string;
}

/** Bytes of a file with keys, and of one with a password. */
const KEYS_MAX = 262_144;
const PASSWORD_MAX = 4096;
/** openssl takes no more, and cuts off what is beyond. */
const PASSWORD_BYTES = 256;

/** @returns undefined when nothing is asked for @throws VeldError `usage`, `personal.invalid` */
export async function readPersonal(options: PersonalOptions): Promise<Personal | undefined> {
  const { user, sshKey = [], passwordFile, sudo, locale, timezone } = options;
  if (sudo === true && user === undefined) throw usage('--sudo goes with --user: root may do everything anyway');
  const sshKeys = sshKey.flatMap(keysOf);
  const passwordHash = passwordFile === undefined ? undefined : await hashOf(passwordFile);
  const login = { ...sshKeys.length > 0 && { sshKeys }, ...passwordHash !== undefined && { passwordHash } };
  const data = (['userData', 'vendorData', 'networkConfig'] as const).flatMap((name) => (options[name] === undefined ? [] : [[name, readText(options[name], CLOUD_DATA_MAX, '64 KiB, which is what is taken of it')] as const]));
  const personal: Personal = {
    ...user !== undefined ? { users: [{ name: user, ...login, ...sudo === true && { sudo } }] } : Object.keys(login).length > 0 && { root: login },
    ...locale !== undefined && { locale }, ...timezone !== undefined && { timezone },
    ...data.length > 0 && { cloudInit: Object.fromEntries(data) },
  };
  if (Object.keys(personal).length === 0) return undefined;
  checkPersonal(personal); // the daemon does, too; here before a word has gone to it
  return personal;
}

/** A key, or all of a file. */
function keysOf(given: string): string[] {
  if (looksLikeKey(given)) return [given.trim()];
  const text = readText(given, KEYS_MAX, '256 KiB: it is no file with public keys');
  if (text.includes('PRIVATE KEY')) throw usage(`${given} holds a private key, which should never leave its owner`, 'Name the public one: its file ends in .pub.');
  const keys = text.split('\n').map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
  if (keys.length === 0) throw usage(`there is no key in ${given}`);
  return keys;
}

/** The hash of the first line of a file. sha512crypt: every libc with crypt(3) that a VE may have knows it, busybox and musl, too. */
async function hashOf(file: string): Promise<string> {
  const [password = ''] = readText(file, PASSWORD_MAX, '4 KiB: it is no file with a password').split(/\r?\n/);
  if (password === '') throw usage(`the first line of ${file === '-' ? 'standard input' : file}, which is the password, is empty`);
  if (Buffer.byteLength(password) > PASSWORD_BYTES) throw usage(`the password is longer than ${PASSWORD_BYTES} bytes`);
  const { stdout } = await run('openssl', ['passwd', '-6', '-stdin'], { input: `${password}\n`, timeout: 60_000 }).catch((error: unknown) => {
    throw new VeldError('command.failed', 'The password could not be hashed: openssl failed.', { hint: 'Install Debian\'s package openssl.', cause: error });
  });
  return stdout.trim();
}

/** A file, or standard input for `-`. */
function readText(file: string, most: number, words: string): string {
  let fd: number | undefined;
  try {
    fd = file === '-' ? 0 : openSync(file, 'r');
    if (fd !== 0 && fstatSync(fd).isDirectory()) throw usage(`${file} is a folder`);
    const buffer = Buffer.alloc(most + 1);
    let length = 0;
    for (let count = -1; count !== 0 && length <= most; length += count) count = readSync(fd, buffer, length, buffer.length - length, null);
    if (length > most) throw usage(`${file} is larger than ${words}`);
    return buffer.subarray(0, length).toString('utf8');
  } catch (error) {
    if (error instanceof VeldError) throw error;
    throw usage(`${file} could not be read: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
  } finally {
    if (fd !== undefined && fd !== 0) closeSync(fd);
  }
}

function usage(what: string, hint = 'See `veld help create`.'): VeldError {
  return new VeldError('usage', `create: ${what}.`, { hint });
}
