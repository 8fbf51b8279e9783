/**
 * The sources of this node: files of the administrator, NAME.conf each, and below them those that ship. Read when they are asked for: an edited file counts at once.
 * Lines `KEY=VALUE`, the first comment says what it is; keys are those of {@link Source}, and `mirror` once for each further address.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError, toVeldError } from '../../lib/errors.ts';
import { namesIn } from '../../lib/files.ts';
import type { Settings } from '../../lib/settings.ts';
import type { ProtocolName, Source } from './types.ts';

/** What a source may be called. */
export const SOURCE_NAME = /^[a-z][a-z0-9-]{0,30}$/;
const PROTOCOLS: readonly ProtocolName[] = ['simplestreams', 'precreated'];
const KEYS = ['protocol', 'url', 'mirror', 'keyring', 'trust', 'ca', 'order'] as const;
type Key = typeof KEYS[number];

/** By order, then by name; the administrator's stands in the place of a shipped one of its name, and an empty file (or a link to /dev/null) takes that away. */
export function listSources(settings: Pick<Settings, 'sourcesDir' | 'libexecDir'>): Source[] {
  const found = new Map<string, Source>();
  for (const [folder, shipped] of [[join(settings.libexecDir, '../share/sources'), true], [settings.sourcesDir, false]] as const) {
    for (const file of namesIn(folder)) {
      const name = file.replace(/\.conf$/, '');
      if (name === file || !SOURCE_NAME.test(name)) continue;
      const source = read(name, join(folder, file), shipped);
      if (source === undefined) found.delete(name);
      else found.set(name, source);
    }
  }
  return [...found.values()].toSorted((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1));
}

/** @throws VeldError `source.not_found`, `source.invalid` */
export function findSource(settings: Pick<Settings, 'sourcesDir' | 'libexecDir'>, name: string): Source {
  const source = listSources(settings).find((each) => each.name === name);
  if (!source) throw new VeldError('source.not_found', `There is no source ${JSON.stringify(name.slice(0, 80))}.`);
  if (source.error !== null) throw new VeldError('source.invalid', source.error);
  return source;
}

/**
 * Read a source's file.
 * @param where named in errors
 * @throws VeldError `source.invalid`
 */
export function parseSource(text: string, where: string): Pick<Source, 'description' | 'protocol' | 'urls' | 'keyring' | 'trust' | 'ca' | 'order'> {
  const bad = (why: string): never => { throw new VeldError('source.invalid', `${where}: ${why}.`); };
  const given = new Map<Key, string[]>();
  let description = '';
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line.startsWith('#') && description === '' && given.size === 0) description = line.replace(/^#+\s*/, '');
    if (line === '' || line.startsWith('#')) continue;
    const [, key = '', value = ''] = /^([a-z]+)\s*=\s*(.*)$/.exec(line) ?? bad(`line ${index + 1} is not of the form KEY=VALUE`);
    if (!(KEYS as readonly string[]).includes(key)) bad(`line ${index + 1}: there is no key ${JSON.stringify(key)}; keys are ${KEYS.join(', ')}`);
    if (given.has(key as Key) && key !== 'mirror') bad(`line ${index + 1}: ${key} is given twice`);
    given.set(key as Key, [...given.get(key as Key) ?? [], value]);
  }
  const one = (key: Key): string | undefined => given.get(key)?.[0];
  const protocol = PROTOCOLS.find((each) => each === one('protocol')) ?? bad(`protocol must be one of ${PROTOCOLS.join(', ')}`);
  const urls = [...given.get('url') ?? bad('it has no url'), ...given.get('mirror') ?? []].map((url) => checkUrl(url) ?? bad(`${JSON.stringify(url)} is not an http or https address without name, password and query`));
  const keyring = one('keyring') ?? null;
  const ca = one('ca') ?? null;
  for (const path of [keyring, ca]) if (path !== null && !path.startsWith('/')) bad(`${JSON.stringify(path)} is not an absolute path`);
  const trust = one('trust') ?? 'signature';
  if (trust !== 'signature' && trust !== 'https') return bad('trust must be signature or https');
  if (trust === 'signature' && keyring === null) bad('it has no keyring to check signatures against; a server that signs nothing has to be trusted expressly: trust=https');
  if (trust === 'https' && keyring === null && !urls.every((url) => url.startsWith('https:'))) bad('trust=https needs addresses that begin with https://');
  if (protocol === 'precreated' && keyring === null) bad('servers of this kind list no hashes, so it needs a keyring');
  const order = Number(one('order') ?? 50);
  if (!Number.isInteger(order) || order < 0 || order > 99) bad('order must be a whole number from 0 to 99');
  return { description, protocol, urls, keyring, trust, ca, order };
}

/** @returns without a slash at the end; undefined: it is none that can be used */
function checkUrl(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.username + url.password + url.search + url.hash !== '' || /[\s\\]/.test(text)) return undefined;
  return url.href.replace(/\/+$/, '');
}

/** @returns undefined for an empty file: there is no such source */
function read(name: string, file: string, shipped: boolean): Source | undefined {
  const nothing = { description: '', protocol: 'simplestreams' as const, urls: [], keyring: null, trust: 'signature' as const, ca: null, order: 50 };
  try {
    const text = readFileSync(file, 'utf8');
    return text === '' ? undefined : { name, ...parseSource(text, file), file, shipped, error: null };
  } catch (error) {
    return { name, ...nothing, file, shipped, error: toVeldError(error).message };
  }
}
