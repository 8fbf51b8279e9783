import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { currentLxcfs, lxcfsSuite } from './lxcfs-build.ts';
import { lxcfsFolder, lxcfsPath, lxcfsStatus, startLxcfs, stopLxcfs } from './lxcfs.ts';
import { findHierarchies, makeGroup, removeGroup, writeControl } from './cgroup.ts';
import { isAlive, readProcess } from './process.ts';

test('Debian 12\'s lxcfs on v1 and hybrid hosts, the engine\'s suite on v2', () => {
  assert.deepEqual((['v1', 'hybrid', 'v2'] as const).map((mode) => lxcfsSuite(mode, 'testing')), ['bookworm', 'bookworm', 'testing']);
});

test('without an lxcfs nothing is started, and nothing breaks', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-lxcfs-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const where = { stateDir: folder, runDir: folder };
  assert.equal((await lxcfsStatus(where)).state, 'absent');
  assert.equal((await startLxcfs({ ...where, instance: 'tlxc' })).state, 'absent');
  assert.equal(lxcfsFolder(folder), null);
  await stopLxcfs(folder);
});

/** Any lxcfs that an installation on this machine has built. */
function someLxcfs(): string | undefined {
  const states = readdirSync('/var/lib').filter((name) => /^veld(-|$)/.test(name)).map((name) => join('/var/lib', name));
  return states.find((state) => currentLxcfs(state) !== undefined);
}

const state = process.getuid?.() === 0 ? someLxcfs() : undefined;

test('a limit shows in meminfo; lxcfs is found again, ends wholly, and is replaced when it died', { skip: state === undefined && 'no lxcfs was built on this machine' }, async (t) => {
  const runDir = mkdtempSync(join(tmpdir(), 'veld-lxcfs-'));
  const hierarchies = findHierarchies();
  const memory = hierarchies.v1.memory ?? hierarchies.unified;
  const group = join(memory as string, `veld-tlxcfs-${process.pid}`);
  t.after(async () => {
    await stopLxcfs(runDir);
    await removeGroup(group).catch(() => {});
    rmSync(runDir, { recursive: true });
  });
  const options = { stateDir: state as string, runDir, instance: 'tlxc' };
  const started = await startLxcfs(options);
  assert.equal(started.state, 'running');
  assert.deepEqual(await startLxcfs(options), started, 'a second start finds the first');
  assert.equal(lxcfsFolder(runDir), lxcfsPath(runDir));
  makeGroup(group);
  writeControl(group, hierarchies.v1.memory ? 'memory.limit_in_bytes' : 'memory.max', 128 << 20);
  const read = spawnSync('/bin/sh', ['-c', 'echo 0 >"$1/cgroup.procs"; exec head -1 "$2/proc/meminfo"', 'sh', group, lxcfsPath(runDir)], { encoding: 'utf8' });
  assert.match(read.stdout, /^MemTotal: +131072 kB/, read.stderr);

  const first = readProcess(started.pid as number);
  assert.ok(first);
  process.kill(first.pid, 'SIGKILL');
  while (isAlive(first)) await new Promise((resolve) => { setTimeout(resolve, 10); });
  assert.equal((await lxcfsStatus(options)).state, 'stopped');
  assert.equal(lxcfsFolder(runDir), null);
  const second = await startLxcfs(options);
  assert.equal(second.state, 'running');
  assert.notEqual(second.pid, first.pid);
  await stopLxcfs(runDir);
  assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(runDir));
  assert.ok(!existsSync(join(runDir, 'lxcfs.json')));
});

test('an lxcfs that cannot run is reported with its words, and leaves nothing', { skip: state === undefined && 'no lxcfs was built on this machine' }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-lxcfs-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const root = currentLxcfs(state as string);
  assert.ok(root);
  const copy = join(folder, 'lxcfs', root.fingerprint);
  mkdirSync(join(copy, 'bin'), { recursive: true });
  symlinkSync(root.fingerprint, join(folder, 'lxcfs/current'));
  cpSync(join(root.dir, 'manifest.json'), join(copy, 'manifest.json'));
  cpSync('/bin/false', join(copy, 'bin/lxcfs'));
  await assert.rejects(startLxcfs({ stateDir: folder, runDir: folder, instance: 'tlxc' }), /did not start: it ended with status 1/);
  assert.equal((await lxcfsStatus({ stateDir: folder, runDir: folder })).state, 'stopped');
});
