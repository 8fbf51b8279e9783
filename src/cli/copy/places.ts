/** What the arguments of `veld cp` mean. */
import { basename } from 'node:path';
import { VeldError } from '../../lib/errors.ts';

export type Place =
  | { kind: 've'; ve: string; path: string; shown: string }
  | { kind: 'local'; path: string; shown: string }
  | { kind: 'stream'; shown: string };

/** `VE:PATH`, a path of this machine, or `-`. A path with a colon in its first part is written `./a:b`. */
export function parsePlace(text: string): Place {
  if (text === '-') return { kind: 'stream', shown: text };
  const match = /^([^/:]*):([\s\S]*)$/.exec(text);
  if (!match || match[1] === '.') return { kind: 'local', path: text, shown: text };
  const [, ve = '', path = ''] = match;
  if (ve === '' || path === '') throw new VeldError('usage', `'${text}' names no ${ve === '' ? 'VE' : 'path'}.`, { hint: 'A place in a VE is written NAME:/PATH, a local path with a colon ./a:b.' });
  return { kind: 've', ve, path: path.startsWith('/') ? path : `/${path}`, shown: text };
}

/** The name under which a source goes into a folder; empty: its content does (`/`, `dir/.`). */
export function nameOf(path: string): string {
  const name = basename(path);
  return /(^|\/)\.{1,2}\/*$/.test(path) ? '' : name;
}
