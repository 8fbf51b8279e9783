import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backOff } from './exits.ts';

test('automatic restarts come later each time, at most a minute apart', () => {
  assert.deepEqual([0, 1, 2, 5, 6, 100].map(backOff), [1000, 2000, 4000, 32_000, 60_000, 60_000]);
});
