/** `veld stats`: the real program in pipes. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { VeldError } from '../lib/errors.ts';
import type { StatsPoint, VeStats } from '../ve/stats.ts';
import { startTestDaemon, type TestDaemon } from './test-daemon.ts';

type Counters = StatsPoint['counters'];
/** What the tables show of the counters, and one more. */
const counters = (value: number, other: Partial<Counters>): Counters => ({ ...Object.fromEntries([
  'cpuSeconds', 'throttledPeriods', 'diskReadBytes', 'diskWriteBytes', 'diskReads', 'rxBytes', 'txBytes', 'cpuPressureSeconds', 'memoryPressureSeconds', 'ioPressureSeconds', 'oomKills',
].map((name) => [name, value])) as Counters, ...other });
const gauge = { min: 1, mean: 1 << 20, max: 1 << 21 };

function stats(name: string, running: boolean): VeStats {
  return {
    uuid: name, number: 101, name, status: running ? 'running' : 'stopped', limits: { cpuPercent: 50, memoryBytes: null, swapBytes: null, tasks: null },
    sample: !running ? null : {
      time: '2026-01-01T00:00:00.000Z', gauges: { memoryBytes: 64 << 20, cacheBytes: 16 << 20, swapBytes: 0, tasks: 5 }, counters: counters(7, { oomKills: 2 }),
      rates: counters(0, { cpuSeconds: 0.5, throttledPeriods: 2.5, diskReadBytes: null, txBytes: 2048, ioPressureSeconds: 0.125 }),
    },
    history: null,
  };
}
const point: StatsPoint = {
  time: '2026-01-01T00:00:00.000Z', seconds: 60, gauges: { memoryBytes: gauge, cacheBytes: gauge, swapBytes: gauge, tasks: { min: 1, mean: 5.4, max: 9 } },
  counters: counters(60, { cpuSeconds: 90, diskReads: null, oomKills: 1 }),
};

function daemonWith(t: TestContext): Promise<TestDaemon> {
  return startTestDaemon(t, {
    'GET /v1/ves': () => [{ uuid: 'web', pid: 7 }, { uuid: 'gone', pid: 8 }, { uuid: 'old', pid: null }],
    'GET /v1/ves/web/stats': ({ url }) => ({ ...stats('web', true), ...url.includes('history=1d') && { history: { resolution: 60, points: [point] } } }),
    'GET /v1/ves/old/stats': () => stats('old', false),
    'GET /v1/ves/gone/stats': () => new VeldError('ve.not_found', 'There is no VE gone.'),
  });
}

test('a line a VE that runs; what is not counted, and a VE that does not run, are dashes', async (t) => {
  const daemon = await daemonWith(t);
  const { stdout, stderr, status } = await daemon.veld(['stats']);
  assert.deepEqual([stderr, status], ['', 0]);
  assert.match(stdout, /^NAME +CPU % +HELD % .*\nweb +50\.0 +25\.0 +64 MiB +16 MiB +0 B +5 +- +0 B\/s +0 B\/s +2 KiB\/s +0\.0 +0\.0 +12\.5 +2\n$/);
  assert.match((await daemon.veld(['stats', 'old'])).stdout, /\nold( +-){14}\n$/);
  assert.equal((await daemon.veld(['stats', 'web', 'gone'])).status, 4);
});

test('history: a line a point, rates and means over it', async (t) => {
  const daemon = await daemonWith(t);
  assert.match((await daemon.veld(['stats', 'web', '--history', '1d'])).stdout, /^TIME +CPU % .*\n2\d{3}-[\d-]+ [\d:]+ +150\.0 +10\.0 +1 MiB +1 MiB +1 MiB +5 +1 B\/s .* 1\n$/);
  assert.match(daemon.asked.at(-1)!.url, /stats\?history=1d$/);
});

test('JSON: an array; with --watch one a line', async (t) => {
  const daemon = await daemonWith(t);
  assert.equal((JSON.parse((await daemon.veld(['stats', 'web', '--history', '1d', '--json'])).stdout) as VeStats[])[0]!.history!.points[0]!.counters.cpuSeconds, 90);
  const lines = (await daemon.veld(['stats', 'web', 'old', '--json', '--watch', '-i', '0.1', '-n', '3'])).stdout.trim().split('\n');
  assert.deepEqual(lines.map((line) => (JSON.parse(line) as VeStats[]).map(({ name }) => name)), Array.from({ length: 3 }, () => ['web', 'old']));
});

test('what does not go together is refused', async (t) => {
  const daemon = await daemonWith(t);
  for (const [words, message] of [[['--watch', '--history', '1d'], /what was/], [['-i', '1'], /go with --watch/], [['--history', '1y'], /Allowed choices/]] as const) {
    const { status, stderr } = await daemon.veld(['stats', 'web', ...words]);
    assert.equal(status, 2);
    assert.match(stderr, message);
  }
});
