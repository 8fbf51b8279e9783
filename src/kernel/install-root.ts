/** Where Veld itself is installed: the folder that holds share/, libexec/ and bin/. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VeldError } from '../lib/errors.ts';

/**
 * The folder that holds `share/keys`, found upwards from this file: the same from the sources and from a bundle in `dist/`.
 * @throws VeldError `internal` when Veld's files are not together
 */
export function installRoot(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  for (let folder = here; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'share', 'keys'))) return folder;
    if (folder === '/') throw new VeldError('internal', `Veld's share/keys folder is not above ${here}.`);
  }
}
