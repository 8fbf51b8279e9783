/** Which names VEs and templates may have. */
import { VeldError } from '../lib/errors.ts';
import { quote } from './values.ts';

/** Words that commands give a meaning of their own where a name may stand. */
const RESERVED: ReadonlySet<string> = new Set(['all', 'any', 'none', 'auto', 'host', 'node', 'self', 'default', 'localhost']);
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/**
 * Check the name of a VE (or a node): it is its host name too, and never reads as a number, a UUID or a word such as `all`.
 * @param what it is to be the name of, for the message
 * @returns the name
 * @throws VeldError `name.invalid`
 */
export function checkName(name: unknown, what = 'a VE'): string {
  if (typeof name !== 'string' || !/^[a-z][a-z0-9-]{0,62}$/.test(name)) {
    throw new VeldError('name.invalid', `${quote(name)} cannot be the name of ${what}.`);
  }
  if (name.endsWith('-')) throw new VeldError('name.invalid', `${quote(name)} cannot be the name of ${what}: it ends with -.`);
  if (UUID.test(name)) throw new VeldError('name.invalid', `${quote(name)} cannot be the name of ${what}: it reads like a UUID.`);
  if (RESERVED.has(name)) throw new VeldError('name.invalid', `${quote(name)} cannot be the name of ${what}: the word is reserved.`);
  return name;
}

/**
 * Check the name of a template, e.g. `ubuntu-24.04`: it never reads as (the beginning of) a fingerprint.
 * @returns the name
 * @throws VeldError `name.invalid`
 */
export function checkTemplateName(name: unknown): string {
  const hint = 'A name is 1 to 63 characters of a-z, 0-9, -, . and +, and begins with a letter.';
  if (typeof name !== 'string' || !/^[a-z](?:[a-z0-9.+-]{0,61}[a-z0-9])?$/.test(name) || name.includes('..')) {
    throw new VeldError('name.invalid', `${quote(name)} cannot be the name of a template.`, { hint });
  }
  if (/^[0-9a-f]{8,64}$/.test(name)) {
    throw new VeldError('name.invalid', `${quote(name)} cannot be the name of a template: it reads like a fingerprint.`, { hint });
  }
  if (RESERVED.has(name)) throw new VeldError('name.invalid', `${quote(name)} cannot be the name of a template: the word is reserved.`, { hint });
  return name;
}
