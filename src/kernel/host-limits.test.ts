import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { raiseHostLimits, readHostLimits, restoreHostLimits } from './host-limits.ts';

/** A folder in place of /proc/sys: the host's own limits are not a test's to change. */
function sysctls(t: TestContext, values: Record<string, string>): { root: string; runDir: string; read: (name: string) => string } {
  const folder = mkdtempSync(join(tmpdir(), 'veld-sysctl-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = (name: string): string => join(folder, 'sys', ...name.split('.'));
  for (const [name, value] of Object.entries(values)) {
    mkdirSync(dirname(file(name)), { recursive: true });
    writeFileSync(file(name), `${value}\n`);
  }
  return { root: join(folder, 'sys'), runDir: join(folder, 'run'), read: (name) => readFileSync(file(name), 'utf8').trim() };
}

test('too low is raised and remembered, high enough is left alone, absent is passed over', (t) => {
  const { root, runDir, read } = sysctls(t, { 'fs.inotify.max_user_instances': '128', 'kernel.pid_max': '4194304', 'vm.max_map_count': '9999999' });
  const result = raiseHostLimits(runDir, 100, root);
  assert.deepEqual(result, { raised: [{ name: 'fs.inotify.max_user_instances', from: 128, to: 6400 }], refused: [] });
  assert.equal(read('vm.max_map_count'), '9999999', 'never lowered');
  assert.deepEqual(JSON.parse(readFileSync(join(runDir, 'host-limits.json'), 'utf8')), { 'fs.inotify.max_user_instances': 128 });
  assert.deepEqual(raiseHostLimits(runDir, 100, root).raised, [], 'a second start changes nothing');
  raiseHostLimits(runDir, 200, root);
  assert.deepEqual(JSON.parse(readFileSync(join(runDir, 'host-limits.json'), 'utf8')), { 'fs.inotify.max_user_instances': 128 }, 'the first value counts');
  assert.deepEqual(restoreHostLimits(runDir, 200, root), ['fs.inotify.max_user_instances']);
  assert.equal(read('fs.inotify.max_user_instances'), '128');
});

test('a value that somebody changed meanwhile is not put back', (t) => {
  const { root, runDir, read } = sysctls(t, { 'fs.inotify.max_user_instances': '128' });
  raiseHostLimits(runDir, 100, root);
  writeFileSync(join(root, 'fs/inotify/max_user_instances'), '7000');
  assert.deepEqual(restoreHostLimits(runDir, 100, root), []);
  assert.equal(read('fs.inotify.max_user_instances'), '7000');
});

test('what cannot be raised is reported with its consequence', (t) => {
  const { root, runDir } = sysctls(t, { 'kernel.dummy': '' });
  mkdirSync(join(root, 'kernel/pty'));
  symlinkSync('/proc/sys/kernel/pty/nr', join(root, 'kernel/pty/max')); // a number that the kernel lets nobody write, root included
  const { raised, refused } = raiseHostLimits(runDir, 10_000, root);
  assert.deepEqual(raised, []);
  assert.deepEqual(refused.map(({ name, reason }) => [name, reason]), [['kernel.pty.max', 'EACCES']]);
  assert.match(refused[0]?.consequence ?? '', /terminal/);
});

test('the limits of this host can be read', () => {
  const real = readHostLimits();
  assert.ok(real.find((limit) => limit.name === 'kernel.pid_max')?.value);
  assert.equal(new Set(real.map((limit) => limit.name)).size, real.length);
});
