/** What is laid into a new VE for whoever will use it: accounts, keys, language, time zone, and data for cloud-init. Pure: what it is, and what of it is wrong. */
import { VeldError } from '../lib/errors.ts';
import { keyFault } from './ssh-keys.ts';

/** Who may log in, and how. */
export interface PersonalLogin {
  /** Lines of authorized_keys. */
  sshKeys?: string[];
  /** As in shadow(5), made where the password was typed: the password itself never comes here. */
  passwordHash?: string;
}

/** An account that is made. */
export interface PersonalUser extends PersonalLogin {
  name: string;
  /** It may do everything, by sudo. */
  sudo?: boolean;
}

/** Files of cloud-init's datasource NoCloud. */
export interface CloudInitData {
  userData?: string;
  vendorData?: string;
  networkConfig?: string;
}

/** All that a new VE can be given. Nothing of it is kept elsewhere than in the VE. */
export interface Personal {
  users?: PersonalUser[];
  root?: PersonalLogin;
  /** E.g. `C.UTF-8`. */
  locale?: string;
  /** E.g. `Europe/Berlin`. */
  timezone?: string;
  cloudInit?: CloudInitData;
}

/** Bytes of each file for cloud-init. */
export const CLOUD_DATA_MAX = 65_536;

/** useradd(8) of Debian and Fedora takes these; sudoers(5) and passwd(5) have no meaning of their own for any of it. */
const USER_NAME = /^[a-z_][a-z0-9_-]{0,31}$/;

/** crypt(5): yescrypt, gost-yescrypt, bcrypt, sha512crypt, sha256crypt. The weak ones are none of them. */
const HASH = /^\$(y|gy|2[aby]|6|5)\$[./A-Za-z0-9$=,-]{16,300}$/;

const LOCALE = /^[A-Za-z][A-Za-z0-9_]{0,31}(\.[A-Za-z0-9-]{1,16})?(@[A-Za-z0-9]{1,16})?$/;

/** Of the tz database; no dots, so that no name leads out of its folder. */
const ZONE = /^[A-Za-z0-9][A-Za-z0-9_+-]{0,30}(\/[A-Za-z0-9][A-Za-z0-9_+-]{0,30}){0,2}$/;

/** How cloud-init tells what user-data is (docs of cloud-init, "User data formats"). What begins otherwise it passes over with a warning that nobody reads. */
const DATA_BEGINS = /^(#cloud-config|#cloud-boothook|#cloud-config-archive|#cloud-config-jsonp|#part-handler|#include|#!|## template: ?jinja|content-type:|mime-version:|from )/i;

/** @throws VeldError `personal.invalid`, in words that say which part */
export function checkPersonal(personal: Personal): void {
  const { users = [], root, locale, timezone, cloudInit = {} } = personal;
  const seen = new Set<string>();
  for (const user of users) {
    const shown = JSON.stringify(user.name.slice(0, 64));
    if (!USER_NAME.test(user.name)) throw wrong(`${shown} cannot be the name of a user: it is 1 to 32 of a-z, 0-9, _ and -, a letter or _ first`);
    if (user.name === 'root') throw wrong('root is there in every VE, and is not made', 'Give it keys without a user: --ssh-key without --user, or `root` of the request.');
    if (seen.has(user.name)) throw wrong(`the user ${user.name} is there twice`);
    seen.add(user.name);
    checkLogin(user, user.name);
  }
  if (root) checkLogin(root, 'root');
  if (locale !== undefined && !LOCALE.test(locale)) throw wrong(`${JSON.stringify(locale.slice(0, 64))} is not the name of a locale, such as C.UTF-8 or de_DE.UTF-8`);
  if (timezone !== undefined && !ZONE.test(timezone)) throw wrong(`${JSON.stringify(timezone.slice(0, 64))} is not the name of a time zone, such as Europe/Berlin or UTC`);
  checkData('The user-data', cloudInit.userData, true);
  checkData('The vendor-data', cloudInit.vendorData, true);
  checkData('The network configuration', cloudInit.networkConfig, false);
}

/** Whether a VE with this must boot: what its programs read when they begin they would not see if they ran already. */
export function mustBoot(personal: Personal | undefined): boolean {
  return personal !== undefined && (personal.locale !== undefined || personal.timezone !== undefined || asksCloudInit(personal));
}

/** Whether it is for cloud-init, too. */
export function asksCloudInit(personal: Personal | undefined): boolean {
  return Object.values(personal?.cloudInit ?? {}).some((data) => data !== undefined);
}

/** What may be told of it in logs: no key, no hash, no data. */
export function outlineOf({ users = [], root, locale, timezone, cloudInit = {} }: Personal): Record<string, unknown> {
  const login = ({ sshKeys = [], passwordHash }: PersonalLogin) => ({ keys: sshKeys.length, hash: passwordHash !== undefined });
  return {
    users: users.map((user) => ({ name: user.name, ...login(user), sudo: user.sudo === true })), ...root && { root: login(root) }, locale, timezone,
    cloudInit: Object.entries(cloudInit).flatMap(([name, data]) => (data === undefined ? [] : [name])),
  };
}

function checkLogin({ sshKeys = [], passwordHash }: PersonalLogin, of: string): void {
  for (const [i, key] of sshKeys.entries()) {
    const fault = keyFault(key);
    if (fault !== undefined) throw wrong(`key ${i + 1} of ${of} ${fault}`);
  }
  if (passwordHash !== undefined && !HASH.test(passwordHash)) throw wrong(`the hash of the password of ${of} is none that crypt(5) calls strong: yescrypt, bcrypt, sha512crypt, sha256crypt`, '`openssl passwd -6 -stdin` makes one.');
}

function checkData(what: string, data: string | undefined, begins: boolean): void {
  if (data === undefined) return;
  if (Buffer.byteLength(data) > CLOUD_DATA_MAX) throw wrong(`${what} for cloud-init is larger than ${CLOUD_DATA_MAX} bytes`, 'Let it fetch the rest: #include, or a command.');
  if (data.includes('\0')) throw wrong(`${what} for cloud-init holds a NUL character: it is not text`);
  if (begins && !DATA_BEGINS.test(data)) throw wrong(`${what} for cloud-init begins with nothing that it knows`, 'Begin it with #cloud-config, #! and a shell, or what else the documents of cloud-init name.');
}

function wrong(what: string, hint?: string): VeldError {
  return new VeldError('personal.invalid', `${what[0]!.toUpperCase()}${what.slice(1)}.`, hint === undefined ? {} : { hint });
}
