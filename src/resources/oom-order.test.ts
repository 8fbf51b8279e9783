/** The order of processes when memory runs out: arithmetic. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isOver, placeOf, usedForOom, type Standing } from './oom-order.ts';

const score = fc.integer({ min: -1000, max: 1000 });
/** What a process may have set for itself: not one of the few numbers that are given. */
const own = fc.integer({ min: 0, max: 1000 }).filter((value) => placeOf(value, 'none') === value);
const standing = fc.constantFrom<Standing>('over', 'within', 'none');

test('every process of a VE over its guarantee comes before every one of a VE within, by most of all memory', () => {
  fc.assert(fc.property(score, score, (a, b) => {
    const [over, within] = [placeOf(a, 'over'), placeOf(b, 'within')];
    assert.ok(over - within >= 797 && over <= 1000 && within >= 0, `${over} ${within}`);
  }));
});

test('to place a process again changes nothing, wherever it was in between; where nothing is guaranteed any more it has what it had, to a hundred', () => {
  fc.assert(fc.property(own, fc.array(standing, { minLength: 1 }), (value, way) => {
    const placed = way.reduce(placeOf, value);
    const last = way.at(-1)!;
    assert.equal(placeOf(placed, last), placed);
    const moved = way.some((one) => one !== 'none');
    if (moved) assert.equal(placed, placeOf(value, last) === value && last === 'none' ? 100 * Math.ceil(value / 100) : placeOf(value, last));
    else assert.equal(placed, value);
  }));
  fc.assert(fc.property(fc.integer({ min: 0, max: 10 }), fc.array(standing), (rank, way) => assert.equal(placeOf(way.reduce(placeOf, 100 * rank), 'none'), 100 * rank)));
});

test('among its own a process keeps its rank', () => {
  fc.assert(fc.property(own, own, standing, (a, b, how) => assert.ok(a < b || placeOf(a, how) >= placeOf(b, how), `${a} ${b}`)));
  assert.deepEqual([-1000, 0, 100, 300, 1000].map((value) => placeOf(value, 'within')), [0, 0, 11, 31, 101]);
  assert.deepEqual([-1000, 0, 100, 300, 1000].map((value) => placeOf(value, 'over')), [898, 898, 909, 929, 999]);
});

test('what counts is memory and swap without page cache; what is as much as the guarantee is within it', () => {
  assert.equal(usedForOom({ memoryBytes: 100, cacheBytes: 30, swapBytes: 5 }), 75);
  assert.equal(usedForOom({ memoryBytes: 100, cacheBytes: Number.NaN, swapBytes: Number.NaN }), 100);
  assert.deepEqual([isOver(75, 75), isOver(76, 75), isOver(1, 0), isOver(1e15, null)], [false, true, true, false]);
});
