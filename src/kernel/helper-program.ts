/** Programs of our own that the daemon starts in processes of their own. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Path of such a program, for node: beside the daemon's bundle, or its source.
 * @param bundle name in dist/, without its ending @param source name in this folder
 */
export function helperProgram(bundle: string, source: string): string {
  const main = process.argv[1] ?? '';
  const beside = join(dirname(main), `${bundle}.cjs`);
  return main.endsWith('veldd.cjs') && existsSync(beside) ? beside : fileURLToPath(new URL(source, import.meta.url));
}
