import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROWS, judge } from './aims.ts';
import { figureOf, makeSamples } from './samples.ts';

test('a figure is the median with the least and the greatest', () => {
  assert.deepEqual(figureOf([5, 1, 9]), { median: 5, min: 1, max: 9, n: 3 });
  assert.deepEqual(figureOf([4, 1, 9, 2]), { median: 3, min: 1, max: 9, n: 4 });
  assert.deepEqual(figureOf([7]), { median: 7, min: 7, max: 7, n: 1 });
});

test('an aim is judged by medians of this run, and only when both sides were measured', () => {
  const samples = makeSamples();
  for (const value of [300, 340, 900]) samples.add(ROWS.deploy, 'veld', value);
  assert.deepEqual(judge(samples), []);
  for (const value of [350, 330, 320]) samples.add(ROWS.deploy, 'lxc', value);
  assert.deepEqual(judge(samples).map(({ veld, peers, verdict }) => [veld, peers, verdict]), [[340, 330, 'miss']]);
  // An exec by API is held against the command that people run.
  samples.add(ROWS.execApi, 'veld', 20);
  samples.add(ROWS.execApi, 'incus', 1);
  samples.add(ROWS.exec, 'incus', 40);
  assert.deepEqual(judge(samples).map(({ peers, verdict }) => [peers, verdict]), [[330, 'miss'], [40, 'PASS']]);
});
