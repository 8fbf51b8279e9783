/**
 * What comes with an image for Incus and LXD: metadata.yaml in a tar archive. Source: Incus' documentation, "Image format".
 * Of it Veld shows the description; a VE's own files are written by Veld itself, so the archive's templates are not used.
 */
import { parse } from 'yaml';
import { VeldError } from '../../lib/errors.ts';

/** Most of it, bytes. */
export const METADATA = 1 << 20;

export interface Metadata {
  architecture: string;
  description: string | null;
  /** Seconds since the epoch. */
  createdAt: number | null;
}

/** @throws VeldError `template.invalid` */
export function parseMetadata(content: Buffer): Metadata {
  const bad = (why: string): never => { throw new VeldError('template.invalid', `The metadata of the image ${why}.`); };
  let value: unknown;
  try {
    // YAML 1.1 is what Incus reads; no alias may be used, so nothing grows while it is read.
    value = parse(content.toString('utf8'), { maxAliasCount: 0, schema: 'core', logLevel: 'silent', uniqueKeys: true, prettyErrors: false });
  } catch (error) {
    return bad(`is no YAML: ${(error as Error).message.split('\n')[0]!.slice(0, 200)}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return bad('is no map');
  const { architecture, creation_date: created, properties } = value as Record<string, unknown>;
  if (typeof architecture !== 'string' || !/^[\w-]{1,32}$/.test(architecture)) return bad('names no architecture');
  const description = typeof properties === 'object' && properties !== null ? (properties as Record<string, unknown>).description : undefined;
  return {
    architecture, description: typeof description === 'string' && /^[\P{C}]{1,300}$/u.test(description) ? description : null,
    createdAt: typeof created === 'number' && Number.isSafeInteger(created) && created >= 0 ? created : null,
  };
}
