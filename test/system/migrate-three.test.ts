/** Three nodes: a VE goes round, and comes to nodes where it has been before; nobody takes an old word for a new one. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { makeNode, pair } from '../lib/nodes.ts';
import { serveTalk, talkTo } from '../lib/talk.ts';
import type { Instance } from '../lib/instance.ts';

const settings = (own: Instance['settings']): void => { own.network.uplinks = ['lo']; };
const nodes = await Promise.all(['alpha', 'beta', 'gamma'].map((name) => makeNode(name, { settings })));
after(async () => {
  await Promise.all(nodes.map((node) => node.destroy()));
});
for (const node of nodes) await node.start();
const [a, b, c] = nodes as [Instance, Instance, Instance];
const nameOf = (node: Instance): string => node.settings.nodes.name;

test('a VE goes round three nodes, to where it has been, and back; its client stays connected', { timeout: 400_000 }, async () => {
  await pair(a, b);
  await pair(b, c);
  await a.createRunning('web');
  await serveTalk(a, 'web');
  const { uuid, addresses } = await a.show('web');
  const talk = await talkTo(addresses[0]!);
  await talk.goesOn();
  // a and c do not know each other yet: what b may do is nobody else's.
  const stranger = await a.cli('migrate', 'web', 'gamma');
  assert.match(stranger.stderr, /node\.not_found|no node/i);
  await pair(c, a);
  const way = process.env.VELD_TEST_FULL === undefined ? [b, c, a, b, a] : [b, c, a, b, c, b, a, c, a];
  for (let [at, from] = [0, a]; at < way.length; at++) {
    const to = way[at]!;
    const { code, stderr } = await from.cli('migrate', 'web', nameOf(to));
    assert.equal(code, 0, `${nameOf(from)} to ${nameOf(to)}: ${stderr}`);
    await talk.goesOn();
    for (const node of nodes) assert.deepEqual((await node.list()).map((ve) => ve.uuid), node === to ? [uuid] : [], nameOf(node));
    from = to;
  }
  talk.end();
});

test('a node that is evacuated to two others, one VE each', { timeout: 200_000 }, async () => {
  await a.createRunning('other');
  for (const [ve, to] of [['web', b], ['other', c]] as const) {
    const { code, stderr } = await a.cli('migrate', ve, nameOf(to));
    assert.equal(code, 0, stderr);
    assert.equal((await to.show(ve)).status, 'running');
  }
  assert.deepEqual(await a.list(), []);
});
