/**
 * Engines: the programs that run and checkpoint VEs (crun, conmon, criu, mount), the same on every host.
 *
 * Each lies in `STATE/engine/<fingerprint>/`, complete with its libraries, and never changes; `STATE/engine/current` is a symbolic link to the
 * one for new starts. A VE goes on with the engine it was started with, so older ones stay until no VE uses them.
 */
import { existsSync, lstatSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { readIfExists } from '../lib/files.ts';
import { VeldError } from '../lib/errors.ts';
import type { ReleaseInfo } from './mmdebstrap.ts';

/** An engine and the absolute paths of its programs. */
export interface Engine {
  /** 64 hex digits: over package versions and file contents. */
  fingerprint: string;
  dir: string;
  crun: string;
  conmon: string;
  criu: string;
  /** mount(8) of util-linux >= 2.39: knows X-mount.idmap. */
  mount: string;
  umount: string;
  unshare: string;
  nsenter: string;
  setpriv: string;
  /** A minimal init: waits for what a command leaves behind. */
  tini: string;
  /** The init of application VEs: runs in the VE itself, so it is statically linked. */
  catatonit: string;
  /** GNU tar. */
  tar: string;
}

/** The programs of an engine, each made runnable as `bin/NAME`. */
export const ENGINE_PROGRAMS = ['crun', 'conmon', 'criu', 'mount', 'umount', 'unshare', 'nsenter', 'setpriv', 'tini', 'catatonit', 'tar'] as const;

/** How an engine came to be: `manifest.json` in its folder. */
export interface EngineManifest {
  fingerprint: string;
  architecture: string;
  /** The Debian suite that was asked for. */
  suite: string;
  releases: ReleaseInfo[];
  /** True when a Release file was past its Valid-Until, and the settings allowed that. */
  expired: boolean;
  /** Package -> version. */
  packages: Record<string, string>;
  /** Version that the program itself reports. */
  criu: string;
  /** ISO 8601. */
  builtAt: string;
}

/** The folder of all engines. */
export function engineFolder(stateDir: string): string {
  return join(stateDir, 'engine');
}

/**
 * The engine for new starts.
 * @throws VeldError `engine.missing` when none was built
 */
export function currentEngine(stateDir: string): Engine {
  let fingerprint: string;
  try {
    fingerprint = readlinkSync(join(engineFolder(stateDir), 'current'));
  } catch (error) {
    throw new VeldError('engine.missing', `There is no engine in ${engineFolder(stateDir)}.`, { cause: error });
  }
  return engineByFingerprint(stateDir, fingerprint);
}

/** An engine by its fingerprint. @throws VeldError `engine.missing` */
export function engineByFingerprint(stateDir: string, fingerprint: string): Engine {
  engineManifest(stateDir, fingerprint);
  const engine = engineAt(join(engineFolder(stateDir), fingerprint), fingerprint);
  const lacking = ENGINE_PROGRAMS.filter((name) => !existsSync(engine[name]));
  if (lacking.length > 0) throw new VeldError('engine.missing', `The engine ${fingerprint.slice(0, 12)} was built by another version of Veld: it lacks ${lacking.join(', ')}.`);
  return engine;
}

/** The engine that lies in a folder; nothing is checked. */
export function engineAt(dir: string, fingerprint: string): Engine {
  const paths = Object.fromEntries(ENGINE_PROGRAMS.map((name) => [name, join(dir, 'bin', name)])) as Record<(typeof ENGINE_PROGRAMS)[number], string>;
  return { fingerprint, dir, ...paths };
}

/** What runs an engine's programs where its folder cannot be seen: the dynamic linker, the libraries beside it, and a program that needs neither. */
export function engineParts(engine: Engine): { linker: string; busybox: string } {
  const [libraries, linker] = process.arch === 'arm64' ? ['aarch64-linux-gnu', 'ld-linux-aarch64.so.1'] : ['x86_64-linux-gnu', 'ld-linux-x86-64.so.2'];
  return { linker: join(engine.dir, 'usr/lib', libraries, linker), busybox: join(engine.dir, 'usr/bin/busybox') };
}

/** How an engine was built. @throws VeldError `engine.missing` */
export function engineManifest(stateDir: string, fingerprint: string): EngineManifest {
  const file = join(engineFolder(stateDir), fingerprint, 'manifest.json');
  const text = /^[0-9a-f]{64}$/.test(fingerprint) ? readIfExists(file) : undefined;
  if (text === undefined) throw new VeldError('engine.missing', `The engine ${fingerprint.slice(0, 12)} is not in ${engineFolder(stateDir)}.`);
  return JSON.parse(text) as EngineManifest;
}

/** Fingerprints of all engines that are there, whole. */
export function listEngines(stateDir: string): string[] {
  let names: string[];
  try {
    names = readdirSync(engineFolder(stateDir));
  } catch {
    return [];
  }
  return names.filter((name) => /^[0-9a-f]{64}$/.test(name) && readIfExists(join(engineFolder(stateDir), name, 'manifest.json')) !== undefined);
}

/** Make an engine the one for new starts, in one step. */
export function setCurrentEngine(stateDir: string, fingerprint: string): void {
  engineManifest(stateDir, fingerprint);
  const link = join(engineFolder(stateDir), 'current');
  const fresh = `${link}.${process.pid}.new`;
  rmSync(fresh, { force: true });
  symlinkSync(fingerprint, fresh);
  renameSync(fresh, link);
}

/**
 * Remove engines that nobody uses, and what broken builds left behind.
 * @param used fingerprints that running VEs and checkpoints need; the current one always stays
 * @returns the fingerprints that were removed
 */
export function pruneEngines(stateDir: string, used: ReadonlySet<string>): string[] {
  const folder = engineFolder(stateDir);
  let current: string | undefined;
  try {
    current = readlinkSync(join(folder, 'current'));
  } catch {
    current = undefined;
  }
  const removed = listEngines(stateDir).filter((fingerprint) => fingerprint !== current && !used.has(fingerprint));
  for (const fingerprint of removed) {
    // The manifest goes first: an engine that is half removed by a crash must not count as one.
    rmSync(join(folder, fingerprint, 'manifest.json'), { force: true });
    rmSync(join(folder, fingerprint), { recursive: true, force: true });
  }
  for (const name of readdirSync(folder, { withFileTypes: true })) {
    const builder = /^\.(?:build|test)-(\d+)$/.exec(name.name)?.[1];
    const half = /^[0-9a-f]{64}$/.test(name.name) && !listEngines(stateDir).includes(name.name);
    if (half || (builder !== undefined && !alive(builder))) rmSync(join(folder, name.name), { recursive: true, force: true });
  }
  return removed;
}

function alive(pid: string): boolean {
  try {
    lstatSync(`/proc/${pid}`);
    return true;
  } catch {
    return false;
  }
}
