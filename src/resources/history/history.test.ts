import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createAlerts } from './alerts.ts';
import { COUNTERS, GAUGES, merge, pointOf, type Reading } from './fields.ts';
import { createHistory, type VeHistory } from './history.ts';
import { FILE_SIZE, openPointFile } from './point-file.ts';
import { sampleRing } from './ring.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-history-'));
after(() => rmSync(folder, { recursive: true }));

/** A quarter of an hour begins here. */
const QUARTER = 1_700_000_100 - (1_700_000_100 % 900);

function reading(value: number): Reading {
  return { ...all(GAUGES, value), ...all(COUNTERS, value) };
}
const all = <Name extends string>(names: readonly Name[], value: number) => Object.fromEntries(names.map((name) => [name, value])) as Record<Name, number>;
const point = (time: number, value: number) => pointOf(time, 60, all(GAUGES, value), all(COUNTERS, value));

/** A VE that uses one of everything a second, and whose gauges are `time - QUARTER`. */
function live(history: VeHistory, from: number, to: number): void {
  for (let time = from; time < to; time += 1) {
    history.add(time, time, reading(time - QUARTER), undefined);
    history.flush(time);
  }
}

test('the ring keeps the last of its capacity, in order', () => {
  const ring = sampleRing(5);
  for (let i = 1; i <= 12; i += 1) ring.push(i, 1, reading(i), reading(2 * i));
  assert.deepEqual(ring.points().map(({ time }) => time), [8, 9, 10, 11, 12]);
  const [last] = ring.points(12);
  assert.deepEqual([last!.seconds, last!.gauges.tasks.mean, last!.counters.txBytes], [1, 12, 24]);
});

test('the file: a point comes back as it was, until its place is taken a round later', () => {
  const path = join(folder, 'file');
  const file = openPointFile(path);
  assert.equal(statSync(path).size, FILE_SIZE);
  const first = point(QUARTER, 3);
  const unknown = { ...point(QUARTER + 120, 5), counters: { ...point(0, 5).counters, diskReads: Number.NaN } };
  file.write('1d', first);
  file.write('1d', unknown);
  file.write('30d', point(QUARTER, 7));
  assert.deepEqual(file.read('1d', QUARTER, QUARTER + 900), [first, unknown]);
  assert.deepEqual(file.read('1d', QUARTER + 1, QUARTER + 120), []);
  assert.deepEqual(file.read('30d', QUARTER - 86_400, QUARTER + 900), [point(QUARTER, 7)]);
  file.write('1d', point(QUARTER + 86_400, 4));
  assert.deepEqual(file.read('1d', QUARTER, QUARTER + 60), [], 'a day later its place has another');
  assert.deepEqual(file.read('1d', QUARTER + 60, QUARTER + 86_460).map(({ time }) => time), [QUARTER + 120, QUARTER + 86_400], 'across the end of the ring');
  file.close();
  const again = openPointFile(path);
  assert.equal(again.read('30d', QUARTER, QUARTER + 1).length, 1);
  again.close();
  assert.equal(statSync(path).size, FILE_SIZE);
});

test('the file: one of other records, a half one, and rubbish are begun anew', () => {
  for (const spoil of [(path: string) => truncateSync(path, 100), (path: string) => writeFileSync(path, 'x'.repeat(10_000))]) {
    const path = join(folder, 'spoilt');
    const file = openPointFile(path);
    file.write('1d', point(QUARTER, 3));
    file.close();
    spoil(path);
    const next = openPointFile(path);
    assert.deepEqual(next.read('1d', QUARTER, QUARTER + 60), []);
    assert.equal(statSync(path).size, FILE_SIZE);
    next.close();
  }
});

test('minutes and quarters of an hour: sums, least, mean, greatest', () => {
  const history = createHistory(join(folder, 'minutes'), QUARTER);
  live(history, QUARTER, QUARTER + 1000);
  const now = QUARTER + 999;
  assert.equal(history.points('10m', now).length, 600);
  const minutes = history.points('1d', now);
  assert.equal(minutes.length, 17, 'sixteen, and the one that grows');
  assert.deepEqual([minutes[0]!.seconds, minutes[0]!.counters.cpuSeconds], [59, 59], 'the first sample has nothing before it');
  assert.deepEqual(minutes[1]!.gauges.memoryBytes, { min: 60, mean: 89.5, max: 119 });
  assert.deepEqual([minutes[1]!.counters.diskReads, minutes[16]!.seconds], [60, 40]);
  const quarters = history.points('30d', now);
  assert.deepEqual(quarters.map(({ time, seconds }) => [time - QUARTER, seconds]), [[0, 899], [900, 100]]);
  assert.deepEqual(quarters[0]!.gauges.tasks, { min: 1, mean: 450, max: 899 });
});

test('a daemon that ends and another one: no second is counted twice, the quarter goes on', () => {
  const path = join(folder, 'restart');
  const first = createHistory(path, QUARTER);
  live(first, QUARTER, QUARTER + 90);
  first.flush(QUARTER + 90, true);
  const second = createHistory(path, QUARTER + 95);
  live(second, QUARTER + 95, QUARTER + 200);
  second.flush(QUARTER + 200, true);
  const third = createHistory(path, QUARTER + 300);
  const at = (span: '1d' | '30d') => third.points(span, QUARTER + 300).map(({ time, seconds, counters }) => [time - QUARTER, seconds, counters.txBytes]);
  assert.deepEqual(at('1d'), [[0, 59, 59], [60, 54, 54], [120, 60, 60], [180, 20, 20]], 'of the second minute six seconds are not known');
  assert.deepEqual(at('30d'), [[0, 193, 193]]);
  assert.deepEqual(third.points('10m', QUARTER + 300), [], 'seconds are in memory only');
});

test('a VE that is booted again: its counters begin with zero, and what it was not there for is no time', () => {
  const history = createHistory(join(folder, 'boot'), QUARTER);
  history.add(QUARTER, 0, reading(1000), 1);
  history.pause();
  assert.equal(history.add(QUARTER + 30, 30, reading(5), 4)!.grown.cpuSeconds, 5);
  const [minute] = history.points('1d', QUARTER + 31);
  assert.deepEqual([minute!.seconds, minute!.counters.cpuSeconds], [5, 1005]);
});

test('alerts: once when it begins, again only after it was clearly better', () => {
  const alerts = createAlerts({ throttled: 25, memory: 90 });
  const minute = (throttledPeriods: number) => alerts.minute(merge(0, [{ ...point(0, 0), counters: { ...point(0, 0).counters, throttledPeriods, throttledSeconds: 3 } }])).map(({ type }) => type);
  assert.deepEqual([minute(149), minute(150), minute(600), minute(80), minute(200), minute(70), minute(300)],
    [[], ['ve.throttled'], [], [], [], [], ['ve.throttled']]);
  let clock = 0;
  const history = createHistory(join(folder, 'alerts'), QUARTER);
  const sample = (memoryBytes: number, seconds = 1, limit: number | null = 1000, oomKills = 0): string[] => {
    const now = { ...reading(0), memoryBytes, oomKills };
    clock += seconds;
    return alerts.sample(history.add(QUARTER + clock, clock, now, 1), now, limit).map(({ type }) => type);
  };
  assert.deepEqual([sample(950), sample(950, 5), sample(950, 3), sample(950), sample(950)], [[], [], [], ['ve.memory_near_limit'], []]);
  assert.deepEqual([sample(850), sample(950, 20), sample(700), sample(950, 20)], [[], [], [], ['ve.memory_near_limit']]);
  assert.deepEqual([sample(950, 20, null), sample(0, 1, 1000, 2), sample(0, 1, 1000, 2)], [[], ['ve.oom_killed'], []]);
  assert.deepEqual([sample(0, 1, 1000, 3), sample(0, 1, 1000, 5), sample(0, 56, 1000, 5)], [[], [], []], 'gathered for a minute');
  const last = { ...reading(0), oomKills: 5 };
  clock += 1;
  assert.deepEqual(alerts.sample(history.add(QUARTER + clock, clock, last, 1), last, null), [{ type: 've.oom_killed', data: { count: 3 } }]);
  assert.deepEqual(createAlerts({ throttled: 0, memory: 0 }).minute(point(0, 600)), []);
});
