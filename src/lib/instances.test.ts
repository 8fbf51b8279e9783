import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { claimInstance, poolsOverlap, type Claim } from './instances.ts';

test('pools overlap when one holds the other', () => {
  assert.equal(poolsOverlap('10.0.0.0/8', '10.1.0.0/16'), true);
  assert.equal(poolsOverlap('10.1.0.0/16', '10.0.0.0/8'), true);
  assert.equal(poolsOverlap('10.1.0.0/16', '10.2.0.0/16'), false);
  assert.equal(poolsOverlap('fd00::/8', 'fd5e:1d00:187::/64'), true);
  assert.equal(poolsOverlap('fd00::/8', '10.0.0.0/8'), false);
});

test('a living installation keeps its name, folders, pools and uids; a dead one nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-instances-'));
  const claim = (instance: string, change: Partial<Claim> = {}): Claim =>
    ({ instance, stateDir: `/s/${instance}`, runDir: `/r/${instance}`, pools: [`10.${instance.length}.0.0/16`], ...change });
  const first = claim('a', { uids: { base: 1000, count: 100 } });
  const script = `const { claimInstance } = await import(${JSON.stringify(new URL('./instances.ts', import.meta.url).href)});
    await claimInstance(${JSON.stringify(first)}, ${JSON.stringify(folder)}); console.log('claimed'); setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(holder.stdout, 'data');
    const refused = (change: Claim, code: string, message: RegExp): Promise<void> => assert.rejects(claimInstance(change, folder), { code, message });
    await refused(claim('a'), 'daemon.running', /instance a/);
    await refused(claim('bb', { stateDir: '/s/a' }), 'daemon.instance_overlap', /\/s\/a/);
    await refused(claim('bb', { pools: ['10.2.0.0/16', '10.1.128.0/24'] }), 'daemon.instance_overlap', /10\.1\.0\.0\/16/);
    await refused(claim('bb', { uids: { base: 1099, count: 10 } }), 'daemon.instance_overlap', /1099/);
    (await claimInstance(claim('bb', { uids: { base: 1100, count: 10 } }), folder))();
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    (await claimInstance(claim('bb', { stateDir: '/s/a' }), folder))();
    (await claimInstance(claim('a'), folder))();
  } finally {
    holder.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  }
});
