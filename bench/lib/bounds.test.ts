import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boundsTable, judgeBounds } from './bounds.ts';
import { makeSamples } from './samples.ts';

test('a bound is kept when the worst of its rows is within it, by medians, for each contestant by itself', () => {
  const samples = makeSamples();
  for (const value of [1, 2, 9]) samples.add('weights: 2', 'veld', value);
  samples.add('weights: 4', 'veld', 3);
  samples.add('weights: 4', 'lxc', 3.1);
  samples.add('limit: 10', 'veld', 50);
  const kept = judgeBounds(samples, [{ what: 'at most 3', rows: 'weights: ', most: 3 }, { what: 'of nothing', rows: 'p99', most: 1 }]);
  assert.deepEqual(kept, [{ what: 'at most 3', worst: { veld: { figure: 3, verdict: 'PASS' }, lxc: { figure: 3.1, verdict: 'miss' } } }]);
  assert.match(boundsTable(kept, ['veld', 'incus', 'lxc']), /^at most 3 +3\.00 PASS +3\.10 miss$/m);
});
