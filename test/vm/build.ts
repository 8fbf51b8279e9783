/**
 * Things that are built once and kept: folders in the cache, named by what they are made of. Built aside and moved into place, so that a
 * folder that is there is whole; two builders at the same time end with one of them.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { CACHE } from '../lib/cache.ts';

const ROOT = join(import.meta.dirname, '../..');
const FOLDER = join(CACHE, 'vm');

/** Folders that nobody used for so long are removed, in milliseconds. */
const KEPT = 14 * 24 * 3600 * 1000;

/**
 * The folder `KIND-KEY` of the cache, built by `make` when it is not there.
 * @param parts what it is made of: any change makes another folder
 * @param make fills the given empty folder, which then moves to `place`
 */
export async function cached(kind: string, parts: readonly string[], make: (folder: string, place: string) => Promise<void>): Promise<string> {
  const hash = createHash('sha256');
  // What is built may know its own path.
  for (const part of [FOLDER, ...parts]) hash.update(part).update('\0');
  const folder = join(FOLDER, `${kind}-${hash.digest('hex').slice(0, 12)}`);
  if (!existsSync(folder)) {
    mkdirSync(FOLDER, { recursive: true, mode: 0o700 });
    const aside = join(FOLDER, `.${kind}.${process.pid}`);
    rmSync(aside, { recursive: true, force: true });
    mkdirSync(aside, { mode: 0o755 });
    try {
      await make(aside, folder);
      if (!existsSync(folder)) renameSync(aside, folder);
    } finally {
      rmSync(aside, { recursive: true, force: true });
    }
  }
  utimesSync(folder, new Date(), new Date());
  return folder;
}

/** Texts of files of the repository, as parts of a key. Tests beside them do not count. */
export function sourceTexts(...patterns: readonly (readonly [folder: string, names: RegExp])[]): string[] {
  return patterns.flatMap(([folder, names]) => readdirSync(join(ROOT, folder))
    .filter((name) => names.test(name) && !name.endsWith('.test.ts')).sort()
    .map((name) => `${folder}/${name}\n${readFileSync(join(ROOT, folder, name), 'utf8')}`));
}

/** Remove what was not used for two weeks, and what interrupted runs left. */
export function forgetOld(): void {
  if (!existsSync(FOLDER)) return;
  for (const name of readdirSync(FOLDER)) {
    const folder = join(FOLDER, name);
    // Folders of a run carry the number of its process.
    const owner = /^\.[a-z-]+[.-](\d+)/.exec(name)?.[1];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) rmSync(folder, { recursive: true, force: true });
    else if (Date.now() - (statSync(folder, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()) > KEPT) rmSync(folder, { recursive: true, force: true });
  }
}

/** Run a program that must succeed. @returns its standard output */
export function must(file: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): string {
  const result = spawnSync(file, args, { encoding: 'utf8', maxBuffer: 1 << 30, ...options });
  if (result.status !== 0) throw new Error(`${file} ${args.join(' ')} ended with ${result.status ?? result.signal}: ${result.stderr.slice(-2000)}`);
  return result.stdout;
}
