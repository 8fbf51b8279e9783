/** Debian 12 booted as its predecessors were: controllers on cgroup v1, cgroup2 beside them. What differs from the other hosts, and no more. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../lib/wait.ts';
import { PATIENCE, bootHost, quickstart } from './host.ts';
import { removalTest } from './host-suite.ts';
import { rebootTests } from './power-suite.ts';

const host = await bootHost({ suite: 'bookworm', hybrid: true, append: 'systemd.unified_cgroup_hierarchy=0' });
const { machine } = host;

test('the machine has its controllers on v1', async () => {
  assert.equal(await machine.ask('stat -fc %T /sys/fs/cgroup /sys/fs/cgroup/memory /sys/fs/cgroup/unified'), 'tmpfs\ncgroupfs\ncgroup2fs');
});

test('quickstart ends with a running VE', async () => {
  assert.match(await quickstart(host), /\[100 %\] Done/);
  assert.equal(await machine.ask('systemctl is-active veldd'), 'active');
  assert.deepEqual((await host.doctor()).filter(({ status }) => status === 'fail'), []);
  assert.match((await host.doctor()).find(({ id }) => id.includes('cgroup'))?.message ?? '', /v1|hybrid/);
});

test('commands run in it', async () => {
  assert.equal(await host.veld('exec demo -- systemctl is-system-running'), 'running');
  assert.equal((await machine.run('echo through | veld exec demo -- cat')).stdout, 'through\n');
});

test('limits set while it runs are written to v1, seen inside, and bite', async () => {
  await host.set('demo', { 'memory.limit': '160M', 'memory.swap': '0', 'pids.limit': '80', 'cpu.limit': '20%' });
  const { number } = await host.show('demo');
  const control = (controller: string, file: string): Promise<string> => machine.ask(`cat /sys/fs/cgroup/${controller}/veld-main/${number}/${file}`);
  assert.equal(await control('memory', 'memory.limit_in_bytes'), String(160 * 2 ** 20));
  assert.equal(await control('pids', 'pids.max'), '80');
  assert.equal(await control('cpu', 'cpu.cfs_quota_us'), '20000');
  assert.match(await host.said('demo', 'cat', '/proc/meminfo'), new RegExp(`^MemTotal: +${160 * 1024} kB`, 'm'));
  const used = async (): Promise<number> => Number(await control('cpuacct', 'cpuacct.usage')) / 1e9;
  const before = await used();
  await host.exec('demo', 'timeout', '4', 'sh', '-c', 'while :; do :; done');
  assert.ok((await used()) - before < 2, 'the loop took more CPU than the limit allows');
  await host.set('demo', { 'cpu.limit': null });
  assert.equal(await control('cpu', 'cpu.cfs_quota_us'), '-1');
  assert.notEqual((await host.exec('demo', 'perl', '-e', '$x = "x" x (400 << 20)')).exitCode, 0);
  assert.match((await host.exec('demo', 'sh', '-c', 'for i in $(seq 100); do sleep 60 & done; wait')).stderr, /fork/i);
  await host.set('demo', { 'memory.limit': null, 'memory.swap': null, 'pids.limit': null });
  await host.exec('demo', 'pkill', 'sleep');
});

test('reboot inside', async () => {
  const demo = await host.show('demo');
  const old = await host.init(demo);
  await host.exec('demo', 'systemctl', 'reboot').catch(() => {});
  await until('a new init', async () => !['', old].includes(await host.init(demo)), PATIENCE, 250);
  await host.booted('demo');
});

test('systemd takes nothing from VEs, and a restart of the daemon neither', async () => {
  await host.set('demo', { 'memory.limit': '300M' });
  const { number } = await host.show('demo');
  const state = (): Promise<string> => machine.ask(`cat /sys/fs/cgroup/memory/veld-main/${number}/memory.limit_in_bytes /run/veld/ves/${number}/init`);
  const as = await state();
  for (const command of ['daemon-reload', 'daemon-reexec', 'restart veld-main-ves', 'restart veldd']) {
    await machine.run(`systemctl ${command}`);
    assert.equal(await state(), as, command);
  }
  await host.set('demo', { 'memory.limit': null });
});

// It takes four minutes, and little of it is another on v1.
if (process.env.VELD_TEST_FULL !== undefined) rebootTests(host);
removalTest(host);
