/** Readers of option values that are not plain text. */
import { VeldError } from '../lib/errors.ts';

const SECONDS: Record<string, number> = { '': 1, s: 1, m: 60, min: 60, h: 3600 };

/** `30`, `30s`, `5m`, `1h` as whole seconds. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,7})\s*(s|m|min|h|)$/.exec(text);
  if (!match) throw new VeldError('usage', `'${text}' is not a duration such as 30s or 5m.`);
  return Number(match[1]) * SECONDS[match[2]!]!;
}

/** Seconds with a fraction, 0.1 to a day: `2`, `0.5`, `10s`. */
export function parseSeconds(text: string): number {
  const seconds = /^\d{1,5}(\.\d{1,3})?s?$/.test(text) ? Number(text.replace('s', '')) : Number.NaN;
  if (!(seconds >= 0.1 && seconds <= 86_400)) throw new VeldError('usage', `'${text}' is not a number of seconds from 0.1 to 86400.`);
  return seconds;
}

/** A count of at least 0. */
export function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new VeldError('usage', `'${text}' is not a number.`);
  return Number(text);
}

/** `NAME=VALUE` as a pair; the value may be empty and may hold more `=`. */
export function parsePair(text: string): [name: string, value: string] {
  const at = text.indexOf('=');
  if (at < 1) throw new VeldError('usage', `'${text}' is not of the form NAME=VALUE.`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** A count of at least 1. */
export function parsePositive(text: string): number {
  const count = parseCount(text);
  if (count < 1) throw new VeldError('usage', `'${text}' is not a number of at least 1.`);
  return count;
}

/** `NAME=VALUE` with the name of an environment variable. */
export function parseVariable(text: string): [name: string, value: string] {
  const pair = parsePair(text);
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,255}$/.test(pair[0])) throw new VeldError('usage', `'${pair[0]}' cannot be the name of a variable.`);
  return pair;
}

/** What may name a user, as the API takes it. */
export function parseUser(text: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.$-]{0,63}$/.test(text)) throw new VeldError('usage', `${JSON.stringify(text)} is neither the name of a user nor a uid.`);
  return text;
}

/**
 * Properties as an object, each given once: of two values for one name, neither is certainly the one that was meant.
 * @throws VeldError `usage` for a name given twice
 */
export function propertiesOf<T>(pairs: readonly (readonly [string, T])[], command: string): Record<string, T> {
  const seen = new Set<string>();
  for (const [name] of pairs) {
    if (seen.has(name)) throw new VeldError('usage', `${command}: ${name} is given twice.`, { hint: `See \`veld help ${command}\`.` });
    seen.add(name);
  }
  return fromPairs(pairs);
}

/** Pairs as an object without a prototype's names in the way. A name given twice: the last wins. */
export function fromPairs<T>(pairs: readonly (readonly [string, T])[]): Record<string, T> {
  return Object.fromEntries(pairs);
}

/** A path segment of the API from what the user typed. */
export function segment(text: string): string {
  // `.` and `..` would be resolved away by URL parsers; they name nothing anyway.
  return encodeURIComponent(text).replace(/^\.{1,2}$/, (dots) => dots.replaceAll('.', '%2E'));
}
