/** What of Veld is written in C: compiled with the bundle, or by the daemon where no compiler was there then; known by its source and how it is compiled. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { run } from '../lib/run.ts';

/** Longest that a compiler may take, in milliseconds. */
export const COMPILE_TIMEOUT = 60_000;

/** By what a version is known. @param files paths of the source and of all that it includes */
export function sourceVersion(flags: readonly string[], files: readonly string[]): string {
  const hash = createHash('sha256').update(flags.join(' '));
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 16);
}

/**
 * Compile, unless that has been done; whole or not at all.
 * @param flags options of clang @param sources their paths @param result path of what comes of it
 * @throws what {@link run} throws, when there is no clang or it does not like the source
 */
export async function compileOnce(flags: readonly string[], sources: readonly string[], result: string): Promise<void> {
  if (existsSync(result)) return;
  mkdirSync(dirname(result), { recursive: true });
  const temporary = `${result}.${process.pid}`;
  try {
    await run('clang', [...flags, ...sources, '-o', temporary], { timeout: COMPILE_TIMEOUT });
    renameSync(temporary, result);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
