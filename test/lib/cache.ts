/**
 * The test cache: one engine (with lxcfs) and one template, built once by the real code and shared by all test instances (the engine by a symbolic
 * link, the template's tree by hard links). Keyed by the sources that build them, so a changed builder builds anew.
 */
import { createHash } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { buildEngine } from '../../src/kernel/engine-build.ts';
import { buildLxcfs } from '../../src/kernel/lxcfs-build.ts';
import { debianMirror } from '../../src/kernel/package-sources.ts';
import { openStore } from '../../src/store/sqlite.ts';
import { takeLock } from '../../src/lib/lock.ts';
import { until } from './wait.ts';
import type { Instance } from './instance.ts';

const ROOT = join(import.meta.dirname, '../..');

/** The cache's folder. */
export const CACHE = process.env.VELD_TEST_CACHE ?? '/var/cache/veld-test';

/** Name of the template that every instance has. */
export const TEMPLATE = 'test';

/** Suites from which engines of tests are built. */
export const ENGINE_SUITES = ['trixie-backports', 'testing'];

/** Packages of the test template besides the minimum. */
const INCLUDE: string[] = [];

/** File of the store in a state folder. */
export const storeFile = (stateDir: string): string => join(stateDir, 'veld.db');

function key(paths: readonly string[], salt: string): string {
  const hash = createHash('sha256').update(salt);
  for (const path of paths) hash.update(path).update(readFileSync(join(ROOT, path)));
  return hash.digest('hex').slice(0, 12);
}

function sources(folder: string, pattern: RegExp): string[] {
  return readdirSync(join(ROOT, folder)).filter((f) => pattern.test(f) && !f.endsWith('.test.ts')).sort().map((f) => `${folder}/${f}`);
}

/** Where the engine of the present sources is or will be: a folder like a state folder. */
function engineCache(): string {
  return join(CACHE, `engine-${key(sources('src/kernel', /^(engine|mmdebstrap|criu-selftest|lxcfs-build)/), '1')}`);
}

/** What builds templates of suites, and records them: a store of a newer schema cannot be read by this code. Pulled and imported ones are in no cache. */
const templateSources = (): string[] => [...sources('src/templates', /^(builder|guest-setup|recipes|setup-.*|suites|tree)\.ts$/), 'src/kernel/mmdebstrap.ts', 'src/store/migrations.ts'];

/** Where the templates of other guests are or will be, up to their name. */
function guestCache(): string {
  return join(CACHE, `guest-${key(templateSources(), '1')}`);
}

/** Where the template is or will be: the state folder of the instance that built it. */
function templateCache(): string {
  return join(CACHE, `template-${key(templateSources(), INCLUDE.join(','))}`);
}

/** Milliseconds after its last use when an engine or template of other sources is removed: another run may still stand on it. */
const KEPT = 24 * 3_600_000;

/**
 * Build what is missing, and tell the tests by the environment where it is (sources may change while they run).
 * @param start makes an instance without template (given by the caller: instance.ts imports this file)
 */
export async function buildCache(start: () => Promise<Instance>, say: (line: string) => void): Promise<void> {
  mkdirSync(CACHE, { recursive: true, mode: 0o700 });
  const lock = await until('another run to build the test cache', () => takeLock(join(CACHE, 'lock')), 600_000, 500);
  try {
    const engine = engineCache();
    const template = templateCache();
    process.env.VELD_TEST_ENGINE = engine;
    process.env.VELD_TEST_TEMPLATE = template;
    process.env.VELD_TEST_GUESTS = guestCache();
    if (!existsSync(join(engine, 'ready'))) await makeEngine(engine, say);
    if (!existsSync(join(template, 'ready'))) await makeTemplate(template, start, say);
    const now = new Date();
    for (const folder of [engine, template]) utimesSync(join(folder, 'ready'), now, now);
    for (const entry of readdirSync(CACHE)) {
      const used = statSync(join(CACHE, entry, 'ready'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
      if (/^(engine|template|guest)-/.test(entry) && now.getTime() - used > KEPT) rmSync(join(CACHE, entry), { recursive: true, force: true });
    }
  } finally {
    lock.release();
  }
}

async function makeEngine(folder: string, say: (line: string) => void): Promise<void> {
  say('test cache: building the engine');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  // Programs of an engine know their own path: it is built where it stays, and counts once `ready` is there.
  const source = { stateDir: folder, mirror: debianMirror(''), expiredRelease: 'record' as const };
  const { manifest } = await buildEngine({ ...source, suites: ENGINE_SUITES, progress: (percent, message) => say(`test cache: engine ${percent} % ${message}`) });
  say('test cache: building lxcfs');
  await buildLxcfs({ ...source, engineSuite: manifest.suite });
  writeFileSync(join(folder, 'ready'), '');
}

async function makeTemplate(folder: string, start: () => Promise<Instance>, say: (line: string) => void): Promise<void> {
  say('test cache: building the template');
  await buildTemplate(folder, start, { suite: 'host', name: TEMPLATE, include: INCLUDE });
}

/** What a template of another guest is built of. */
export interface GuestRequest {
  suite: string;
  init?: string;
  /** Packages besides the usual ones. */
  include?: readonly string[];
}

/** Name of the template with packages of its own. */
export function guestName({ suite, include = [] }: GuestRequest): string {
  return `${suite}-with-${createHash('sha256').update(include.toSorted().join(' ')).digest('hex').slice(0, 8)}`;
}

/**
 * A template of another guest, built by `veld template build` when the cache does not have it.
 * @returns the folder, for the `templates` of an instance
 */
export async function guestTemplate(request: GuestRequest, start: () => Promise<Instance>): Promise<string> {
  const plain = (request.include ?? []).length === 0;
  const folder = `${process.env.VELD_TEST_GUESTS}-${plain ? request.suite : guestName(request)}-${request.init ?? 'systemd'}`;
  const lock = await until('another run to build a guest', () => takeLock(`${folder}.lock`), 600_000, 500);
  try {
    if (!existsSync(join(folder, 'ready'))) await buildTemplate(folder, start, plain ? request : { ...request, name: guestName(request) });
    utimesSync(join(folder, 'ready'), new Date(), new Date());
    return folder;
  } finally {
    lock.release(true);
  }
}

async function buildTemplate(folder: string, start: () => Promise<Instance>, request: object): Promise<void> {
  const instance = await start();
  try {
    await instance.api.operate('POST', '/v1/templates/build', request);
    await instance.stop();
    for (const name of ['engine', 'lxcfs', 'cache']) rmSync(join(instance.settings.stateDir, name), { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
    renameSync(instance.settings.stateDir, folder);
    writeFileSync(join(folder, 'ready'), '');
  } finally {
    await instance.destroy();
  }
}

function built(variable: string): string {
  const folder = process.env[variable];
  if (folder === undefined || !existsSync(join(folder, 'ready'))) throw new Error('The test cache is missing: run the test by `./check system FILE`.');
  return folder;
}

/** Give a fresh state folder the cached engine and lxcfs. */
export function useEngine(stateDir: string): void {
  const engine = built('VELD_TEST_ENGINE');
  for (const name of ['engine', 'lxcfs']) symlinkSync(join(engine, name), join(stateDir, name));
}

/** Give a fresh state folder the cached template: its tree by hard links (a copy on another file system), its records into a store of its own. */
export function useTemplate(stateDir: string, cached = built('VELD_TEST_TEMPLATE')): void {
  const from = openStore(storeFile(cached));
  const into = openStore(storeFile(stateDir));
  try {
    for (const layer of from.listLayers()) {
      const target = join(stateDir, 'layers', layer.id);
      mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
      const links = statSync(cached).dev === statSync(stateDir).dev;
      const copy = spawnSync('/bin/cp', [links ? '-al' : '-a', '--', join(cached, 'layers', layer.id), target], { encoding: 'utf8' });
      if (copy.status !== 0) throw new Error(`cp: ${copy.stderr}`);
      into.insertLayer(layer);
    }
    for (const record of from.listTemplates()) into.insertTemplate(record);
  } finally {
    from.close();
    into.close();
  }
}
