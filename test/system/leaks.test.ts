/**
 * The last test of a run: many lives of VEs leave nothing behind, neither on the host nor in the daemon; and when an instance is
 * removed, nothing that carries its name is left.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { TEMPLATE } from '../lib/cache.ts';
import { fileInstance, startInstance } from '../lib/instance.ts';
import { traceLines, tracesOf } from '../lib/leftovers.ts';
import { FOLDER_PREFIX, instanceNames } from '../lib/names.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';

const ROUNDS = process.env.VELD_TEST_FULL === undefined ? 5 : 50;

const veld = await fileInstance();

/** What one life is: everything that makes and removes something on the host. */
async function live(name: string): Promise<void> {
  await veld.api.operate('POST', '/v1/ves', { name, template: TEMPLATE });
  await veld.api.operate('POST', `/v1/ves/${name}/start`);
  assert.equal((await veld.exec(name, 'true')).exitCode, 0);
  await veld.api.operate('POST', `/v1/ves/${name}/stop`, { timeout: 20 });
  await veld.api.operate('DELETE', `/v1/ves/${name}`);
}

/** How many descriptors the daemon has open. */
function descriptors(): number {
  return readdirSync(`/proc/${veld.pid}/fd`).length;
}

/** In the host's table, below the instance's folder: others may be at work beside it. */
function mounts(): number {
  return readFileSync('/proc/self/mounts', 'utf8').split('\n').filter((line) => line.includes(`${veld.dir}/`)).length;
}

test(`${ROUNDS} rounds of create, start, stop, destroy leave nothing`, async (t) => {
  await live('warm-up'); // what is made once and kept; and what the first minute makes
  mkdirSync(join(veld.settings.stateDir, 'traffic'), { recursive: true, mode: 0o700 });
  const host = veld.traces();
  const mounted = mounts();
  const files = filesOf(veld.settings.stateDir, veld.settings.runDir);
  const open = descriptors();
  const memory = residentOf(veld.pid);
  for (let round = 0; round < ROUNDS; round++) await live(`round-${round}`);
  assertSame(veld.traces(), host, 'the host');
  assert.ok(mounts() <= mounted);
  assertSame(filesOf(veld.settings.stateDir, veld.settings.runDir), files, 'files of the daemon');
  await until('descriptors of the daemon to be as before', () => descriptors() <= open, 5000);
  const grown = residentOf(veld.pid) - memory;
  t.diagnostic(`the daemon grew by ${(grown / 1024).toFixed(1)} MiB in ${ROUNDS} rounds`);
  assert.ok(grown < 40 * 1024, `the daemon grew by ${grown} KiB in ${ROUNDS} rounds`);
});

test('VEs side by side', async () => {
  const host = veld.traces();
  const names = ['one', 'two', 'three', 'four'];
  await Promise.all(names.map((name) => veld.createRunning(name)));
  await Promise.all(names.map((name) => veld.booted(name)));
  const ves = await veld.list();
  assert.equal(new Set(ves.flatMap((ve) => ve.addresses)).size, 8, 'addresses are their own');
  assert.equal(new Set(ves.map((ve) => ve.uidBase)).size, 4, 'uids are their own');
  await Promise.all(names.map((name) => veld.api.operate('DELETE', `/v1/ves/${name}?force=true`)));
  assertSame(veld.traces(), host, 'the host');
});

test('an instance that is removed leaves nothing that carries its name', async () => {
  const short = await startInstance();
  await short.createRunning('remains');
  assert.notDeepEqual(short.traces(), []);
  assert.deepEqual(await short.destroy(), []);
  assert.deepEqual(traceLines(tracesOf(short.name)), []);
});

test('no other test of this run left an instance', () => {
  const mine = readFileSync(`${FOLDER_PREFIX}${veld.name}/owner`, 'utf8');
  const left = instanceNames().filter((name) => {
    if (name === veld.name) return false;
    try {
      return readFileSync(`${FOLDER_PREFIX}${name}/owner`, 'utf8') === mine;
    } catch {
      return false; // being made or removed just now by another run
    }
  });
  assert.deepEqual(left, []);
});

/** Files of the daemon that live longer than a request: everything but the store and its own log. */
function filesOf(...folders: string[]): string[] {
  return folders.flatMap((folder) => readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (!entry.isDirectory() || ['layers', 'lxcfs', 'engine'].includes(entry.name)) return [path];
    return [path, ...readdirSync(path).map((name) => `${path}/${name}`)];
  })).filter((path) => !/veld\.db(-wal|-shm)?$/.test(path));
}

/** Resident memory in KiB. */
function residentOf(pid: number | undefined): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}
