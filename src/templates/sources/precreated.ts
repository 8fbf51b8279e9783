/**
 * OpenVZ's repositories of precreated templates: a list of names, and for each NAME.tar.gz with its signature NAME.tar.gz.asc.
 * Source: vztmpl-dl(8) and vzpkg of OpenVZ's vzctl; the names are DISTRIBUTION-VERSION-ARCHITECTURE[-SET].
 */
import { VeldError } from '../../lib/errors.ts';
import { codenameOfNumber } from '../suites.ts';
import type { Catalogue, Image, Protocol } from './types.ts';

/** Most of a list, bytes. */
const LISTING = 1 << 20;
const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: 'amd64', amd64: 'amd64', x86: 'i386', i386: 'i386', i686: 'i386', aarch64: 'arm64', arm64: 'arm64' };

export const precreated: Protocol = {
  name: 'precreated',

  async list({ name, urls: [url = ''] }, documents) {
    const listing = await documents.get('.listing', LISTING);
    if (listing === undefined) throw new VeldError('source.invalid', `${name} (${url}) has no list of its templates.`);
    const images = listing.toString('latin1').split('\n').map((line) => line.trim().replace(/\.tar\.gz$/, '')).flatMap((each) => imageOf(name, each) ?? []);
    return { images, updated: {}, signedBy: null } satisfies Catalogue;
  },
};

/** @param stem file name without .tar.gz @returns undefined for what is no name of a template */
export function imageOf(source: string, stem: string): Image | undefined {
  const [, os = '', number = '', machine = '', variant = 'default'] = /^([a-z]+)-([\w.]+)-(x86_64|amd64|x86|i[36]86|aarch64|arm64)(?:-([\w.-]+))?$/.exec(stem) ?? [];
  const architecture = ARCHITECTURES[machine];
  if (architecture === undefined || stem.length > 100) return undefined;
  return {
    source, product: stem, serial: '0', os, release: number, codename: codenameOfNumber(os, number) ?? null, variant, architecture, title: stem, aliases: [stem], endOfLife: null,
    files: [{ role: 'tree', path: `${stem}.tar.gz`, size: null, sha256: null, signature: `${stem}.tar.gz.asc` }], fingerprint: null,
  };
}
