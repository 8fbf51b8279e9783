import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { test } from 'node:test';
import { findHierarchies, freezeGroup, groupPids, killGroup, makeGroup, readKey, removeGroup, thawGroup, waitForEvent, writeControl } from './cgroup.ts';

const HYBRID = `31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
33 31 0:30 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,release_agent=/lib/systemd/systemd-cgroups-agent,name=systemd
34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:32 /part /other\\040place rw - cgroup cgroup rw,memory
`;

test('hierarchies of a hybrid host, with co-mounted controllers', () => {
  const devices = new Map(HYBRID.split('\n').filter(Boolean).map((line) => [line.split(' ')[4] as string, line.split(' ')[2] as string]));
  const found = findHierarchies(HYBRID, (path) => devices.get(path));
  assert.deepEqual(found, {
    mode: 'hybrid',
    unified: '/sys/fs/cgroup/unified',
    v1: {
      'name=systemd': '/sys/fs/cgroup/systemd', cpu: '/sys/fs/cgroup/cpu,cpuacct', cpuacct: '/sys/fs/cgroup/cpu,cpuacct', memory: '/sys/fs/cgroup/memory',
    },
  });
});

test('a hidden mount does not count; a named hierarchy alone makes no hybrid', () => {
  assert.equal(findHierarchies('31 23 0:28 / /sys/fs/cgroup rw - cgroup2 none rw', () => '0:99').mode, 'v1');
  const v2 = findHierarchies('31 23 0:28 / /sys/fs/cgroup rw - cgroup2 none rw\n32 31 0:30 / /old rw - cgroup none rw,name=systemd',
    (path) => (path === '/old' ? '0:30' : '0:28'));
  assert.equal(v2.mode, 'v2');
});

const { unified } = findHierarchies();
const real = { skip: process.getuid?.() !== 0 || unified === undefined };

/** A group of this test's own, gone afterwards. */
async function withGroup(work: (group: string) => Promise<void>): Promise<void> {
  const group = `${unified}/veld-cgtest-${process.pid}`;
  makeGroup(group);
  try {
    await work(group);
  } finally {
    if (existsSync(group)) await killGroup(group);
    await removeGroup(group);
  }
}

test('freeze, thaw and kill a tree of processes, waiting for each', real, async () => {
  await withGroup(async (group) => {
    makeGroup(`${group}/inner`);
    const child = spawn('/bin/sh', ['-c', 'echo 0 > "$1/cgroup.procs"; sleep 60 & echo 0 > "$1/inner/cgroup.procs"; echo; exec sleep 60', 'sh', group]);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    assert.equal(groupPids(group).length, 2);
    const began = performance.now();
    await freezeGroup(group);
    assert.equal(readKey(group, 'cgroup.events', 'frozen'), 1);
    await thawGroup(group);
    assert.equal(readKey(group, 'cgroup.events', 'frozen'), 0);
    assert.ok(performance.now() - began < 1000);
    await freezeGroup(group); // cgroup.kill must reach frozen ones as well
    const exit = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    await killGroup(group);
    assert.equal(await exit, 'SIGKILL');
    assert.deepEqual(groupPids(group), []);
  });
});

test('an event that does not come ends the wait', real, async () => {
  await withGroup(async (group) => {
    assert.equal(await waitForEvent(group, 'populated', 1, 30), false);
  });
});

test('removal reaches groups deeper than a path can say', real, async () => {
  await withGroup(async (group) => {
    const name = 'n'.repeat(250);
    const before = process.cwd();
    try {
      process.chdir(group);
      for (let depth = 0; depth < 20; depth += 1) { // 20 * 251 bytes > PATH_MAX
        mkdirSync(name);
        process.chdir(name);
      }
    } finally {
      process.chdir(before);
    }
    await removeGroup(group);
    assert.equal(existsSync(group), false);
  });
});

test('removal of a group with a process names it, in bounded time', real, async () => {
  await withGroup(async (group) => {
    const child = spawn('/bin/sleep', ['60']);
    writeControl(group, 'cgroup.procs', child.pid as number);
    await assert.rejects(removeGroup(group, 50), new RegExp(`${child.pid} \\(sleep\\)`));
  });
});
