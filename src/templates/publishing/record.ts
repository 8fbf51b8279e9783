/**
 * The folder of all that is published:
 *
 *   published.json   what is published, and the lists as they are served, with their signatures: one file, so what is served is always of one piece
 *   files/           files of images, each called by its sha256
 *   incoming/        files that are being made, a folder for each operation
 *   gnupg/, tls.json the key that signs, and certificates
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import { readIfExists, writeFileAtomic } from '../../lib/files.ts';
import { folderOf, indexDocument, lxcIndex, openvzName, productsDocument } from './products.ts';
import type { SigningKey } from './signer.ts';
import type { PublishedFile, PublishedProduct, PublishedVersion, Resource } from './types.ts';

/** What is published, as the file has it. */
export interface PublicRecord {
  format: 1;
  /** ISO 8601; never earlier than before. */
  updated: string;
  products: PublishedProduct[];
  /** Who signed the lists. */
  signedBy: string | null;
  /** Texts, by the path at which they are served. */
  documents: Record<string, string>;
}

const EMPTY: PublicRecord = { format: 1, updated: new Date(0).toISOString(), products: [], signedBy: null, documents: {} };

/** @throws VeldError `published.damaged` */
export function readRecord(folder: string): PublicRecord {
  const file = join(folder, 'published.json');
  const text = readIfExists(file);
  if (text === undefined) return EMPTY;
  try {
    const record = JSON.parse(text) as PublicRecord;
    if (record.format !== 1 || !Array.isArray(record.products) || typeof record.documents !== 'object') throw new Error('it has another format');
    return record;
  } catch (error) {
    throw new VeldError('published.damaged', `${file} cannot be read: ${(error as Error).message}.`, { cause: error });
  }
}

/** Put a new record in the place of the old one: from here on it is served. */
export function writeRecord(folder: string, record: PublicRecord): void {
  writeFileAtomic(join(folder, 'published.json'), `${JSON.stringify(record)}\n`);
  syncFolder(folder);
}

/** Every file of a version. */
export function filesOf({ tree, metadata, lxc, openvz }: PublishedVersion): PublishedFile[] {
  return [tree, metadata, lxc, ...openvz ? [openvz] : []];
}

/** Bring files that were made to their place. @param packed name in the folder of what was made, and what it is */
export function placeFiles(folder: string, incoming: string, packed: readonly (readonly [name: string, file: PublishedFile])[]): void {
  const place = join(folder, 'files');
  mkdirSync(place, { recursive: true, mode: 0o700 });
  for (const [name, { sha256 }] of packed) renameSync(join(incoming, name), join(place, sha256));
  syncFolder(place);
}

/** Remove files that no version has. @returns how many */
export function sweepFiles(folder: string, { products }: PublicRecord): number {
  const known = new Set(products.flatMap(({ versions }) => versions).flatMap(filesOf).map(({ sha256 }) => sha256));
  const place = join(folder, 'files');
  const unknown = (exists(place) ? readdirSync(place) : []).filter((name) => !known.has(name));
  for (const name of unknown) rmSync(join(place, name), { recursive: true, force: true });
  return unknown.length;
}

/**
 * The lists of what is published.
 * @param sign what makes an OpenPGP cleartext signed message of a text; without a key nothing is signed
 */
export async function makeDocuments(products: readonly PublishedProduct[], updated: Date, key: SigningKey | undefined, sign: (text: string) => Promise<string>): Promise<Record<string, string>> {
  const text = (value: unknown): string => `${JSON.stringify(value)}\n`;
  const list = text(productsDocument(products, updated));
  const precreated = products.flatMap((each) => (each.versions.at(-1)!.openvz ? [`${openvzName(each)}\n`] : [])).join('');
  return {
    'streams/v1/index.json': text(indexDocument(products, updated, 'streams/v1/images.json')),
    'streams/v1/images.json': list,
    ...key && {
      // (Detached signatures beside the lists would be out of step with them for whoever asks while they change.)
      'streams/v1/index.sjson': await sign(text(indexDocument(products, updated, 'streams/v1/images.sjson'))),
      'streams/v1/images.sjson': await sign(list),
      'key.asc': key.armored,
    },
    'meta/1.0/index-system': lxcIndex(products), 'meta/1.0/index-user': lxcIndex(products),
    ...precreated !== '' && { 'precreated/.listing': precreated },
  };
}

/** All that is served, by path. Nothing else is. */
export function resourcesOf(folder: string, { products, documents, updated }: PublicRecord): Map<string, Resource> {
  const found = new Map<string, Resource>();
  const modified = new Date(updated);
  const text = (path: string, content: string): void => {
    const bytes = Buffer.from(content);
    found.set(path, { content: bytes, type: path.endsWith('.json') ? 'application/json' : 'text/plain; charset=utf-8', etag: `"${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}"`, modified });
  };
  for (const [path, content] of Object.entries(documents)) text(path, content);
  for (const product of products) {
    for (const version of product.versions) {
      const at = timeOf(version.serial);
      const file = (path: string, { sha256, size }: PublishedFile, type = 'application/x-xz'): void => void found.set(path, { file: join(folder, 'files', sha256), size, type, etag: `"${sha256}"`, modified: at });
      const place = folderOf(product, version.serial);
      file(`${place}/incus.tar.xz`, version.metadata);
      file(`${place}/meta.tar.xz`, version.lxc);
      file(`${place}/rootfs.tar.xz`, version.tree);
      if (!version.openvz || version !== product.versions.at(-1)) continue;
      const name = `precreated/${openvzName(product)}.tar.gz`;
      file(name, version.openvz, 'application/gzip');
      if (version.openvz.signature !== null) text(`${name}.asc`, version.openvz.signature);
    }
  }
  return found;
}

function timeOf(serial: string): Date {
  return new Date(serial.replace(/^(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)$/, '$1-$2-$3T$4:$5:$6Z'));
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  fsyncSync(fd);
  closeSync(fd);
}
