/** The machine's own package sources, read from apt's files (one-line and deb822 format, see sources.list(5)), and its release. */
import { readdirSync } from 'node:fs';
import { arch } from 'node:process';
import { join } from 'node:path';
import { readIfExists } from '../lib/files.ts';
import { VeldError } from '../lib/errors.ts';

/** One source of binary packages. */
export interface PackageSource {
  uris: string[];
  suites: string[];
  components: string[];
  /** Debian architectures it is limited to; empty: all. */
  architectures: string[];
}

/** What /etc/os-release says. */
export interface HostRelease {
  /** `debian`, `ubuntu`, ... */
  id: string;
  /** `bookworm`, `noble`, ...; empty on a rolling release. */
  codename: string;
  /** `12`, `24.04`; empty when there is none. */
  version: string;
  /** For people. */
  title: string;
}

/** The host's release, from os-release(5). @param text content of the file, read when absent */
export function hostRelease(text = readIfExists('/etc/os-release') ?? ''): HostRelease {
  const value = (key: string): string => new RegExp(`^${key}=(?:"([^"]*)"|'([^']*)'|(\\S*))`, 'm').exec(text)?.slice(1).find((v) => v !== undefined) ?? '';
  return { id: value('ID'), codename: value('VERSION_CODENAME'), version: value('VERSION_ID'), title: value('PRETTY_NAME') };
}

/** Debian's name of this machine's architecture. @throws VeldError `kernel.unsupported` */
export function debianArchitecture(): string {
  const name = { x64: 'amd64', arm64: 'arm64' }[arch as string];
  if (name === undefined) throw new VeldError('kernel.unsupported', `Veld runs on x86_64 and aarch64, and this machine is ${arch}.`);
  return name;
}

/** Sources of a one-line file (`deb [options] URI SUITE COMPONENT...`). Broken lines are passed over, as they are apt's to complain of. */
export function parseOneLine(text: string): PackageSource[] {
  const sources: PackageSource[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (!match) continue;
    const [, options = '', uri = '', suite = '', rest = ''] = match;
    const architectures = /(?:^|\s)arch=(\S+)/.exec(options)?.[1]?.split(',') ?? [];
    sources.push({ uris: [uri], suites: [suite], components: words(rest), architectures });
  }
  return sources;
}

/** Sources of a deb822 file (`Types:`, `URIs:`, ... stanzas). */
export function parseDeb822(text: string): PackageSource[] {
  const sources: PackageSource[] = [];
  // A comment may stand between the lines of a field, so comments go first: otherwise one at a line's start would end a stanza.
  const lines = text.split('\n').filter((line) => !line.startsWith('#'));
  for (const stanza of lines.join('\n').split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    let key = '';
    for (const line of stanza.split('\n')) {
      const field = /^([A-Za-z][\w-]*)\s*:(.*)$/.exec(line);
      if (field) {
        key = field[1]?.toLowerCase() ?? '';
        fields.set(key, field[2] ?? '');
      } else if (/^[ \t]/.test(line) && key !== '') {
        fields.set(key, `${fields.get(key)} ${line}`);
      }
    }
    const list = (name: string): string[] => words(fields.get(name) ?? '');
    if (!list('types').includes('deb') || /^\s*(no|false|without|off|disable)\s*$/i.test(fields.get('enabled') ?? '')) continue;
    const [uris, suites] = [list('uris'), list('suites')];
    if (uris.length > 0 && suites.length > 0) sources.push({ uris, suites, components: list('components'), architectures: list('architectures') });
  }
  return sources;
}

/** All enabled sources of binary packages of a machine. @param etc folder with sources.list and sources.list.d/ */
export function packageSources(etc = '/etc/apt'): PackageSource[] {
  const sources = parseOneLine(readIfExists(join(etc, 'sources.list')) ?? '');
  let names: string[] = [];
  try {
    names = readdirSync(join(etc, 'sources.list.d')).toSorted();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  for (const name of names) {
    const text = readIfExists(join(etc, 'sources.list.d', name)) ?? '';
    if (name.endsWith('.list')) sources.push(...parseOneLine(text));
    else if (name.endsWith('.sources')) sources.push(...parseDeb822(text));
  }
  return sources;
}

/**
 * The mirror from which the machine takes `suite`: the first http(s) or file source that names the suite with the component `main`.
 * A mirror list (`mirror+file:`) counts as its first entry.
 * @returns the URI without a slash at its end, or undefined
 */
export function mirrorOf(suite: string, sources = packageSources()): string | undefined {
  for (const source of sources) {
    if (!source.suites.includes(suite) || !source.components.includes('main')) continue;
    for (const uri of source.uris) {
      const mirror = uri.startsWith('mirror+file:') ? firstOfList(uri.slice('mirror+file:'.length)) : uri;
      if (mirror !== undefined && /^(https?|file):\//.test(mirror) && !/[[\]\s]/.test(mirror)) return mirror.replace(/\/+$/, '');
    }
  }
  return undefined;
}

/**
 * The Debian mirror for the engine: the setting if given, else the one of the machine's own main source.
 * @param configured `engine.mirror` of the settings, or empty
 * @throws VeldError `engine.failed` on a machine that is not Debian and has no mirror configured
 */
export function debianMirror(configured: string, release = hostRelease(), sources = packageSources()): string {
  const given = configured || process.env.VELD_DEBIAN_MIRROR || '';
  if (given !== '') {
    if (!/^(https?|file):\/\/\S+$/.test(given)) throw new VeldError('settings.invalid', `The Debian mirror ${given} is not an http, https or file address.`);
    return given.replace(/\/+$/, '');
  }
  const own = release.id === 'debian' ? mirrorOf(release.codename, sources) : undefined;
  if (own !== undefined) return own;
  throw new VeldError('engine.failed', release.id === 'debian'
    ? `The package sources of this machine name no mirror of ${release.codename} main.`
    : `This machine is ${release.title || release.id}, not Debian, so its package sources name no Debian mirror for the engine.`,
  { hint: 'Name a Debian mirror: engine.mirror in the settings, or VELD_DEBIAN_MIRROR in the environment.' });
}

function firstOfList(file: string): string | undefined {
  const path = file.replace(/^\/\/(?=\/)/, '');
  return readIfExists(path)?.split('\n').map((line) => line.trim().split(/\s/)[0]).find((uri) => uri && !uri.startsWith('#'));
}

function words(text: string): string[] {
  return text.trim().split(/\s+/).filter((word) => word !== '');
}
