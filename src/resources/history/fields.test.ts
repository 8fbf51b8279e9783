import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { COUNTERS, GAUGES, growth, merge, pointOf, type Point, type Reading } from './fields.ts';

const all = <Name extends string>(names: readonly Name[], value: number) => Object.fromEntries(names.map((name) => [name, value])) as Record<Name, number>;
const reading = (value: number): Reading => ({ ...all(GAUGES, value), ...all(COUNTERS, value) });

test('growth: from zero, from before, and of counters that began anew', () => {
  assert.equal(growth(undefined, reading(7)).cpuSeconds, 7);
  assert.equal(growth(reading(5), reading(7)).txBytes, 2);
  assert.equal(growth(reading(500), reading(7)).diskReads, 7, 'booted anew');
  assert.equal(growth(reading(7.001), reading(7)).cpuSeconds, 0, 'a sum that lags is no new beginning');
  assert.ok(Number.isNaN(growth(reading(5), reading(Number.NaN)).oomKills), 'not counted here');
  assert.ok(Number.isNaN(growth(reading(Number.NaN), reading(3)).oomKills), 'how much of it is new, nobody knows');
});

const value = fc.double({ min: 0, max: 1e9, noNaN: true });
const point = fc.record({ seconds: fc.double({ min: 0.5, max: 2, noNaN: true }), gauge: value, counter: value })
  .map(({ seconds, gauge, counter }) => pointOf(0, seconds, all(GAUGES, gauge), all(COUNTERS, counter)));

test('merge: sums of counters and seconds, the least, the greatest, and a mean between them; in one step or in several', () => {
  fc.assert(fc.property(fc.array(point, { minLength: 1, maxLength: 30 }), fc.nat(29), (points, cut) => {
    const near = (a: number, b: number): void => assert.ok(Math.abs(a - b) <= 1e-6 * Math.max(1, Math.abs(a)), `${a} ${b}`);
    const whole = merge(60, points);
    assert.equal(whole.time, 60);
    near(whole.seconds, points.reduce((sum, { seconds }) => sum + seconds, 0));
    near(whole.counters.cpuSeconds, points.reduce((sum, { counters }) => sum + counters.cpuSeconds, 0));
    const { min, mean, max } = whole.gauges.memoryBytes;
    assert.equal(min, Math.min(...points.map(({ gauges }) => gauges.memoryBytes.min)));
    assert.equal(max, Math.max(...points.map(({ gauges }) => gauges.memoryBytes.max)));
    assert.ok(min <= mean && mean <= max);
    const parts = [points.slice(0, cut), points.slice(cut)].filter((part) => part.length > 0).map((part) => merge(0, part));
    const twice = merge(60, parts);
    near(twice.gauges.memoryBytes.mean, mean);
    near(twice.counters.rxBytes, whole.counters.rxBytes);
  }));
});

test('merge: what is unknown in one point is taken from the others, and stays unknown where none knows', () => {
  const unknown = pointOf(0, 1, all(GAUGES, Number.NaN), all(COUNTERS, Number.NaN));
  const known: Point = pointOf(0, 3, all(GAUGES, 4), all(COUNTERS, 2));
  const both = merge(0, [unknown, known, unknown]);
  assert.deepEqual(both.gauges.tasks, { min: 4, mean: 4, max: 4 });
  assert.equal(both.counters.diskReads, 2);
  const none = merge(0, [unknown]);
  assert.ok(Number.isNaN(none.gauges.tasks.mean) && Number.isNaN(none.counters.diskReads));
});
