/**
 * A state that came from another node: looked at before anything in it is opened. Whoever made it may have put anything there. What is in the images themselves criu
 * must be trusted with.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { BEANCOUNTERS } from '../spec/beancounters/table.ts';
import { GENERATIONS, PARENT } from './parent.ts';
import type { Manifest, StateFolder } from './types.ts';

/** Files that the daemon reads as a whole: the largest that it takes, in bytes. Images of memory and of file systems are criu's alone. */
const READ = 64 << 20;
const TEXT = 4 << 20;
const CRIUS = /^(pages-\d+|tmpfs(-dev)?-.+|ghost-file-.+|fifo-data|pipes-data|sk-queues|[a-z-]*\.tar\.gz)\.img$/;

/** Names of criu, of libexec/veld-criu-hook and of its helpers. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$/;

const TOP = new Set(['manifest.json', 'config.json', 'whole', 'whole.boot']);
/** What crun keeps. */
const RUNTIME = new Set(['config.json', 'seccomp.bpf', 'status']);

/**
 * Check that a folder holds what a dump leaves and nothing else: ordinary files of root's, which states that came together may share.
 * @returns its manifest
 * @throws VeldError `migration.stream`
 */
export async function readReceived({ dir, images, runtime }: StateFolder): Promise<Manifest> {
  const names = await look(dir, (name) => TOP.has(name), ['images', 'runtime']);
  // A configuration is made here. One that was not brought back since it came from elsewhere has none.
  if (!['manifest.json', 'images', 'runtime'].every((name) => names.includes(name))) throw bad('is not whole');
  await look(runtime, (name) => RUNTIME.has(name));
  await lookAtImages(images, 1);
  return manifestOf(await readFile(join(dir, 'manifest.json'), 'utf8'));
}

async function lookAtImages(folder: string, generation: number): Promise<void> {
  const names = await look(folder, (name) => NAME.test(name) && name !== PARENT, generation < GENERATIONS ? [PARENT] : [], (name) => (CRIUS.test(name) ? Infinity : READ));
  if (generation === 1 && !['inventory.img', 'files.img', 'cgroup.img', 'pstree.img'].every((name) => names.includes(name))) throw bad('has not the images of a VE');
  if (names.includes(PARENT)) await lookAtImages(join(folder, PARENT), generation + 1);
}

async function look(folder: string, isWanted: (name: string) => boolean, folders: readonly string[] = [], most: (name: string) => number = () => TEXT): Promise<string[]> {
  const names = await readdir(folder);
  for (const name of names) {
    const stat = await lstat(join(folder, name));
    const shown = JSON.stringify(name.slice(0, 100));
    if (stat.uid !== 0 || stat.gid !== 0) throw bad(`holds ${shown}, which is not root's`);
    if (folders.includes(name) && stat.isDirectory()) continue;
    if (!stat.isFile() || !isWanted(name)) throw bad(`holds ${shown}, which no dump leaves`);
    if ((stat.mode & 0o7000) !== 0) throw bad(`holds ${shown}, which is a file of another kind`);
    if (stat.size > most(name)) throw bad(`holds ${shown} of ${stat.size} bytes`);
  }
  return names;
}

/** Put what was checked, and no more, in the place of what came. */
export function putManifest({ dir }: StateFolder, manifest: Manifest): void {
  const file = join(dir, 'manifest.json');
  rmSync(file); // it may be the file of another state, too
  writeFileSync(file, JSON.stringify(manifest), { mode: 0o600 });
}

/** Each field as a dump writes it. What is not known goes. */
function manifestOf(text: string): Manifest {
  let given: Record<string, unknown> | null;
  try {
    given = JSON.parse(text) as Record<string, unknown> | null;
  } catch {
    throw bad('has a manifest that is none'); // without a word of it
  }
  const { format, ve, uidBase, engine, kernel, architecture, processor, told, mounts, consoleKeeper, answering, beancounters, createdAt } = given ?? {};
  const texts = (value: unknown): value is string[] => Array.isArray(value) && value.length <= 4096 && value.every(isText);
  if (format !== 1 || ![ve, engine, kernel, architecture, createdAt].every(isText) || !Number.isSafeInteger(uidBase) || !(processor === undefined || texts(processor)) || !(told === undefined || typeof told === 'boolean') || !(answering === undefined || texts(answering))
    || !(consoleKeeper === undefined || (Number.isSafeInteger(consoleKeeper) && (consoleKeeper as number) > 0)) || !Array.isArray(mounts) || mounts.length > 1024) throw bad('has a manifest that is none');
  return {
    format, ve: ve as string, uidBase: uidBase as number, engine: engine as string, kernel: kernel as string, architecture: architecture as string, createdAt: createdAt as string,
    ...beancounters !== undefined && { beancounters: countersOf(beancounters) },
    ...processor && { processor }, ...told === true && { told }, ...answering && { answering }, ...consoleKeeper !== undefined && { consoleKeeper: consoleKeeper as number },
    mounts: mounts.map((mount: unknown) => {
      const { inside, name } = (mount ?? {}) as Record<string, unknown>;
      if (!isText(inside) || !isText(name)) throw bad('has a manifest that is none');
      return { inside, name };
    }),
  };
}

/** Peaks and refusals of what there is to be counted. */
function countersOf(given: unknown): NonNullable<Manifest['beancounters']> {
  const counters: Record<string, { maxheld: number; failcnt: number }> = {};
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  for (const { name } of BEANCOUNTERS) {
    const row = typeof given === 'object' && given !== null && Object.hasOwn(given, name) ? (given as Record<string, unknown>)[name] : undefined;
    if (row === undefined) continue;
    const { maxheld, failcnt } = (row ?? {}) as Record<string, unknown>;
    if (!isCount(maxheld) || !isCount(failcnt)) throw bad('has a manifest that is none');
    counters[name] = { maxheld, failcnt };
  }
  return counters;
}

/** A line of text. */
function isText(value: unknown): value is string {
  // eslint-disable-next-line no-control-regex
  return typeof value === 'string' && value.length <= 4096 && !/[\x00-\x1f\x7f]/.test(value);
}

function bad(what: string): VeldError {
  return new VeldError('migration.stream', `The state that came ${what}.`);
}
