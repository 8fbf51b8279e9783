/** Runs mmdebstrap: a root file system, or a bare tree of unpacked packages, from signed package sources. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run } from '../lib/run.ts';
import { VeldError } from '../lib/errors.ts';

/** One line of package sources. */
export interface Source {
  mirror: string;
  suite: string;
  components: readonly string[];
  /** Keyring file that its signature is checked with: this one and no other. */
  keyring: string;
}

/** What the signed Release file of a source said. */
export interface ReleaseInfo {
  mirror: string;
  suite: string;
  codename: string;
  /** ISO 8601. */
  date: string | null;
  /** ISO 8601, or null when it never expires. */
  validUntil: string | null;
  /** Whether Valid-Until was past when it was used. */
  expired: boolean;
}

export interface MmdebstrapOptions {
  /** `extract` unpacks only; `minbase` installs. */
  variant: 'extract' | 'minbase';
  suite: string;
  /** Folder that is made. Must be empty or absent. */
  target: string;
  sources: readonly Source[];
  include: readonly string[];
  architecture: string;
  expiredRelease: 'refuse' | 'record';
  /** Folder on the target's file system that keeps the downloaded packages for the next time. */
  cache?: string;
  /** More arguments: hooks, dpkg options. */
  extra?: readonly string[];
  env?: Record<string, string>;
  signal?: AbortSignal;
  onLine?: (line: string) => void;
}

/** What was installed. */
export interface MmdebstrapResult {
  releases: ReleaseInfo[];
  /** Package -> version, of the packages that were downloaded. */
  packages: Record<string, string>;
}

/**
 * Run mmdebstrap in its `unshare` mode: mount, pid, uts and ipc namespaces of its own, and no device nodes in the tree.
 * apt checks the signatures against the one keyring of each source. Package lists and downloads are read, then removed.
 * @throws VeldError `engine.release_expired` when a Release file is past its Valid-Until and that is refused; `command.failed`
 */
export async function mmdebstrap(options: MmdebstrapOptions): Promise<MmdebstrapResult> {
  const lines = options.sources.map((s) => `deb [arch=${options.architecture} signed-by=${s.keyring}] ${s.mirror} ${s.suite} ${s.components.join(' ')}`);
  const host = await hostAptOptions();
  const attempt = (more: string[]): Promise<unknown> => run('/usr/bin/mmdebstrap', [
    '--mode=unshare', `--variant=${options.variant}`, '--format=directory', `--architectures=${options.architecture}`,
    '--skip=cleanup/apt/lists,cleanup/apt/cache,essential/unlink,output/dev',
    ...(options.include.length > 0 ? [`--include=${options.include.join(',')}`] : []),
    // What a host says about proxies and certificates holds for the build, nothing else of its apt settings does.
    ...[...host, ...more].map((option) => `--aptopt=${option}`), '--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "2"',
    ...(options.cache === undefined ? [] : [`--setup-hook=${USE_CACHE}`]), ...(options.extra ?? []), options.suite, options.target, ...lines,
  ], { env: { TMPDIR: '/tmp', VELD_CACHE: options.cache ?? '', ...options.env }, signal: options.signal, onLine: options.onLine });
  try {
    await attempt([]);
  } catch (error) {
    const expired = error instanceof VeldError ? /Release file for (\S+) is expired \(invalid since ([^)]*)\)/.exec(String(error.details?.stderr)) : null;
    if (!expired) throw error;
    if (options.expiredRelease === 'refuse') {
      throw new VeldError('engine.release_expired', `The Release file ${expired[1]} is past its Valid-Until since ${expired[2]}: the mirror is not kept up to date.`,
        { cause: error });
    }
    rmSync(options.target, { recursive: true, force: true });
    await attempt(['Acquire::Check-Valid-Until "false"']);
  }
  const result = { releases: readReleases(options), packages: readPackages(join(options.target, 'var/cache/apt/archives')) };
  if (options.cache !== undefined) keep(join(options.target, 'var/cache/apt/archives'), options.cache);
  rmSync(join(options.target, 'var/lib/apt/lists'), { recursive: true, force: true });
  rmSync(join(options.target, 'var/cache/apt'), { recursive: true, force: true });
  return result;
}

/** Fields of a Release file that matter here. @param text with or without its clear-text signature @param now Unix time in ms */
export function parseRelease(text: string, now: number): Pick<ReleaseInfo, 'codename' | 'date' | 'validUntil' | 'expired'> & { suite: string } {
  const value = (key: string): string | undefined => new RegExp(`^${key}:[ \\t]*(.*)$`, 'm').exec(text)?.[1]?.trim();
  const time = (key: string): string | null => {
    const ms = Date.parse(value(key)?.replace(/ UTC$/, ' GMT') ?? '');
    return Number.isNaN(ms) ? null : new Date(ms).toISOString();
  };
  const validUntil = time('Valid-Until');
  return {
    suite: value('Suite') ?? '', codename: value('Codename') ?? '', date: time('Date'), validUntil,
    expired: validUntil !== null && Date.parse(validUntil) < now,
  };
}

/** Package and version from the name of a downloaded file: `NAME_VERSION_ARCH.deb`, with `%3a` for the colon of an epoch. */
export function parseDebName(file: string): { name: string; version: string } | undefined {
  const match = /^([a-z0-9][a-z0-9.+-]*)_([^_]+)_[a-z0-9]+\.deb$/.exec(file);
  if (!match) return undefined;
  return { name: match[1] ?? '', version: (match[2] ?? '').replaceAll('%3a', ':') };
}

/** Gives the packages of the last time to apt, which fetches those that changed. Hard links: they are neither changed nor copied. */
const USE_CACHE = 'mkdir -p "$1/var/cache/apt/archives"; cp -l "$VELD_CACHE"/*.deb "$1/var/cache/apt/archives/" 2>/dev/null || true';

/** The packages of this time take the place of those of the last. A cache that cannot be kept is no failure. */
function keep(archives: string, cache: string): void {
  try {
    mkdirSync(dirname(cache), { recursive: true, mode: 0o700 });
    rmSync(cache, { recursive: true, force: true });
    renameSync(archives, cache);
  } catch {
    rmSync(cache, { recursive: true, force: true });
  }
}

function readReleases(options: MmdebstrapOptions): ReleaseInfo[] {
  const folder = join(options.target, 'var/lib/apt/lists');
  const files = readdirSync(folder).filter((name) => name.endsWith('Release'));
  return options.sources.map((source) => {
    // apt names the file after the address, its slashes as underscores; the address may begin with user:password@, which it leaves out.
    const tail = `dists_${source.suite.replaceAll('/', '_')}_`;
    const host = source.mirror.replace(/^[a-z]+:\/\/(?:[^/@]*@)?/, '').replaceAll('/', '_');
    const file = files.find((name) => name.startsWith(`${host}_${tail}`)) ?? files.find((name) => name.includes(tail));
    if (file === undefined) throw new VeldError('engine.failed', `apt kept no Release file of ${source.suite}.`);
    return { ...parseRelease(readFileSync(join(folder, file), 'utf8'), Date.now()), mirror: source.mirror, suite: source.suite };
  });
}

function readPackages(folder: string): Record<string, string> {
  const entries = readdirSync(folder).map(parseDebName).filter((deb) => deb !== undefined);
  return Object.fromEntries(entries.toSorted((a, b) => (a.name < b.name ? -1 : 1)).map((deb) => [deb.name, deb.version]));
}

/** The host's apt options on proxies and TLS, as lines of apt.conf. */
async function hostAptOptions(): Promise<string[]> {
  const { stdout } = await run('/usr/bin/apt-config', ['dump', '--format', '%f "%v";%n']);
  return stdout.split('\n').filter((line) => /^Acquire::https?::\S* ".+";$/.test(line)).map((line) => line.slice(0, -1));
}
