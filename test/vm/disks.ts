/**
 * The disks that machines get beside their image.
 *
 * - the program (label `veld`, at /opt/veld): what is committed, Node's packages, and the bundle, made anew for each run
 * - the state (label `state`, copied to /var/lib/veld by `prepareState`): engine, lxcfs and a template of the machine's own release, built here by
 *   Veld's builders, because these take ten times as long inside. `./quickstart` finds them, as on its second run.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { findHierarchies } from '../../src/kernel/cgroup.ts';
import { CACHE } from '../lib/cache.ts';
import { cached, sourceTexts } from './build.ts';
import { makeDisk } from './image.ts';
import type { Suite } from './image.ts';
import type { Machine } from './machine.ts';

const ROOT = join(import.meta.dirname, '../..');

/** Where Veld is in machines. */
export const PROGRAM = '/opt/veld';
/** Where its state is. */
const STATE = '/var/lib/veld';

/** Of node_modules, what the program does not need to run. */
const DEVELOPMENT = new Set(['oxlint', '@oxlint', 'oxlint-tsgolint', '@oxlint-tsgolint', 'typescript', '@typescript', '@types', 'fast-check', '.bin', '.cache']);

function must(file: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): string {
  const result = spawnSync(file, args, { encoding: 'utf8', maxBuffer: 1 << 30, ...options });
  if (result.status !== 0) throw new Error(`${file} ${args.join(' ')} ended with ${result.status ?? result.signal}: ${result.stderr.slice(-2000)}`);
  return result.stdout;
}

/**
 * Make the program's disk: HEAD as it is committed, or the working tree with VELD_TEST_VM_TREE=work.
 * @returns path of a raw image, removed when the file's tests are over
 */
export function programDisk(): string {
  mkdirSync(join(CACHE, 'vm'), { recursive: true, mode: 0o700 });
  const work = mkdtempSync(join(CACHE, 'vm', `.program-${process.pid}-`));
  after(() => rmSync(work, { recursive: true, force: true }));
  const tree = join(work, 'tree');
  mkdirSync(tree);
  if (process.env.VELD_TEST_VM_TREE === 'work') {
    for (const file of must('/usr/bin/git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: ROOT }).split('\0')) {
      if (file !== '' && existsSync(join(ROOT, file))) cpSync(join(ROOT, file), join(tree, file), { preserveTimestamps: true });
    }
  } else {
    must('/usr/bin/git', ['archive', '--output', join(work, 'tree.tar'), 'HEAD'], { cwd: ROOT });
    must('/usr/bin/tar', ['-C', tree, '-xf', join(work, 'tree.tar')]);
    rmSync(join(work, 'tree.tar'));
  }
  mkdirSync(join(tree, 'node_modules'));
  for (const name of readdirSync(join(ROOT, 'node_modules'))) {
    // Hard links do not reach across file systems, and a copy of 200 MB costs little more.
    if (!DEVELOPMENT.has(name)) must('/usr/bin/cp', ['-a', '--', join(ROOT, 'node_modules', name), join(tree, 'node_modules', name)]);
  }
  must(process.execPath, [join(tree, 'node_modules/rolldown/bin/cli.mjs'), '-c', 'rolldown.config.ts'], { cwd: tree });
  // Newer than the lockfile, whatever the order of copying was: nothing is to be installed inside.
  must('/usr/bin/touch', [join(tree, 'node_modules/.package-lock.json'), join(tree, 'dist/veld.cjs'), join(tree, 'dist/veldd.cjs')]);
  const disk = join(work, 'program.img');
  makeDisk(disk, 640 * 2 ** 20, tree, 'veld');
  rmSync(tree, { recursive: true, force: true });
  return disk;
}

/** The disk with a state folder for a release, from the cache. */
export async function stateDisk(suite: Suite): Promise<string> {
  const builder = sourceTexts(
    ['src/kernel', /^(engine|engine-build|engine-keys|mmdebstrap|lxcfs-build)\.ts$/], ['src/templates', /\.ts$/], ['src/store', /^migrations\.ts$/], ['test/vm', /^(state-builder|disks)\.ts$/],
  );
  const folder = await cached(`state-${suite}`, [suite, ...builder], (target) => {
    const state = join(target, 'state');
    mkdirSync(state, { mode: 0o700 });
    const made = !existsSync(STATE);
    if (made) mkdirSync(STATE, { mode: 0o700 });
    try {
      for (const what of ['engine', 'lxcfs', `template:${suite}`]) build(what, state);
    } finally {
      // Only a mount point, and in nobody else's namespace.
      if (made && readdirSync(STATE).length === 0) rmdirSync(STATE);
    }
    for (const name of ['cache', 'daemon.lock']) rmSync(join(state, name), { recursive: true, force: true });
    makeDisk(join(target, 'state.img'), 2 * 2 ** 30, state, 'state');
    rmSync(state, { recursive: true, force: true });
    return Promise.resolve();
  });
  return join(folder, 'state.img');
}

/** Run a step of state-builder.ts where the folder is at STATE. */
function build(what: string, folder: string): void {
  const { unified, v1 } = findHierarchies();
  const cover = what === 'lxcfs' && Object.keys(v1).length > 0 ? unified : '';
  const script = 'mount --bind "$1" "$2"; [ -z "$3" ] || mount --bind "$3" /sys/fs/cgroup; exec "$4" --disable-warning=ExperimentalWarning "$5" "$6" "$2"';
  must('/usr/bin/unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-ec', script, 'sh',
    folder, STATE, cover ?? '', process.execPath, join(import.meta.dirname, 'state-builder.ts'), what], { env: { ...process.env, NODE_TEST_CONTEXT: undefined } });
}

/** Copy the state into place, before quickstart. The disk is the third of the machine. */
export async function prepareState(machine: Machine): Promise<void> {
  await machine.run(`mkdir -p /mnt/state ${STATE} && chmod 700 ${STATE} && mount -o ro /dev/disk/by-label/state /mnt/state`
    + ` && cp -a /mnt/state/. ${STATE}/ && rm -rf ${STATE}/lost+found && umount /mnt/state && sync`, { timeout: 600_000 });
}
