import { test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { criuSelfTest } from './criu-selftest.ts';
import { currentEngine } from './engine.ts';
import type { Engine } from './engine.ts';
import { findHierarchies } from './cgroup.ts';

/** Any engine that an installation on this machine has built. */
function someEngine(): Engine | undefined {
  for (const name of readdirSync('/var/lib').filter((entry) => /^veld(-|$)/.test(entry))) {
    try {
      return currentEngine(join('/var/lib', name));
    } catch { /* none here */ }
  }
  return undefined;
}

const engine = process.getuid?.() === 0 ? someEngine() : undefined;
const needsEngine = { skip: engine === undefined && 'no engine was built on this machine' };

function assertNothingLeft(folder: string): void {
  assert.ok(!existsSync(folder));
  const { unified, v1 } = findHierarchies();
  for (const mount of [unified as string, ...Object.values(v1)]) assert.ok(!existsSync(join(mount, `veld-selftest-${process.pid}`)), mount);
  assert.ok(!readFileSync('/proc/self/mounts', 'utf8').includes('veld-selftest'));
}

test('a working engine passes, whatever the modes of the folders above', needsEngine, async (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'veld-selftest-')); // 0700
  t.after(() => rmSync(parent, { recursive: true }));
  await criuSelfTest(engine as Engine, join(parent, 'test'));
  assertNothingLeft(join(parent, 'test'));
});

test('an engine whose crun or criu does not work is named, and nothing is left', needsEngine, async (t) => {
  const parent = mkdtempSync(join(tmpdir(), 'veld-selftest-'));
  t.after(() => rmSync(parent, { recursive: true }));
  const folder = join(parent, 'test');
  await assert.rejects(criuSelfTest({ ...(engine as Engine), crun: '/bin/false' }, folder), /self-test failed while starting processes/);
  assertNothingLeft(folder);
  await assert.rejects(criuSelfTest({ ...(engine as Engine), criu: '/bin/false' }, folder), /self-test failed while dumping/);
  assertNothingLeft(folder);
  // Says that it dumped, and did nothing.
  await assert.rejects(criuSelfTest({ ...(engine as Engine), criu: '/bin/true' }, folder), /end of the dumped processes/);
  assertNothingLeft(folder);
});
