/** What all sources of this node offer, and which of it somebody means by a name. */
import { join } from 'node:path';
import { VeldError, toVeldError } from '../../lib/errors.ts';
import { readIfExists, writeFileAtomic } from '../../lib/files.ts';
import type { Settings } from '../../lib/settings.ts';
import { findSource, listSources, SOURCE_NAME } from './config.ts';
import { createDocuments } from './documents.ts';
import { precreated } from './precreated.ts';
import { simplestreams } from './simplestreams.ts';
import type { Catalogue, Image, Protocol, ProtocolName, Source } from './types.ts';

const PROTOCOLS: Readonly<Record<ProtocolName, Protocol>> = { simplestreams, precreated };
/** How long a list is taken for what is there now, milliseconds. */
const FRESH = 60_000;
/** Variants that are meant when none is said. */
const USUAL = ['default', 'server'];

export interface Catalogues {
  /** Its list, fetched if the one that is known is older than a minute. @throws VeldError `source.not_found` and those of a protocol's `list` */
  of(source: Source, signal?: AbortSignal): Promise<Catalogue>;
  /**
   * What all offer, or one.
   * @returns images, and the sources that could not be asked, with the reason
   */
  all(only?: string, signal?: AbortSignal): Promise<{ images: Image[]; failed: { source: string; error: VeldError }[] }>;
  /**
   * The newest version that somebody means, or the one of `@SERIAL`.
   * @param name `ubuntu:24.04`, `ubuntu:noble/desktop`, `debian/12`, `ubuntu-24.04`, `SOURCE:NAME`, a product, ...
   * @param architecture as Debian names it
   * @throws VeldError `image.not_found`, `image.ambiguous`, and those of `of` when a source that could not be asked may be the one
   */
  find(name: string, architecture: string, signal?: AbortSignal): Promise<{ source: Source; image: Image; signedBy: string | null }>;
}

/** @param settings where sources are, and where it is remembered how new their lists were */
export function createCatalogues(settings: Pick<Settings, 'sourcesDir' | 'libexecDir' | 'stateDir'>, options: { stall?: number } = {}): Catalogues {
  const known = new Map<string, { key: string; at: number; catalogue: Promise<Catalogue> }>();

  const fetch = async (source: Source, signal?: AbortSignal): Promise<Catalogue> => {
    const catalogue = await PROTOCOLS[source.protocol].list(source, createDocuments(source, { signal, ...options }));
    remember(join(settings.stateDir, 'sources', `${source.name}.json`), source, catalogue.updated);
    return catalogue;
  };

  const catalogues: Catalogues = {
    async of(source, signal) {
      const key = JSON.stringify(source);
      const at = known.get(source.name);
      if (at?.key === key && Date.now() - at.at < FRESH) return at.catalogue;
      // Whoever asks meanwhile waits for the same; but nobody hangs by another one's cancel.
      const catalogue = fetch(source, signal);
      const entry = { key, at: Date.now(), catalogue };
      known.set(source.name, entry);
      catalogue.catch(() => { if (known.get(source.name) === entry) known.delete(source.name); });
      return catalogue;
    },
    async all(only, signal) {
      const sources = only === undefined ? listSources(settings) : [findSource(settings, only)];
      const failed: { source: string; error: VeldError }[] = [];
      const lists = await Promise.all(sources.map(async (source) => {
        try {
          if (source.error !== null) throw new VeldError('source.invalid', source.error);
          return (await catalogues.of(source, signal)).images;
        } catch (error) {
          signal?.throwIfAborted();
          failed.push({ source: source.name, error: toVeldError(error) });
          return [];
        }
      }));
      return { images: lists.flat(), failed };
    },
    async find(name, architecture, signal) {
      const { only, words, serial } = parseName(name, listSources(settings).map((source) => source.name));
      const { images, failed } = await catalogues.all(only, signal);
      const found = pick(images.filter((image) => image.architecture === architecture), words, serial, name);
      const first = failed[0];
      if (found === undefined && first) throw new VeldError(first.error.code, `${name} was not found, and ${first.source} could not be asked: ${first.error.message}`, { hint: first.error.hint, cause: first.error });
      if (found === undefined) throw new VeldError('image.not_found', `No source has ${serial === undefined ? '' : `the version ${serial} of `}${JSON.stringify(name.slice(0, 100))} for ${architecture}.`);
      const source = findSource(settings, found.source);
      return { source, image: found, signedBy: (await catalogues.of(source, signal)).signedBy };
    },
  };
  return catalogues;
}

/** What of a name is what. @param sources names of sources @throws VeldError `image.not_found` for what cannot be one */
export function parseName(name: string, sources: readonly string[]): { only: string | undefined; words: string; serial: string | undefined } {
  const [, prefix, rest = '', serial] = /^(?:([^:/@]+):)?([^:@][^@]*)(?:@([\w.:-]+))?$/.exec(name.toLowerCase()) ?? [];
  if (rest === '' || name.length > 200) throw new VeldError('image.not_found', `${JSON.stringify(name.slice(0, 100))} is no name of an image.`, { hint: 'It is DISTRIBUTION:RELEASE[/VARIANT] or SOURCE:NAME, with @VERSION for one that is not the newest. See `veld template search`.' });
  const only = prefix !== undefined && SOURCE_NAME.test(prefix) && sources.includes(prefix) ? prefix : undefined;
  return { only, words: (prefix === undefined || only !== undefined ? rest : `${prefix}/${rest}`), serial };
}

/** Names under which an image is asked for: first those that say all, then those of the variant that is meant when none is said. */
export function namesOf(image: Image): string[] {
  const { os, release, codename, variant, aliases, product } = image;
  const releases = [...new Set([release, codename ?? release])];
  const usual = USUAL.includes(variant);
  return [...new Set([
    ...releases.flatMap((each) => [`${os}/${each}/${variant}`, `${each}/${variant}`, `${os}-${each}-${variant}`, ...usual ? [`${os}/${each}`, each, `${os}-${each}`] : []]),
    ...aliases.flatMap((alias) => [alias, ...alias.includes('/') ? [] : [`${os}/${alias}`]]), product.toLowerCase(),
  ])];
}

/**
 * The image that is meant: of the first source that has one, the newest version.
 * @param images in the order of their sources
 * @throws VeldError `image.ambiguous` when a source has several
 */
export function pick(images: readonly Image[], words: string, serial: string | undefined, name: string): Image | undefined {
  const hits = images.filter((image) => namesOf(image).includes(words) && (serial === undefined || image.serial === serial));
  const ours = hits.filter(({ source }) => source === hits[0]?.source);
  const products = [...new Set(ours.map(({ product }) => product))];
  const usual = products.length > 1 ? ours.find(({ variant }) => variant === 'default')?.product : products[0];
  if (products.length > 1 && usual === undefined) throw new VeldError('image.ambiguous', `${name} is several: ${[...new Set(ours.map((image) => `${image.os}/${image.release}/${image.variant}`))].slice(0, 8).join(', ')}.`);
  return newest(ours.filter(({ product }) => product === usual));
}

/** Of versions of one product, the one with the greatest serial, byte by byte. */
export function newest(images: readonly Image[]): Image | undefined {
  return images.reduce<Image | undefined>((best, image) => (best === undefined || image.serial > best.serial ? image : best), undefined);
}

/**
 * A list that is older than one that was seen is one that somebody has kept back: with it would come programs whose faults are known.
 * @throws VeldError `source.untrusted`
 */
function remember(file: string, { name, urls }: Source, updated: Catalogue['updated']): void {
  let seen: { url?: unknown; updated?: Record<string, number> } = {};
  try {
    seen = JSON.parse(readIfExists(file) ?? '{}') as typeof seen;
  } catch { /* a new beginning */ }
  // Another server under the name is another matter.
  const before = seen.url === urls[0] ? seen.updated ?? {} : {};
  for (const [path, time] of Object.entries(updated)) {
    const known = before[path];
    if (typeof known === 'number' && time < known) throw new VeldError('source.untrusted', `${urls[0]}/${path} is of ${new Date(time).toISOString()}, and was seen as of ${new Date(known).toISOString()} already.`, { hint: `Somebody may show an old list. If ${name} was really put back to an earlier state, remove ${file}.` });
  }
  writeFileAtomic(file, `${JSON.stringify({ url: urls[0], updated: { ...before, ...updated } })}\n`);
}
