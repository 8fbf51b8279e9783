/** Who is ended when all VEs together run out of memory (`memory.oom_guarantee`), and how that is told. The group above them is limited; with the host it would be the same. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Beancounters } from '../../src/spec/beancounters/table.ts';
import { cgroupsOf } from '../lib/leftovers.ts';
import { listen } from '../lib/events.ts';
import { fileInstance } from '../lib/instance.ts';
import { oomOrder, type OomBench } from '../lib/oom-order.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
for (const name of ['first', 'second']) await veld.createRunning(name);
for (const name of ['first', 'second']) await veld.booted(name);

/** The group of all VEs of this instance that has such a file. */
function groupWith(file: string): string | undefined {
  return cgroupsOf(veld.name).find((group) => group.endsWith(`/veld-${veld.name}`) && existsSync(join(group, file)));
}

const V1 = groupWith('memory.limit_in_bytes');
const scores = async (ve: string): Promise<number[]> => {
  const { number } = await veld.show(ve);
  const groups = cgroupsOf(veld.name).filter((group) => group.includes('/unified/') && `${group}/`.includes(`/${number}/`));
  return groups.flatMap((group) => readFileSync(join(group, 'cgroup.procs'), 'utf8').trim().split('\n').filter(Boolean)).flatMap((pid) => (existsSync(`/proc/${pid}/oom_score_adj`) ? [Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'))] : []));
};
const bench: OomBench = {
  exec: veld.exec, patience: 60_000, scores,
  beancounters: (ve) => veld.json<Beancounters>('beancounters', ve),
  set: async (ve, changes) => void await veld.api.operate('PATCH', `/v1/ves/${ve}/properties`, { changes }),
  limitAll: async (bytes) => writeFileSync(join(V1!, 'memory.limit_in_bytes'), String(bytes ?? -1)),
};

test('a VE within its guarantee loses nothing while another one has more than its own', { skip: V1 === undefined && 'the memory controller is not on cgroup v1: see the VM tier' }, async () => {
  const events = await listen(veld.api);
  try {
    await oomOrder(bench, 'first', 'second');
    const killed = await until('events of both', () => {
      const all = events.events.filter(({ type }) => type === 've.oom_killed');
      return ['first', 'second'].every((name) => all.some(({ data }) => data?.name === name)) ? all : undefined;
    }, 90_000);
    const { uuid } = await veld.show('second');
    const event = killed.find(({ data }) => data?.name === 'second')!;
    assert.equal(event.ve, uuid);
    const victims = event.data?.processes as { name: string; ranOut: string }[];
    // Empty where /dev/kmsg is closed to us.
    for (const { name, ranOut } of victims) assert.deepEqual([name, ranOut], ['perl', 'group']);
  } finally {
    events.close();
  }
});

test('beancounters tell what is guaranteed and used, and how many were ended', async () => {
  const row = async (): Promise<{ held: number; barrier: number | null; limit: number | null; failcnt: number; enforced: string | null }> =>
    (await veld.json<{ rows: ({ name: string } & Awaited<ReturnType<typeof row>>)[] }>('beancounters', 'second')).rows.find(({ name }) => name === 'oomguarpages')!;
  await bench.set('second', { 'memory.oom_guarantee': '300M' });
  const { held, barrier, limit, failcnt, enforced } = await row();
  assert.deepEqual([barrier, limit], [300 * 256, null]);
  assert.match(enforced!, /oom_score_adj/);
  assert.ok(held > 1000 && held < 300 * 256 && failcnt > 0, JSON.stringify({ held, failcnt }));
  await bench.set('second', { 'memory.oom_guarantee': 'unlimited' });
  assert.equal((await row()).barrier, null);
});

test('what processes of a VE set for themselves keeps its order within it; commands from outside, reboots and restores get their place', async () => {
  const own = async (ve: string, pid: string): Promise<number> => Number((await veld.exec(ve, 'cat', `/proc/${pid}/oom_score_adj`)).stdout);
  const start = async (score: number): Promise<string> => (await veld.exec('second', 'sh', '-c', `systemd-run --quiet --unit=own-${score} -p OOMScoreAdjust=${score} sleep 600; systemctl show -P MainPID own-${score}`)).stdout.trim();
  const [low, middle, high] = [await start(0), await start(300), await start(1000)];
  await bench.set('second', { 'memory.oom_guarantee': null });
  await bench.set('first', { 'memory.oom_guarantee': 'unlimited' });
  const pids = [low, middle, high];
  const order = async (...wanted: number[]): Promise<void> => {
    await until(`places ${wanted.join()}`, async () => JSON.stringify(await Promise.all(pids.map((pid) => own('second', pid)))) === JSON.stringify(wanted), 30_000);
  };
  await order(898, 929, 999);
  const { uuid } = await veld.show('second');
  await veld.api.operate('POST', '/v1/ves/second/suspend');
  await bench.set('second', { 'memory.oom_guarantee': 'unlimited' });
  await veld.api.operate('POST', '/v1/ves/second/resume');
  await order(0, 31, 101);
  assert.equal((await veld.show('second')).uuid, uuid);
  await bench.set('second', { 'memory.oom_guarantee': null });
  await order(898, 929, 999);
  await bench.set('first', { 'memory.oom_guarantee': null });
  await order(0, 300, 1000);
  await bench.set('first', { 'memory.oom_guarantee': 'unlimited' });
  await order(898, 929, 999);
  await veld.exec('second', 'systemctl', 'reboot');
  await until('it to boot anew', async () => (await veld.exec('second', 'systemctl', 'is-active', 'own-0').catch(() => ({ stdout: '' }))).stdout.trim() === 'inactive', 60_000);
  await veld.booted('second');
  await until('all to have their place', async () => (await scores('second')).every((score) => score >= 898), 30_000);
  // Where nobody has a guarantee any more all are as if there had never been one.
  await bench.set('first', { 'memory.oom_guarantee': null });
  await until('no order', async () => [...await scores('first'), ...await scores('second')].every((score) => score < 898), 30_000);
});

test('a VE that ends by it is told of, too, though its groups are gone a moment later', async () => {
  const events = await listen(veld.api);
  try {
    await veld.api.operate('POST', '/v1/ves', { name: 'app', template: 'test', properties: { 'memory.limit': '64M', 'memory.swap': '0', 'boot.command': ['sh', '-c', 'sleep 2; exec tail /dev/zero'] }, start: true });
    const { data } = await events.next('ve.oom_killed', 60_000);
    assert.deepEqual([data?.name, data?.count], ['app', 1]);
    const victims = data?.processes as { name: string; ranOut: string }[];
    for (const { name, ranOut } of victims) assert.deepEqual([name, ranOut], ['tail', 'own']);
    await events.next('ve.stopped', 30_000);
    await new Promise((resolve) => { setTimeout(resolve, 2500); });
    assert.equal(events.events.filter(({ type }) => type === 've.oom_killed').length, 1, 'and once');
  } finally {
    events.close();
  }
});
