/** Beancounters by the manager of groups, on the real kernel: what a VE's groups count, and limits of sockets laid on with the others. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { findHierarchies } from '../../kernel/cgroup.ts';
import { resolveProperties } from '../../spec/properties.ts';
import type { Beancounter } from '../../spec/beancounters/table.ts';
import { createResources } from '../resources.ts';

const { unified } = findHierarchies();
const program = (name: string): boolean => spawnSync(name, ['--version']).status === 0;
const skip = process.getuid?.() !== 0 || unified === undefined || !program('bpftool') || !program('clang') ? 'needs root, cgroup2, clang and bpftool' : false;
const runDir = mkdtempSync(join(tmpdir(), 'veld-ubc-'));
const instance = 'utest';
const resources = createResources({ instance, runDir });
after(async () => {
  if (!skip) {
    for (const number of resources.list()) await resources.remove(number);
    await resources.teardown();
    assert.equal(existsSync(`${unified}/veld-${instance}`), false);
  }
  assert.deepEqual(readdirSync(runDir), []);
  rmdirSync(runDir);
});

const row = (number: number, name: string): Beancounter => resources.beancounters(number, {}).find((one) => one.name === name)!;
const limit = (count: number): { barrier: number; limit: number } => ({ barrier: count, limit: count });

/** Make sockets in the VE's groups until one is refused. @returns how many there were */
function fill(number: number): number {
  const { stdout, stderr } = spawnSync('sh', ['-c', 'for group; do echo 0 >"$group/cgroup.procs"; done; exec python3 -', 'sh', ...resources.execGroups(number)], {
    encoding: 'utf8', input: 'import socket\na = []\ntry:\n  while len(a) < 50: a.append(socket.socket())\nexcept OSError: pass\nprint(len(a))',
  });
  assert.equal(stderr, '');
  return Number(stdout);
}

test('without programs a VE is made all the same, its sockets not counted, and a limit of them is refused', { skip }, () => {
  resources.setup();
  assert.match(resources.support()['ubc.numtcpsock'] as string, /not been loaded/);
  resources.create(1, 100_000, resolveProperties({}));
  assert.deepEqual([row(1, 'numtcpsock').counted, row(1, 'numtcpsock').enforced], [null, null]);
  assert.equal(row(1, 'numproc').counted, 'pids.current');
  for (const name of ['ubc.numtcpsock', 'ubc.numothersock', 'ubc.numfile', 'ubc.numflock']) {
    assert.throws(() => resources.apply(1, resolveProperties({ [name]: limit(5) })), { code: 'property.unsupported', message: /not been loaded/ });
    assert.throws(() => resources.check(resolveProperties({ [name]: limit(5) })), { code: 'property.unsupported', message: new RegExp(`^${name} .*not been loaded`) });
  }
  resources.check(resolveProperties({}));
});

test('limits come with the groups, hold in groups below, change live, wait for a restore, and go', { skip }, async () => {
  await resources.loadPrograms();
  assert.deepEqual([resources.support()['ubc.numtcpsock'], resources.support()['ubc.numothersock']], [true, true]);
  resources.create(2, 100_000, resolveProperties({ 'ubc.numtcpsock': limit(4), 'pids.limit': 30 }));
  assert.equal(fill(2), 4);
  const held = row(2, 'numtcpsock');
  assert.deepEqual([held.held, held.maxheld, held.barrier, held.limit, held.failcnt, held.enforced], [0, 4, 4, 4, 1, 'BPF programs at the group']);
  const procs = row(2, 'numproc');
  assert.deepEqual([procs.limit, procs.enforced, procs.held], [30, 'pids.max', 0]);
  assert.ok(procs.maxheld > 0);
  resources.apply(2, resolveProperties({ 'ubc.numtcpsock': limit(9) }));
  assert.equal(fill(2), 9);
  resources.create(2, 100_000, resolveProperties({ 'ubc.numtcpsock': limit(9) }), true);
  assert.equal(fill(2), 50);
  resources.create(2, 100_000, resolveProperties({ 'ubc.numtcpsock': limit(9) }));
  assert.equal(fill(2), 9);
  resources.apply(2, resolveProperties({}));
  assert.deepEqual([fill(2), row(2, 'numtcpsock').limit], [50, null]);
  // A VE that an earlier daemon began without them is counted from now on.
  resources.apply(1, resolveProperties({ 'ubc.numtcpsock': limit(3) }));
  assert.equal(fill(1), 3);
  await resources.remove(1);
  await resources.remove(2);
  resources.create(2, 100_000, resolveProperties({}));
  assert.deepEqual([row(2, 'numtcpsock').maxheld, row(2, 'numtcpsock').limit], [0, null], 'groups made anew begin with nothing');
});
