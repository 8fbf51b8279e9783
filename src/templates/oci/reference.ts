/** What application images are called: `docker://HOST/PATH:TAG` in a registry, `oci:FOLDER:TAG` in a layout on this node. Source: containers-transports(5). */
import { VeldError } from '../../lib/errors.ts';

/** An image, and where it is. */
export interface OciReference {
  /** As it was asked for. */
  text: string;
  /** In a registry: what follows `docker://`. In a layout: its folder and the name in it, null for its only one. */
  at: { registry: string } | { folder: string; tag: string | null };
  /** What a template of it is called that got no other name. */
  name: string;
}

/** HOST[:PORT]/PATH[:TAG][@DIGEST]; source: OCI distribution specification, "Pulling manifests". */
const REGISTRY = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d{1,5})?\/)?([a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)(?::(\w[\w.-]{0,127}))?(?:@sha256:[0-9a-f]{64})?$/;
const TAG = /^\w[\w.-]{0,127}$/;

/** Whether a name is one of an application image. */
export function isOci(text: string): boolean {
  return text.startsWith('docker://') || text.startsWith('oci:');
}

/** @throws VeldError `request.invalid` */
export function parseOci(text: string): OciReference {
  const invalid = (why: string): VeldError => new VeldError('request.invalid', `${JSON.stringify(text.slice(0, 200))} is no image: ${why}.`, { hint: 'An image is docker://HOST/PATH:TAG, or oci:FOLDER:TAG of this node.' });
  if (text.startsWith('docker://')) {
    const match = REGISTRY.exec(text.slice('docker://'.length));
    if (!match) throw invalid('a registry has none of that form');
    return { text, at: { registry: text.slice('docker://'.length) }, name: nameOf(match[1]!.split('/').at(-1)!, match[2]) };
  }
  const [, folder = '', tag = null] = /^oci:([^:]*)(?::(.*))?$/.exec(text) ?? [];
  // eslint-disable-next-line no-control-regex
  if (!folder.startsWith('/') || /[\0-\x1f]/.test(folder)) throw invalid('its folder is not an absolute path');
  if (tag !== null && !TAG.test(tag)) throw invalid('behind its folder there is no tag');
  return { text, at: { folder, tag }, name: nameOf(folder.split('/').findLast((part) => part !== '') ?? 'image', tag ?? undefined) };
}

function nameOf(name: string, tag: string | undefined): string {
  const whole = `${name}${tag === undefined || tag === 'latest' ? '' : `-${tag}`}`.toLowerCase().replaceAll(/[^a-z0-9.+-]+/g, '-').replaceAll(/\.{2,}/g, '.');
  return `${/^[a-z]/.test(whole) ? '' : 'image-'}${whole}`.slice(0, 63).replace(/[.+-]+$/, '');
}
