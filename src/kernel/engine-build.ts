/** Builds an engine from signed Debian packages: unpacked aside, fingerprinted, made runnable in place, tested, and only then used. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, realpathSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run } from '../lib/run.ts';
import { writeFileAtomic } from '../lib/files.ts';
import { VeldError, toVeldError } from '../lib/errors.ts';
import { debianKeyring } from './engine-keys.ts';
import { ENGINE_PROGRAMS, engineAt, engineFolder, engineParts, listEngines, setCurrentEngine } from './engine.ts';
import type { Engine, EngineManifest } from './engine.ts';
import { mmdebstrap } from './mmdebstrap.ts';
import type { Source } from './mmdebstrap.ts';
import { debianArchitecture } from './package-sources.ts';
import { criuSelfTest } from './criu-selftest.ts';

/** tar and busybox-static do the work of `veld cp` in VEs; busybox-static is the guest of the self-test, too. */
const PACKAGES = ['criu', 'libcriu2', 'crun', 'conmon', 'mount', 'util-linux', 'libc-bin', 'tini', 'catatonit', 'tar', 'busybox-static'];

/** The oldest CRIU that dumps and restores on current kernels (before: the vdso of 6.16, SO_PASSCRED). */
const CRIU_MINIMUM = [4, 2] as const;

export interface EngineBuildOptions {
  stateDir: string;
  /** Debian mirror. */
  mirror: string;
  /** Suites tried in order until one has CRIU >= 4.2. */
  suites: readonly string[];
  expiredRelease: 'refuse' | 'record';
  signal?: AbortSignal;
  /** @param percent 0 to 100 @param message what is being done */
  progress?: (percent: number, message: string) => void;
}

/**
 * Build an engine and make it the current one.
 * @returns it and its manifest
 * @throws VeldError `engine.failed` when no suite gives a working engine, `engine.release_expired`
 */
export async function buildEngine(options: EngineBuildOptions): Promise<{ engine: Engine; manifest: EngineManifest }> {
  const folder = engineFolder(options.stateDir);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const progress = options.progress ?? (() => {});
  const reasons: string[] = [];
  let expired: VeldError | undefined;
  for (const suite of options.suites) {
    const temporary = join(folder, `.build-${process.pid}`);
    try {
      rmSync(temporary, { recursive: true, force: true });
      progress(5, `looking at ${suite}`);
      if (!(await mayHaveCriu(options, suite))) {
        reasons.push(`${suite} has no CRIU ${CRIU_MINIMUM.join('.')} or newer`);
        continue;
      }
      return await buildFrom(options, suite, temporary, progress);
    } catch (thrown) {
      const error = toVeldError(thrown);
      if (error.code === 'operation.cancelled' || error.code === 'disk.full') throw error;
      if (error.code === 'engine.release_expired') expired ??= error;
      reasons.push(`${suite}: ${error.message}`);
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
  }
  if (expired) throw expired;
  throw new VeldError('engine.failed', `No suite gave a working engine: ${reasons.join('; ')}.`, { details: { reasons } });
}

async function buildFrom(options: EngineBuildOptions, suite: string, temporary: string, progress: (percent: number, message: string) => void):
Promise<{ engine: Engine; manifest: EngineManifest }> {
  const architecture = debianArchitecture();
  let percent = 10;
  const result = await mmdebstrap({
    variant: 'extract', suite, target: temporary, architecture, include: [...PACKAGES, ...(suite.endsWith('-backports') ? [`criu/${suite}`] : [])],
    sources: sourcesOf(options.mirror, suite), expiredRelease: options.expiredRelease, signal: options.signal,
    onLine: (line) => {
      const step = /^I: (running apt-get update|downloading packages|extracting archives)/.exec(line)?.[1];
      if (step !== undefined) progress(percent += 15, `${suite}: ${step.replace('running apt-get update', 'reading package lists')}`);
    },
  });
  progress(70, 'taking the fingerprint');
  slimTree(temporary);
  const fingerprint = fingerprintTree(temporary, result.packages);
  const dir = join(engineFolder(options.stateDir), fingerprint);
  const engine = engineAt(dir, fingerprint);
  if (!listEngines(options.stateDir).includes(fingerprint)) {
    // An engine counts once its manifest is there, which is written last.
    rmSync(dir, { recursive: true, force: true });
    renameSync(temporary, dir);
    try {
      progress(75, 'making the programs runnable');
      await makeRunnable(dir);
      const version = await criuVersion(engine.criu);
      progress(80, 'self-test: dumping and restoring processes');
      await criuSelfTest(engine, join(engineFolder(options.stateDir), `.test-${process.pid}`), options.signal);
      const manifest: EngineManifest = {
        fingerprint, architecture, suite, releases: result.releases, expired: result.releases.some((release) => release.expired),
        packages: result.packages, criu: version, builtAt: new Date().toISOString(),
      };
      writeFileAtomic(join(dir, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    } catch (error) {
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
  } else {
    progress(80, 'self-test: dumping and restoring processes');
    await criuSelfTest(engine, join(engineFolder(options.stateDir), `.test-${process.pid}`), options.signal);
  }
  setCurrentEngine(options.stateDir, fingerprint);
  progress(100, 'done');
  return { engine, manifest: JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8')) as EngineManifest };
}

/** A backports suite stands on its base suite. */
function sourcesOf(mirror: string, suite: string): Source[] {
  const base = suite.replace(/-backports(-sloppy)?$/, '');
  const keyring = debianKeyring();
  return [...new Set([base, suite])].map((name) => ({ mirror, suite: name, components: ['main'], keyring }));
}

/**
 * Whether it is worth unpacking a suite. A backports suite that lacks criu would give its base suite's: so its index is read first.
 * That index is unsigned as read here; it can only make us pass over a suite.
 */
async function mayHaveCriu(options: EngineBuildOptions, suite: string): Promise<boolean> {
  if (!suite.includes('-backports')) return true;
  const address = `${options.mirror}/dists/${suite}/main/binary-${debianArchitecture()}/Packages.xz`;
  if (!address.startsWith('http')) return true;
  const answer = await fetch(address, { signal: options.signal }).catch((error: unknown) => {
    throw new VeldError('engine.failed', `${address} could not be read: ${String((error as Error).cause ?? error)}.`, { cause: error });
  });
  if (!answer.ok) return false;
  const index = await unpackXz(new Uint8Array(await answer.arrayBuffer()));
  const version = /^Package: criu\n(?:[^\n]+\n)*?Version: (\S+)/m.exec(index)?.[1];
  return version !== undefined && atLeastMinimum(version.replace(/^\d+:/, ''));
}

function unpackXz(bytes: Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile('/usr/bin/xz', ['-dc'], { maxBuffer: 256 << 20 }, (error, stdout) => (error ? reject(error) : resolve(stdout)));
    child.stdin?.on('error', () => {}); // reported by the status
    child.stdin?.end(bytes);
  });
}

/** Drop from an unpacked tree what no program reads: documentation, translations, the own state of apt and dpkg. */
export function slimTree(dir: string): void {
  for (const path of ['dev', 'tmp', 'var', 'etc', 'usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/perl5', 'usr/share/info', 'usr/share/lintian']) {
    rmSync(join(dir, path), { recursive: true, force: true });
  }
}

/** sha256 over package versions and each file's path, mode and content. */
export function fingerprintTree(dir: string, packages: Readonly<Record<string, string>>): string {
  const hash = createHash('sha256');
  for (const [name, version] of Object.entries(packages).toSorted(([a], [b]) => (a < b ? -1 : 1))) hash.update(`package ${name} ${version}\n`);
  for (const path of (readdirSync(dir, { recursive: true }) as string[]).toSorted()) {
    const full = join(dir, path);
    const stat = lstatSync(full);
    const mode = (stat.mode & 0o7777).toString(8);
    if (stat.isSymbolicLink()) hash.update(`link ${path} ${readlinkSync(full)}\n`);
    else if (stat.isDirectory()) hash.update(`folder ${path} ${mode}\n`);
    else if (stat.isFile()) hash.update(`file ${path} ${mode} ${createHash('sha256').update(readFileSync(full)).digest('hex')}\n`);
    else throw new VeldError('engine.failed', `The engine tree holds ${path}, which is no file, folder or link.`);
  }
  return hash.digest('hex');
}

/**
 * Copies of the programs that find their dynamic linker and libraries in the engine itself, wherever they are run:
 * in `bin/`, with absolute paths (the folder's name is final). RPATH rather than RUNPATH, because libraries of libraries need it too.
 */
async function makeRunnable(dir: string): Promise<void> {
  const { linker } = engineParts(engineAt(dir, ''));
  const libraries = dirname(linker);
  if (!existsSync(linker)) throw new VeldError('engine.failed', `The packages hold no dynamic linker ${linker}.`);
  mkdirSync(join(dir, 'bin'), { recursive: true });
  await Promise.all(ENGINE_PROGRAMS.map(async (name) => {
    const source = ['usr/bin', 'usr/sbin', 'usr/libexec', 'sbin'].map((folder) => join(dir, folder, name)).find((path) => existsSync(path));
    if (source === undefined) throw new VeldError('engine.failed', `The packages hold no program ${name}.`);
    const copy = join(dir, 'bin', name);
    copyFileSync(realpathSync(source), copy);
    if (isStatic(readFileSync(copy))) return;
    await run('/usr/bin/patchelf', ['--set-interpreter', linker, '--set-rpath', libraries, '--force-rpath', copy]);
    const { stdout } = await run(linker, ['--list', copy]);
    const outside = stdout.split('\n').filter((line) => /=> /.test(line) && !line.includes(`=> ${dir}/`));
    if (outside.length > 0) throw new VeldError('engine.failed', `${name} would use libraries from outside the engine: ${outside.map((l) => l.trim()).join(', ')}.`);
  }));
}

/** Whether an ELF program asks for no dynamic linker: none of its program headers is of type PT_INTERP. Format: elf(5), 64 bits, little-endian. */
export function isStatic(program: Buffer): boolean {
  const [table, size, count] = [Number(program.readBigUInt64LE(32)), program.readUInt16LE(54), program.readUInt16LE(56)];
  return Array.from({ length: count }, (_, i) => program.readUInt32LE(table + i * size)).every((type) => type !== 3);
}

async function criuVersion(criu: string): Promise<string> {
  const { stdout } = await run(criu, ['--version']);
  const version = /^Version: (\S+)/m.exec(stdout)?.[1] ?? '';
  if (!atLeastMinimum(version)) throw new VeldError('engine.failed', `its CRIU is ${version || 'of unknown version'}, and ${CRIU_MINIMUM.join('.')} is needed`);
  return version;
}

function atLeastMinimum(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  return major > CRIU_MINIMUM[0] || (major === CRIU_MINIMUM[0] && minor >= CRIU_MINIMUM[1]);
}
