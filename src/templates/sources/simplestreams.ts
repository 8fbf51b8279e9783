/**
 * Simplestreams: how Ubuntu's cloud images, the image server of Linux Containers, and Incus and LXD themselves list what they have.
 * Source: the format's own description (lp:simplestreams, doc/README); the fields of Incus and LXD by what their servers serve.
 */
import { VeldError } from '../../lib/errors.ts';
import { numberOfSuite } from '../suites.ts';
import type { Catalogue, Image, ImageFile, Protocol } from './types.ts';

/** Most of an index, and of a list of products, bytes. (Ubuntu's own had 6 MB in 2026.) */
const INDEX = 4 << 20;
const PRODUCTS = 64 << 20;
/** Most lists that an index leads to. */
const LISTS = 16;

/** File types: what they are, in the order in which they are wanted. Of the two forms of a tree the archive needs no further program. */
const TREES = ['root.tar.xz', 'squashfs'] as const;
const METADATA = ['incus.tar.xz', 'lxd.tar.xz'] as const;
const COMBINED = ['incus_combined.tar.gz', 'lxd_combined.tar.gz'] as const;

export const simplestreams: Protocol = {
  name: 'simplestreams',

  async list({ name, urls: [url = ''] }, documents) {
    const bad = (what: string): never => { throw new VeldError('source.invalid', `The list of ${name} (${url}) ${what}.`); };
    const read = async (path: string, bytes: number, format: string): Promise<{ document: Record<string, unknown>; signedBy: string | null }> => {
      const signed = path.replace(/\.s?json$/, '.sjson');
      const { content, signedBy } = await documents.signed(signed, path.replace(/\.s?json$/, '.json'), bytes);
      const document = parse(content) ?? bad(`has ${path}, which is no JSON`);
      if (document.format !== format) bad(`has ${path} in the format ${JSON.stringify(document.format)?.slice(0, 40)}; Veld knows ${format}`);
      return { document, signedBy };
    };
    const index = await read('streams/v1/index.json', INDEX, 'index:1.0');
    const entries = Object.values(objectOf(index.document.index) ?? bad('has an index without lists')).map(objectOf)
      .filter((entry) => entry?.datatype === 'image-downloads' && entry.format === 'products:1.0');
    const images: Image[] = [];
    const updated: Record<string, number> = {};
    const note = (path: string, value: unknown): void => {
      const time = typeof value === 'string' ? Date.parse(value) : Number.NaN; // RFC 2822
      if (!Number.isNaN(time)) updated[path] = time;
    };
    note('streams/v1/index.json', index.document.updated);
    for (const entry of entries.slice(0, LISTS)) {
      const path = pathOf(entry?.path) ?? bad('has a list in a place where none can be');
      const { document } = await read(path, PRODUCTS, 'products:1.0');
      note(path, document.updated);
      for (const [product, value] of Object.entries(objectOf(document.products) ?? bad(`has ${path} without products`))) images.push(...imagesOf(name, product, objectOf(value) ?? {}));
    }
    return { images, updated, signedBy: index.signedBy } satisfies Catalogue;
  },
};

/** All versions of a product that can be a template. What is no image of one, or not in order, is passed over: others are none the worse for it. */
function imagesOf(source: string, product: string, value: Record<string, unknown>): Image[] {
  const [os, codename, architecture] = [wordOf(value.os), wordOf(value.release), wordOf(value.arch)];
  if (!/^[\w.:+-]{1,200}$/.test(product) || os === undefined || codename === undefined || architecture === undefined) return [];
  const variant = wordOf(value.variant) ?? (/^com\.ubuntu\.cloud[\w.]*:(\w+):/.exec(product)?.[1] ?? 'default');
  const release = wordOf(value.version) ?? numberOfSuite(os, codename) ?? codename;
  const aliases = typeof value.aliases === 'string' ? value.aliases.toLowerCase().split(',').map((alias) => alias.trim()).filter((alias) => /^[\w./+-]{1,100}$/.test(alias)) : [];
  const title = textOf(value.release_title) ?? codename;
  const endOfLife = /^\d{4}-\d\d-\d\d$/.exec(String(value.support_eol))?.[0] ?? null;
  return Object.entries(objectOf(value.versions) ?? {}).flatMap(([serial, version]) => {
    const items = Object.values(objectOf(objectOf(version)?.items) ?? {}).map(objectOf).filter((item) => item !== undefined);
    const found = filesOf(items);
    return !/^[\w.:-]{1,40}$/.test(serial) || found === undefined ? []
      : [{ source, product, serial, os, release, codename, variant, architecture, title: `${textOf(value.os) ?? os} ${title}`, aliases, endOfLife, ...found }];
  });
}

/** The files that make a tree of it, each with size and hash; undefined: there are none. */
function filesOf(items: Record<string, unknown>[]): Pick<Image, 'files' | 'fingerprint'> | undefined {
  const find = (types: readonly string[]): { type: string; file: Omit<ImageFile, 'role'>; item: Record<string, unknown> } | undefined => {
    for (const type of types) {
      const item = items.find(({ ftype }) => ftype === type);
      const [path, size, sha256] = [pathOf(item?.path), item?.size, hashOf(item?.sha256)];
      if (item && path !== undefined && sha256 !== undefined && Number.isSafeInteger(size) && (size as number) > 0) return { type, file: { path, size: size as number, sha256, signature: null }, item };
    }
    return undefined;
  };
  const tree = find(TREES);
  const metadata = find(METADATA);
  if (tree) {
    const key = tree.type === 'squashfs' ? 'combined_squashfs_sha256' : 'combined_rootxz_sha256';
    return { files: [...metadata ? [{ role: 'metadata' as const, ...metadata.file }] : [], { role: 'tree', ...tree.file }], fingerprint: hashOf(metadata?.item[key]) ?? null };
  }
  const combined = find(COMBINED);
  return combined && { files: [{ role: 'combined', ...combined.file }], fingerprint: combined.file.sha256 };
}

function parse(content: Buffer): Record<string, unknown> | undefined {
  try {
    return objectOf(JSON.parse(content.toString('utf8')));
  } catch {
    return undefined;
  }
}

function objectOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : undefined;
}

/** One word that can be part of names. */
function wordOf(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\w.+-]{1,64}$/.test(value) ? value.toLowerCase() : undefined;
}

/** What people read. */
function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\P{C}]{1,100}$/u.test(value) ? value : undefined;
}

function hashOf(value: unknown): string | undefined {
  return typeof value === 'string' && /^[0-9a-f]{64}$/i.test(value) ? value.toLowerCase() : undefined;
}

/** A path below the server's address. */
function pathOf(value: unknown): string | undefined {
  return typeof value === 'string' && /^[\w.:+~@,=%-]+(\/[\w.:+~@,=%-]+)*$/.test(value) && value.length < 500 && !value.split('/').some((part) => part === '.' || part === '..') ? value : undefined;
}
