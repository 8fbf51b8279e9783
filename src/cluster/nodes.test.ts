import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { openNode, pairNodes } from './testing.ts';
import type { ApiDoor } from './types.ts';

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

test('a node that spoke another protocol when last heard of is asked anew, and only greeted until then', async (t) => {
  const [a, b] = [await openNode('alpha'), await openNode('beta')];
  t.after(() => Promise.all([a.close(), b.close()]));
  await pairNodes(a, b, 'beta', { there: ['manage'] });
  const [node] = a.store.listNodes();
  a.store.saveNode({ ...node!, facts: { ...node!.facts, protocol: { min: 7, max: 8 } } });
  const asked = { node: 'beta', method: 'GET', path: '/v1', headers: {}, uid: 0, requestId: 'r' };
  await assert.rejects(a.nodes.pass(asked, undefined), { code: 'node.protocol', message: 'beta speaks the node protocol 7 to 8, this node 1.' });
  assert.equal((await a.nodes.list(true))[0]?.state, 'ok');
  assert.equal((await a.nodes.pass(asked, undefined)).statusCode, 200);
});

test('a node whose address comes later than its daemon is heard then', async (t) => {
  const [a, b] = [await openNode('alpha'), await openNode('beta')];
  t.after(() => Promise.all([a.close(), b.close()]));
  await pairNodes(a, b, 'beta');
  await b.nodes.close();
  const other = createServer().listen(b.port, '127.0.0.1');
  await once(other, 'listening');
  let heard!: () => void;
  const opened = new Promise<void>((resolve) => { heard = resolve; });
  const api: ApiDoor = { request: (_request, response) => void response.end(), upgrade: (_request, socket) => socket.destroy() };
  await assert.rejects(b.nodes.start(api, heard), { code: 'node.failed', message: /EADDRINUSE/ });
  other.close();
  await opened;
  assert.equal((await a.nodes.list(true))[0]?.state, 'ok');
});

test('a node that does not listen can use the other, and is not asked', async (t) => {
  const [a, b] = [await openNode('alpha', { listen: false, uids: 1_000_001_000 }), await openNode('beta')];
  t.after(() => Promise.all([a.close(), b.close()]));
  assert.throws(() => a.nodes.token({ allow: [] }), { code: 'node.not_listening' });
  await pairNodes(a, b, 'beta', { there: ['manage'] });
  const [there, here] = [(await a.nodes.list(true))[0]!, (await b.nodes.list(true))[0]!];
  assert.deepEqual([there.state, there.uidsOverlap, here.state, here.address], ['ok', false, 'silent', null]);
  await assert.rejects(b.nodes.pass({ node: 'alpha', method: 'GET', path: '/v1', headers: {}, uid: 0, requestId: 'r' }, undefined), { code: 'node.unreachable', message: /has no address/ });
  // Its new authority waits until the silent one has asked.
  const rotation = await b.nodes.rotate({ authority: true, force: false });
  assert.deepEqual([rotation.waiting, rotation.missing.map(({ name }) => name)], [true, ['alpha']]);
  await a.nodes.list(true);
  await new Promise((resolve) => { setTimeout(resolve, 50); });
  assert.equal(b.nodes.self().rotating, null);
  assert.equal((await a.nodes.list(true))[0]?.state, 'ok');
  assert.deepEqual(await b.nodes.remove('alpha').then(({ told }) => told), false);
  assert.equal((await a.nodes.list(true))[0]?.state, 'ended');
  assert.match(a.store.listNodes()[0]!.ended!.reason, /knows of no pairing/);
});

test('with force a new authority takes over at once, and who has not heard of it has to be paired anew', async (t) => {
  const [a, b] = [await openNode('alpha', { listen: false }), await openNode('beta')];
  t.after(() => Promise.all([a.close(), b.close()]));
  await pairNodes(a, b, 'beta');
  const rotation = await b.nodes.rotate({ authority: true, force: true });
  assert.deepEqual([rotation.waiting, rotation.missing.length], [false, 1]);
  assert.equal((await a.nodes.list(true))[0]?.state, 'untrusted');
  await assert.rejects(pairNodes(a, b, 'beta'), { code: 'node.name_taken' });
  await a.nodes.remove('beta');
  await pairNodes(a, b, 'beta');
  assert.equal((await a.nodes.list(true))[0]?.state, 'ok');
});

test('a clock that is wrong ends no pairing', async (t) => {
  const [a, b] = [await openNode('alpha'), await openNode('beta')];
  t.after(() => Promise.all([a.close(), b.close()]));
  await pairNodes(a, b, 'beta');
  const realNow = Date.now;
  t.mock.method(Date, 'now', () => realNow() + 200 * 86_400_000);
  const [view] = await a.nodes.list(true);
  assert.equal(view?.state, 'untrusted');
  assert.match(view?.reason ?? '', /not good now, by the clock/);
  t.mock.restoreAll();
  assert.equal((await a.nodes.list(true))[0]?.state, 'ok');
});
