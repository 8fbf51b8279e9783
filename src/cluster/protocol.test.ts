import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SPOKEN, chooseProtocol } from './protocol.ts';

test('each release speaks with the one before and the one after', () => {
  for (let n = 2; n < 10; n += 1) {
    const [older, newer] = [{ min: n - 1, max: n }, { min: n, max: n + 1 }];
    assert.equal(chooseProtocol(older, 'x', newer), n);
    assert.equal(chooseProtocol(newer, 'x', older), n);
    assert.throws(() => chooseProtocol({ min: n + 1, max: n + 2 }, 'x', older), { code: 'node.protocol', hint: 'Update Veld on this node.' });
    assert.throws(() => chooseProtocol(older, 'x', { min: n + 1, max: n + 2 }), { code: 'node.protocol', hint: 'Update Veld on x.' });
  }
  assert.ok(SPOKEN.max - SPOKEN.min <= 1);
});

test('both sides choose the same, the highest that both speak', () => {
  const range = fc.tuple(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 0, max: 5 })).map(([min, more]) => ({ min, max: min + more }));
  fc.assert(fc.property(range, range, (a, b) => {
    const speaks = (n: number): boolean => n >= a.min && n <= a.max && n >= b.min && n <= b.max;
    const common = Array.from({ length: 30 }, (_, n) => n).filter(speaks);
    if (common.length === 0) assert.throws(() => chooseProtocol(a, 'x', b), { code: 'node.protocol' });
    else assert.deepEqual([chooseProtocol(a, 'x', b), chooseProtocol(b, 'x', a)], [common.at(-1), common.at(-1)]);
  }));
});
