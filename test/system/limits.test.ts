/** Limits of a VE: each is filled from inside, refused as the kernel refuses it, and raised while the VE runs; its neighbour notices nothing. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { limitFills } from '../lib/limits/fills.ts';
import { groundHere } from '../lib/limits/here.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
await veld.createRunning('web');
await veld.createRunning('neighbour');
await Promise.all(['web', 'neighbour'].map((ve) => veld.booted(ve)));
const was = await veld.show('neighbour');
const cpus = readFileSync('/sys/devices/system/cpu/online', 'utf8').trim();
const two = { skip: cpus === '0' && 'this host has one CPU' };

async function sh(script: string, ve = 'web'): Promise<string> {
  const { stdout, stderr } = await veld.exec(ve, 'sh', '-c', script);
  return `${stdout}${stderr}`.trim();
}

const ground = groundHere(veld, 'web', 'neighbour');
const control = (...files: string[]): Promise<string> => ground.control('web', ...files);

const set = async (...words: string[]): Promise<void> => {
  const { code, stderr } = await veld.cli('set', 'web', ...words);
  assert.equal(code, 0, stderr);
};
const refused = async (says: RegExp, ...words: string[]): Promise<void> => {
  const { code, stderr } = await veld.cli('set', 'web', ...words);
  assert.notEqual(code, 0, words.join(' '));
  assert.match(stderr, says);
};

test('CPUs: a VE sees so many, and not others; it changes while it runs', two, async () => {
  const seen = (): Promise<string> => sh('nproc; grep -c ^processor /proc/cpuinfo; grep -c "^cpu[0-9]" /proc/stat');
  const all = await seen();
  await set('cpu.count=1');
  assert.equal(await seen(), '1\n1\n1');
  const [one] = (await sh('grep Cpus_allowed_list /proc/self/status')).split(/\s+/).slice(-1);
  await set('cpu.count=1', 'description=again');
  assert.equal(await sh('grep Cpus_allowed_list /proc/1/status | cut -f2'), one, 'it stays where it is');
  await set('--unset', 'cpu.count');
  assert.equal(await seen(), all);
  await set('cpu.mask=1');
  assert.equal(await sh('grep Cpus_allowed_list /proc/1/status | cut -f2'), '1');
  await refused(/2 CPUs are more than cpu\.mask and cpu\.nodes leave it: 1 \(1\)/, 'cpu.count=2');
  await refused(/no CPU 4095 for VEs/, 'cpu.mask=4095');
  await refused(/no NUMA node 77/, 'cpu.nodes=77');
  assert.equal(await sh('nproc'), '1', 'a refused change changes nothing');
  await set('--unset', 'cpu.mask');
  assert.equal(await seen(), all);
});

test('CPUs: VEs that see one are spread over all', two, async () => {
  await set('cpu.count=1');
  const { code, stderr } = await veld.cli('set', 'neighbour', 'cpu.count=1');
  assert.equal(code, 0, stderr);
  const where = (ve: string): Promise<string> => sh('grep Cpus_allowed_list /proc/1/status | cut -f2', ve);
  assert.notEqual(await where('web'), await where('neighbour'));
  for (const ve of ['web', 'neighbour']) await veld.cli('set', ve, '--unset', 'cpu.count');
});

test('CPU time: a burst is within the limit', async () => {
  await refused(/cpu\.burst needs a cpu\.limit/, 'cpu.burst=10%');
  await set('cpu.limit=20%', 'cpu.burst=10%');
  await refused(/cpu\.burst \(21%\) is more than cpu\.limit \(20%\)/, 'cpu.burst=21%');
  await refused(/more than cpu\.limit \(5%\)/, 'cpu.limit=5%');
  assert.match(await control('cpu.cfs_quota_us', 'cpu.max'), /^20000( 100000)?$/);
  await set('--unset', 'cpu.limit', '--unset', 'cpu.burst');
});

limitFills(ground);

test('of the running VE alone, and of its record alone', async () => {
  const limit = (): Promise<string> => control('pids.max');
  await set('pids.limit=700');
  await set('--live-only', 'pids.limit=300');
  assert.deepEqual([await limit(), (await veld.show('web')).properties['pids.limit']], ['300', 700]);
  await set('--config-only', 'pids.limit=800');
  assert.deepEqual([await limit(), (await veld.show('web')).properties['pids.limit']], ['300', 800]);
  await set('cpu.weight=150');
  assert.equal(await limit(), '300', 'another limit leaves it alone');
  await refused(/description cannot change in the running VE alone/, '--live-only', 'description=x');
  await refused(/contradict/, '--live-only', '--config-only', 'pids.limit=5');
  await veld.api.operate('POST', '/v1/ves/web/restart', {});
  await veld.booted('web');
  assert.equal(await limit(), '800', 'a start takes the record');
});

test('limits are what the record says after a restore, and after the daemon was killed', { timeout: 200_000 }, async () => {
  const all = (): Promise<string[]> => Promise.all([control('pids.max'), control('cpu.shares', 'cpu.weight'), control('cpu.cfs_quota_us', 'cpu.max'), control('cpu.cfs_burst_us', 'cpu.max.burst'), control('memory.limit_in_bytes', 'memory.max'), control('cpuset.cpus')]);
  await set('cpu.limit=150%', 'cpu.burst=25%', 'cpu.mask=0', 'pids.limit=555', 'cpu.weight=300');
  const before = await all();
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  await veld.api.operate('POST', '/v1/ves/web/resume');
  assert.deepEqual(await all(), before);
  await set('--live-only', 'pids.limit=400');
  await veld.kill9();
  await veld.start();
  await until('limits of the record', async () => await control('pids.max') === '555');
  assert.deepEqual(await all(), before);
});

test('a VE whose limits this host cannot hold is not made', async () => {
  const { code, stderr } = await veld.cli('create', 'big', '-t', 'test', '--set', 'cpu.count=4000');
  assert.notEqual(code, 0);
  assert.match(stderr, /4000 CPUs are more than this host has/);
  assert.ok(!(await veld.list()).some((ve) => JSON.stringify(ve).includes('"big"')));
});

test('the neighbour has noticed nothing', async () => {
  const now = await veld.show('neighbour');
  assert.deepEqual([now.status, now.pid], [was.status, was.pid]);
  assert.equal(await sh('systemctl is-system-running', 'neighbour'), 'running');
});
