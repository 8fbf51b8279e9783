/**
 * The disk with Veld's state (label `state`, at /var/lib/veld) that machines get beside their image: engine, lxcfs and a template of the machine's own
 * release. Built here by Veld's builders, because these take ten times as long inside. `./quickstart` finds them, as on its second run.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { findHierarchies } from '../../src/kernel/cgroup.ts';
import { cached, must, sourceTexts } from './build.ts';
import { makeDisk } from './image.ts';
import type { Suite } from './image.ts';

/** Where the state is in machines, and while it is built: an engine knows its own path. */
const STATE = '/var/lib/veld';
/** Bytes of the disk; the file is sparse. */
const SIZE = 6 * 2 ** 30;

/** The disk for a release, from the cache. */
export async function stateDisk(suite: Suite): Promise<string> {
  const sources = sourceTexts(['src/templates', /\.ts$/], ['src/kernel', /^mmdebstrap\.ts$/], ['src/store', /^migrations\.ts$/], ['test/vm', /^(state-builder|state)\.ts$/]);
  const engines = await engineState();
  const folder = await cached(`state-${suite}`, [suite, engines, ...sources], (target) => {
    const state = join(target, 'state');
    must('/usr/bin/cp', ['-a', '--', engines, state]);
    build(`template:${suite}`, state);
    for (const name of ['cache', 'daemon.lock']) rmSync(join(state, name), { recursive: true, force: true });
    makeDisk(join(target, 'state.img'), SIZE, state, 'state');
    rmSync(state, { recursive: true, force: true });
    return Promise.resolve();
  });
  return join(folder, 'state.img');
}

/** A state folder with engine and lxcfs, the same for all releases, from the cache. */
async function engineState(): Promise<string> {
  const sources = sourceTexts(['src/kernel', /^(engine|engine-build|engine-keys|mmdebstrap|lxcfs-build)\.ts$/], ['test/vm', /^(state-builder|state)\.ts$/]);
  const folder = await cached('engine', sources, (target) => {
    const state = join(target, 'state');
    mkdirSync(state, { mode: 0o700 });
    for (const what of ['engine', 'lxcfs']) build(what, state);
    return Promise.resolve();
  });
  return join(folder, 'state');
}

/** Run a step of state-builder.ts where the folder is at STATE. */
function build(what: string, folder: string): void {
  const { unified, v1 } = findHierarchies();
  const cover = what === 'lxcfs' && Object.keys(v1).length > 0 ? unified : '';
  const script = 'mount --bind "$1" "$2"; [ -z "$3" ] || mount --bind "$3" /sys/fs/cgroup; exec "$4" --disable-warning=ExperimentalWarning "$5" "$6" "$2"';
  const made = !existsSync(STATE);
  if (made) mkdirSync(STATE, { mode: 0o700 });
  try {
    must('/usr/bin/unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-ec', script, 'sh',
      folder, STATE, cover ?? '', process.execPath, join(import.meta.dirname, 'state-builder.ts'), what], { env: { ...process.env, NODE_TEST_CONTEXT: undefined } });
  } finally {
    // Only a mount point, and in nobody else's namespace.
    if (made && readdirSync(STATE).length === 0) rmdirSync(STATE);
  }
}
