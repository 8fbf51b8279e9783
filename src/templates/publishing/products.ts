/** Names of what is published, and the lists that say it. All of it is made of the record; nothing is read or written here. */
import { VeldError } from '../../lib/errors.ts';
import type { TemplateRecord } from '../../store/types.ts';
import { codenameOfNumber, numberOfSuite } from '../suites.ts';
import type { PublishedProduct, PublishedVersion } from './types.ts';

/** What a product is called by. */
export type ProductName = Pick<PublishedProduct, 'product' | 'os' | 'release' | 'codename' | 'variant' | 'architecture'>;

/** Parts of names become parts of paths and of lines: nothing that means something there. */
const OS = /^[a-z][a-z0-9_-]{0,31}$/;
const PART = /^[a-z0-9][a-z0-9._+-]{0,31}$/;
/** An alias. Incus takes what is before a colon for the name of a server. */
export const ALIAS = /^[a-z0-9][a-z0-9._+-]*(?:\/[a-z0-9][a-z0-9._+-]*)*$/;

/**
 * What a template is published as. Without `as`: `debian-12` is the usual variant of debian:12, `debian-12-web` its variant `web`, and one of another name, `shop`, the variant of its name.
 * @param as `DISTRIBUTION:RELEASE[/VARIANT]`
 * @throws VeldError `published.name_invalid`
 */
export function nameProduct(template: Pick<TemplateRecord, 'name' | 'os' | 'release' | 'architecture' | 'source'>, as?: string): ProductName {
  const bad = (what: string): never => { throw new VeldError('published.name_invalid', what); };
  let [os, release, variant] = [template.os, template.release, variantOf(template)];
  if (as !== undefined) {
    const [, first = '', second = '', third = 'default'] = /^([^:/]+)[:/]([^:/]+)(?:\/([^:/]+))?$/.exec(as.toLowerCase()) ?? bad(`${JSON.stringify(as.slice(0, 100))} is not of the form DISTRIBUTION:RELEASE[/VARIANT].`);
    [os, release, variant] = [first, numberOfSuite(first, second) ?? second, third];
  } else if (os === 'unknown' || release === 'unknown') bad(`The template ${template.name} does not say which distribution and release it is.`);
  [os, release, variant] = [os.toLowerCase(), release.toLowerCase(), variant.toLowerCase()];
  if (!OS.test(os) || !PART.test(release) || !PART.test(variant)) bad(`${os}:${release}/${variant} cannot be the name of an image.`);
  if (!PART.test(template.architecture) || template.architecture === 'unknown') bad(`The template ${template.name} does not say for which machine it is.`);
  const codename = codenameOfNumber(os, release) ?? null;
  return { product: [os, codename ?? release, template.architecture, variant].join(':'), os, release, codename, variant, architecture: template.architecture };
}

function variantOf({ name, os, release, source }: Pick<TemplateRecord, 'name' | 'os' | 'release' | 'source'>): string {
  if (typeof source.variant === 'string' && source.kind === 'image') return source.variant;
  const usual = `${os}-${release}`.toLowerCase().replaceAll('_', '-');
  return name === usual ? 'default' : name.startsWith(`${usual}-`) ? name.slice(usual.length + 1) : name;
}

/** Names for Incus and LXD that follow from that of the product. */
export function usualAliases({ os, release, codename, variant }: ProductName): string[] {
  return [...new Set([release, codename ?? release])].flatMap((each) => [...variant === 'default' ? [`${os}/${each}`] : [], `${os}/${each}/${variant}`]);
}

/** @throws VeldError `published.name_invalid`, `published.name_taken` when another product for the same machines has one of them */
export function checkAliases(aliases: readonly string[], { product, architecture }: ProductName, others: readonly PublishedProduct[]): string[] {
  for (const alias of aliases) {
    if (!ALIAS.test(alias) || alias.length > 100) throw new VeldError('published.name_invalid', `${JSON.stringify(alias.slice(0, 100))} cannot be an alias.`, { hint: 'An alias is parts of a-z, 0-9, ., _, + and - with slashes between them: ubuntu/24.04. (Incus takes what is before a colon for the name of a server.)' });
    const other = others.find((each) => each.product !== product && each.architecture === architecture && each.aliases.includes(alias));
    if (other) throw new VeldError('published.name_taken', `${other.product} has the alias ${alias} already.`);
  }
  return [...new Set(aliases)];
}

/**
 * The product that somebody means.
 * @throws VeldError `published.not_found`, `image.ambiguous`
 */
export function findProduct(products: readonly PublishedProduct[], name: string): PublishedProduct {
  const words = name.toLowerCase();
  const exact = products.find(({ product }) => product === words);
  const found = exact ? [exact] : products.filter((each) => {
    const { os, release, codename, variant, aliases, versions } = each;
    const releases = [release, codename ?? release];
    return aliases.includes(words) || versions.at(-1)!.template.name === words || releases.some((one) => words === `${os}:${one}/${variant}` || variant === 'default' && words === `${os}:${one}`);
  });
  if (found.length > 1) throw new VeldError('image.ambiguous', `${JSON.stringify(name.slice(0, 100))} is several: ${found.slice(0, 8).map(({ product }) => product).join(', ')}.`);
  if (!found[0]) throw new VeldError('published.not_found', `Nothing is published as ${JSON.stringify(name.slice(0, 100))}.`);
  return found[0];
}

/** Later than what there is, also where the clock was put back. @param now milliseconds since 1970 @param after the newest serial */
export function nextSerial(now: number, after: string | undefined): string {
  const serialOf = (time: number): string => new Date(time).toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '_');
  const last = after === undefined ? undefined : /^(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)$/.exec(after);
  if (!last || serialOf(now) > after!) return serialOf(now);
  const [, year, month, day, hour, minute, second] = last.map(Number);
  return serialOf(Date.UTC(year!, month! - 1, day, hour, minute, second! + 1));
}

/** Folder of a version, as the server has it. */
export function folderOf({ os, release, codename, architecture, variant }: ProductName, serial: string): string {
  return ['images', os, codename ?? release, architecture, variant, serial].join('/');
}

/** What OpenVZ calls a machine. */
const MACHINES: Readonly<Record<string, string>> = { amd64: 'x86_64', i386: 'x86', arm64: 'aarch64' };

/** What it is called among precreated templates: DISTRIBUTION-VERSION-ARCHITECTURE[-SET]. @throws VeldError `published.name_invalid` when it cannot be one */
export function openvzName({ os, release, architecture, variant }: ProductName): string {
  const machine = MACHINES[architecture];
  if (!/^[a-z]+$/.test(os) || !/^[\w.]+$/.test(release) || machine === undefined || !/^[\w.-]+$/.test(variant)) throw new VeldError('published.name_invalid', `OpenVZ has no name for ${os}:${release}/${variant} for ${architecture}.`);
  return [os, release, machine, ...variant === 'default' ? [] : [variant]].join('-');
}

/** `streams/v1/images.json`. Source: the format's own description (lp:simplestreams, doc/README); fields and file types as Incus 6 and LXD 5 read them. */
export function productsDocument(products: readonly PublishedProduct[], updated: Date): Record<string, unknown> {
  return {
    content_id: 'images', datatype: 'image-downloads', format: 'products:1.0', updated: updated.toUTCString(),
    products: Object.fromEntries(products.map((each) => [each.product, {
      aliases: each.aliases.join(','), arch: each.architecture, os: each.os, release: each.codename ?? each.release, release_title: each.codename ?? each.release, version: each.release, variant: each.variant,
      ...each.endOfLife !== null && { support_eol: each.endOfLife },
      versions: Object.fromEntries(each.versions.map((version) => [version.serial, { items: itemsOf(folderOf(each, version.serial), version) }])),
    }])),
  };
}

/** Incus looks for its own type of metadata, LXD for its own: the same file is both. */
function itemsOf(folder: string, { metadata, tree, fingerprint }: PublishedVersion): Record<string, unknown> {
  const described = (ftype: string) => ({ ftype, path: `${folder}/incus.tar.xz`, size: metadata.size, sha256: metadata.sha256, combined_sha256: fingerprint, combined_rootxz_sha256: fingerprint });
  return { 'incus.tar.xz': described('incus.tar.xz'), 'lxd.tar.xz': described('lxd.tar.xz'), 'root.tar.xz': { ftype: 'root.tar.xz', path: `${folder}/rootfs.tar.xz`, size: tree.size, sha256: tree.sha256 } };
}

/** `streams/v1/index.json`. @param list path of the list that it leads to */
export function indexDocument(products: readonly PublishedProduct[], updated: Date, list: string): Record<string, unknown> {
  return {
    format: 'index:1.0', updated: updated.toUTCString(),
    index: { images: { datatype: 'image-downloads', format: 'products:1.0', path: list, updated: updated.toUTCString(), products: products.map(({ product }) => product) } },
  };
}

/** `meta/1.0/index-system`: what LXC's download template reads. Of each product the newest version; it puts a slash behind the folder itself. */
export function lxcIndex(products: readonly PublishedProduct[]): string {
  return products.map((each) => {
    const { serial } = each.versions.at(-1)!;
    return `${[each.os, each.codename ?? each.release, each.architecture, each.variant, serial, `/${folderOf(each, serial)}`].join(';')}\n`;
  }).join('');
}
