/**
 * Builds lxcfs' own root, `STATE/lxcfs/<fingerprint>/`: apart from the engine, because which lxcfs a host can run depends on its control groups.
 *
 * On v1 and hybrid hosts that is Debian 12's 5.0.3 (7.0 knows no v1; 6.0 and 7.0 need /proc/1/personality), on v2 hosts that of the engine's suite.
 */
import { existsSync, mkdirSync, readFileSync, readlinkSync, realpathSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../lib/run.ts';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { VeldError } from '../lib/errors.ts';
import { findHierarchies } from './cgroup.ts';
import type { CgroupMode } from './cgroup.ts';
import { debianKeyring } from './engine-keys.ts';
import { fingerprintTree, slimTree } from './engine-build.ts';
import { mmdebstrap } from './mmdebstrap.ts';
import type { ReleaseInfo } from './mmdebstrap.ts';
import { debianArchitecture } from './package-sources.ts';

/** An lxcfs that can be started. */
export interface LxcfsRoot {
  fingerprint: string;
  dir: string;
  /** The program. */
  lxcfs: string;
  manifest: LxcfsManifest;
}

/** How it came to be: `manifest.json` in its folder. */
export interface LxcfsManifest {
  fingerprint: string;
  suite: string;
  version: string;
  /** Control groups it was chosen for. */
  mode: CgroupMode;
  releases: ReleaseInfo[];
  expired: boolean;
  packages: Record<string, string>;
  builtAt: string;
}

/** The suite whose lxcfs serves a host with these control groups. @param engineSuite suite for v2 hosts */
export function lxcfsSuite(mode: CgroupMode, engineSuite: string): string {
  return mode === 'v2' ? engineSuite : 'bookworm';
}

/** The lxcfs for new starts, or undefined when none was built for the control groups that the host has now. */
export function currentLxcfs(stateDir: string, mode: CgroupMode = findHierarchies().mode): LxcfsRoot | undefined {
  let fingerprint: string;
  try {
    fingerprint = readlinkSync(join(stateDir, 'lxcfs', 'current'));
  } catch {
    return undefined;
  }
  const dir = join(stateDir, 'lxcfs', fingerprint);
  const text = /^[0-9a-f]{64}$/.test(fingerprint) ? readIfExists(join(dir, 'manifest.json')) : undefined;
  if (text === undefined) return undefined;
  const manifest = JSON.parse(text) as LxcfsManifest;
  return (manifest.mode === 'v2') === (mode === 'v2') ? { fingerprint, dir, lxcfs: join(dir, 'bin/lxcfs'), manifest } : undefined;
}

/**
 * Build an lxcfs for this host and make it the current one.
 * @throws VeldError `engine.failed`, `engine.release_expired`
 */
export async function buildLxcfs(options: { stateDir: string; mirror: string; engineSuite: string; expiredRelease: 'refuse' | 'record'; signal?: AbortSignal }):
Promise<LxcfsRoot> {
  const mode = findHierarchies().mode;
  const suite = lxcfsSuite(mode, options.engineSuite);
  const folder = join(options.stateDir, 'lxcfs');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const temporary = join(folder, `.build-${process.pid}`);
  try {
    const result = await mmdebstrap({
      variant: 'extract', suite, target: temporary, architecture: debianArchitecture(), include: ['lxcfs'], expiredRelease: options.expiredRelease,
      sources: [{ mirror: options.mirror, suite, components: ['main'], keyring: debianKeyring() }], signal: options.signal,
    });
    slimTree(temporary);
    const fingerprint = fingerprintTree(temporary, result.packages);
    const dir = join(folder, fingerprint);
    if (!existsSync(join(dir, 'manifest.json'))) {
      rmSync(dir, { recursive: true, force: true });
      renameSync(temporary, dir);
      const version = await makeRunnable(dir);
      const manifest: LxcfsManifest = {
        fingerprint, suite, version, mode, releases: result.releases, expired: result.releases.some((release) => release.expired),
        packages: result.packages, builtAt: new Date().toISOString(),
      };
      writeFileAtomic(join(dir, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
    }
    const fresh = join(folder, `current.${process.pid}.new`);
    rmSync(fresh, { force: true });
    symlinkSync(fingerprint, fresh);
    renameSync(fresh, join(folder, 'current'));
    return { fingerprint, dir, lxcfs: join(dir, 'bin/lxcfs'), manifest: JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8')) as LxcfsManifest };
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** lxcfs opens liblxcfs.so by its bare name first, so its folder stands in the RPATH. @returns the version that the program reports */
async function makeRunnable(dir: string): Promise<string> {
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const linkerName = process.arch === 'arm64' ? 'ld-linux-aarch64.so.1' : 'ld-linux-x86-64.so.2';
  const linker = [`usr/lib/${triplet}`, `lib/${triplet}`].map((path) => join(dir, path, linkerName)).find((path) => existsSync(path));
  if (linker === undefined) throw new VeldError('engine.failed', 'The packages of lxcfs hold no dynamic linker.');
  const libraries = [`usr/lib/${triplet}`, `lib/${triplet}`, `usr/lib/${triplet}/lxcfs`].map((path) => join(dir, path)).join(':');
  mkdirSync(join(dir, 'bin'), { recursive: true });
  const program = join(dir, 'bin/lxcfs');
  await run('/usr/bin/cp', ['--', realpathSync(join(dir, 'usr/bin/lxcfs')), program]);
  await run('/usr/bin/patchelf', ['--set-interpreter', linker, '--set-rpath', libraries, '--force-rpath', program]);
  await run('/usr/bin/patchelf', ['--set-rpath', libraries, '--force-rpath', join(dir, `usr/lib/${triplet}/lxcfs/liblxcfs.so`)]);
  const { stdout, stderr } = await run(program, ['--version'], { allow: true });
  const version = /\d+\.\d+(?:\.\d+)?/.exec(stdout + stderr)?.[0];
  if (version === undefined) throw new VeldError('engine.failed', `lxcfs does not run: ${(stderr || stdout).trim()}.`);
  return version;
}
