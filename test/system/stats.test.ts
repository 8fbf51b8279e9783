/** What VEs use and have used, on real VEs: samples against what their groups count, history over a restart of the daemon, metrics, and the events of limits that are met. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { VeStats } from '../../src/ve/stats.ts';
import { listen } from '../lib/events.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

const MiB = 1 << 20;
const LIMIT = 256 * MiB;

const veld = await fileInstance();
await veld.createRunning('used', { 'memory.limit': LIMIT, 'memory.swap': 0 });
await veld.booted('used');
const stats = (ve = 'used', history?: string): Promise<VeStats> => veld.api.call<VeStats>('GET', `/v1/ves/${ve}/stats${history === undefined ? '' : `?history=${history}`}`);
/** The first sample that was taken after now. */
const sampled = (ve = 'used'): Promise<NonNullable<VeStats['sample']>> => {
  const now = Date.now();
  return until('a sample', async () => {
    const { sample } = await stats(ve);
    return sample && Date.parse(sample.time) > now ? sample : undefined;
  });
};
/** Start a command inside that goes on after its starter. */
const background = (ve: string, name: string, ...command: string[]): Promise<unknown> => veld.exec(ve, 'systemd-run', '--quiet', `--unit=${name}`, ...command);
const sum = (points: NonNullable<VeStats['history']>['points'], of: (point: (typeof points)[number]) => number | null): number => points.reduce((all, point) => all + (of(point) ?? 0), 0);

test('samples agree with what the groups count, each second', async () => {
  await background('used', 'spin', 'timeout', '300', 'sh', '-c', 'while :; do :; done');
  const before = (await veld.show('used')).usage!;
  const sample = await sampled();
  const after = (await veld.show('used')).usage!;
  // Sums over processors lag by a tick or two.
  assert.ok(sample.counters.cpuSeconds! >= before.cpuSeconds - 0.02 && sample.counters.cpuSeconds! <= after.cpuSeconds + 0.02, `${before.cpuSeconds} ${sample.counters.cpuSeconds} ${after.cpuSeconds}`);
  assert.ok(sample.gauges.tasks! > 3 && sample.gauges.memoryBytes! > MiB && sample.gauges.memoryBytes! <= LIMIT);
  await until('CPU time by the second', async () => ((await stats()).sample?.rates?.cpuSeconds ?? 0) > 0.1, 60_000);
  const { history, limits } = await until('five seconds of history', async () => {
    const found = await stats('used', '10m');
    return found.history!.points.length >= 5 ? found : undefined;
  });
  assert.deepEqual([limits.memoryBytes, limits.cpuPercent, history!.resolution], [LIMIT, null, 1]);
  assert.ok(history!.points.every(({ seconds }) => seconds > 0));
  assert.ok(sum(history!.points, ({ counters }) => counters.cpuSeconds) <= (await veld.show('used')).usage!.cpuSeconds + 0.02);
  await veld.exec('used', 'systemctl', 'stop', 'spin');
});

test('memory, with the page cache apart', async () => {
  const before = await sampled();
  assert.equal((await veld.exec('used', 'dd', 'if=/dev/zero', 'of=/dev/shm/held', 'bs=1M', 'count=64', 'status=none')).exitCode, 0);
  const held = await sampled();
  assert.ok(held.gauges.memoryBytes! - before.gauges.memoryBytes! > 50 * MiB, `${before.gauges.memoryBytes} ${held.gauges.memoryBytes}`);
  assert.ok(held.gauges.cacheBytes! - before.gauges.cacheBytes! < 20 * MiB, 'what is in a tmpfs is no cache');
  assert.equal((await veld.exec('used', 'dd', 'if=/dev/zero', 'of=/root/written', 'bs=1M', 'count=48', 'status=none')).exitCode, 0);
  const cached = await sampled();
  assert.ok(cached.gauges.cacheBytes! - held.gauges.cacheBytes! > 30 * MiB, `${held.gauges.cacheBytes} ${cached.gauges.cacheBytes}`);
  await veld.exec('used', 'rm', '/dev/shm/held', '/root/written');
});

test('packets in and out, in samples, history, metrics and the table', async () => {
  const ve = await veld.show('used');
  const [address] = ve.addresses.filter((one) => one.includes('.'));
  const before = await sampled();
  const socket = createSocket('udp4');
  for (let i = 0; i < 300; i += 1) await new Promise<void>((resolve, reject) => { socket.send(Buffer.alloc(1000), 9, address, (error) => { if (error) reject(error); else resolve(); }); });
  socket.close();
  const sent = await veld.exec('used', 'bash', '-c', 'gateway=$(ip -4 route show default | sed "s/.*via \\([^ ]*\\).*/\\1/"); for i in $(seq 200); do echo packet >/dev/udp/$gateway/9; done; true');
  assert.equal(sent.exitCode, 0, sent.stderr);
  const after = await sampled();
  assert.ok(after.counters.rxPackets! - before.counters.rxPackets! >= 300);
  assert.ok(after.counters.rxBytes! - before.counters.rxBytes! >= 300_000);
  assert.ok(after.counters.txPackets! - before.counters.txPackets! >= 200);
  for (const span of ['10m', '1d', '30d']) {
    const { history } = await stats('used', span);
    assert.ok(sum(history!.points, ({ counters }) => counters.rxPackets) >= 300, span);
  }
  const metrics = await veld.api.call<string>('GET', '/metrics');
  const metric = (name: string): number => Number(new RegExp(`^${name}\\{ve="used",number="${ve.number}"\\} (\\S+)$`, 'm').exec(metrics)?.[1]);
  assert.ok(metric('veld_ve_receive_packets_total') >= after.counters.rxPackets!);
  assert.ok(metric('veld_ve_memory_cache_bytes') >= 0 && metric('veld_ve_oom_kills_total') === 0);
  assert.equal(metric('veld_ve_limit_memory_bytes'), LIMIT);
  const table = await veld.cli('stats');
  assert.match(table.stdout, /^NAME +CPU % [^\n]+\nused +[\d.]+ /);
});

test('a VE whose memory is nearly used up, and one in which the kernel kills, are told of', async () => {
  const events = await listen(veld.api);
  try {
    const { gauges } = await sampled();
    const count = Math.floor((0.95 * LIMIT - (gauges.memoryBytes! - gauges.cacheBytes!)) / MiB);
    assert.equal((await veld.exec('used', 'dd', 'if=/dev/zero', 'of=/dev/shm/full', 'bs=1M', `count=${count}`, 'status=none')).exitCode, 0);
    const near = await events.next('ve.memory_near_limit', 90_000);
    assert.deepEqual([near.ve, near.data?.name, near.data?.limitBytes], [(await veld.show('used')).uuid, 'used', LIMIT]);
    // A process of its own, which is the largest: init is not killed.
    const hog = await veld.exec('used', 'sh', '-c', 'echo 1000 >/proc/self/oom_score_adj; exec tail /dev/zero');
    assert.notEqual(hog.exitCode, 0);
    const killed = await events.next('ve.oom_killed', 60_000);
    assert.ok((killed.data?.count as number) >= 1);
    const victims = killed.data?.processes as { pid: number; name: string }[];
    // Empty where /dev/kmsg is closed to us.
    if (victims.length > 0) assert.ok(victims.some(({ name }) => name === 'tail'), JSON.stringify(victims));
    assert.ok((await sampled()).counters.oomKills! >= 1);
    assert.ok(sum((await stats('used', '1d')).history!.points, ({ counters }) => counters.oomKills) >= 1);
  } finally {
    events.close();
    await veld.exec('used', 'rm', '-f', '/dev/shm/full');
  }
});

test('a VE that its CPU limit holds back for most of a minute is told of', async () => {
  await veld.createRunning('held', {});
  await veld.booted('held');
  const events = await listen(veld.api);
  try {
    await veld.cli('set', 'held', 'cpu.limit=10%');
    await background('held', 'spin', 'timeout', '300', 'sh', '-c', 'while :; do :; done');
    const { data } = await events.next('ve.throttled', 240_000);
    assert.equal(data?.name, 'held');
    assert.ok((data?.percent as number) >= 25 && (data?.percent as number) <= 101, JSON.stringify(data));
    const { sample } = await stats('held');
    assert.ok(sample!.counters.throttledPeriods! > 100 && sample!.counters.throttledSeconds! > 1);
  } finally {
    events.close();
  }
});

test('minutes are kept over a restart of the daemon, seconds are not; a VE that is destroyed takes its history with it', async () => {
  const before = (await stats('used', '1d')).history!.points;
  await veld.restart();
  const after = (await stats('used', '1d')).history!.points;
  for (const { time, counters } of before.slice(0, -1)) {
    assert.equal(after.find((point) => point.time === time)?.counters.rxPackets, counters.rxPackets, time);
  }
  assert.ok(sum(after, ({ counters }) => counters.rxPackets) >= 300);
  assert.ok((await stats('used', '10m')).history!.points.length < 60, 'those of the daemon that ended are gone');
  const { counters } = await sampled();
  assert.ok(counters.oomKills! >= 1, 'counted since the start of the VE');
  const folder = join(veld.settings.stateDir, 'history');
  const { uuid } = await veld.show('held');
  assert.ok(existsSync(join(folder, uuid)));
  await veld.cli('destroy', '--force', '--yes', 'held');
  assert.ok(!readdirSync(folder).includes(uuid));
});
