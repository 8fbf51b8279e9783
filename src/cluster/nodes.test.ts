import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNode, pairNodes } from './testing.ts';

test('two nodes pair by a token, and each knows what the other is and may', async (t) => {
  const [a, b] = [await openNode('alpha'), await openNode('beta')];
  t.after(() => Promise.all([a.close(), b.close()]));
  await pairNodes(a, b, 'second', { there: ['manage'] });
  const [there] = await a.nodes.list(true);
  const [here] = await b.nodes.list(true);
  assert.deepEqual([there?.name, there?.state, there?.allow, there?.allowed, there?.reason], ['second', 'ok', [], ['manage'], null]);
  assert.deepEqual([here?.name, here?.state, here?.allow, here?.allowed], ['alpha', 'ok', ['manage'], []]);
  assert.deepEqual([there?.uidsOverlap, there?.protocol, there?.address], [true, 1, `127.0.0.1:${b.port}`]);
});

test('a new authority takes over when the other knows it, without an end of the pairing', async (t) => {
  const [a, b] = [await openNode('alpha'), await openNode('beta')];
  t.after(() => Promise.all([a.close(), b.close()]));
  await pairNodes(a, b, 'beta');
  for (let round = 0; round < 3; round += 1) {
    for (const [one, other] of [[a, b], [b, a]] as const) {
      const before = one.nodes.self().fingerprint;
      const { waiting, missing, fingerprint } = await one.nodes.rotate({ authority: true, force: false });
      assert.deepEqual([waiting, missing], [false, []]);
      assert.notEqual(fingerprint, before);
      for (const node of [a, b]) assert.equal((await node.nodes.list(true))[0]?.state, 'ok');
      assert.deepEqual((await other.nodes.list(false))[0]?.fingerprints, [fingerprint]);
    }
  }
});
