/** The limit of connections on real kernel objects, in a network namespace of its own. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assign } from './assign.ts';
import { finder, ownersOf } from './connection-table.ts';
import { shares } from './connections.ts';
import { parsePrefix } from './ip.ts';
import { namesOf } from './names.ts';
import { createAllocator } from './pools.ts';
import { OUTSIDE, testInNamespace, veRecord } from './testing/agents.ts';
import type { Agent } from './testing/agents.ts';
import { WORLD4, WORLD6, makeLab } from './testing/lab.ts';
import type { Lab } from './testing/lab.ts';
import type { ConnectionUse, NetworkManager } from './types.ts';

const A4 = '10.187.0.2';
const A6 = 'fd5e:1d00:187::2';
const B4 = '10.187.0.3';
const B6 = 'fd5e:1d00:187::3';

testInNamespace('the limit of connections', import.meta.filename, inNamespace);
if (OUTSIDE) parts();

function parts(): void {
  test('a limit is shared out among lists that the kernel can walk along', () => {
    assert.deepEqual([shares(16), shares(1000), shares(1001), shares(2500)], [[16], [1000], [501, 500], [834, 833, 833]]);
    for (const limit of [16, 999, 1000, 1999, 12_345, 65_536]) {
      const list = shares(limit);
      assert.equal(list.reduce((sum, part) => sum + part, 0), limit);
      assert.ok(Math.max(...list) <= 1000 && Math.max(...list) - Math.min(...list) <= 1);
    }
  });

  test('lines of the kernel\'s table, and whose they are', () => {
    const ownerOf = finder([{ number: 101, networks: [parsePrefix(A4)!, parsePrefix('2001:db8:7::/64')!] }, { number: 102, networks: [parsePrefix(B4)!, parsePrefix(B6)!] }]);
    const of = (line: string): number[] => [...ownersOf(line, ownerOf)];
    assert.deepEqual(of('ipv4     2 udp      17 28 src=10.187.0.2 dst=198.51.100.2 sport=4 dport=9 [UNREPLIED] src=198.51.100.2 dst=198.51.100.1 sport=9 dport=4 mark=0 use=1'), [101]);
    assert.deepEqual(of('ipv4     2 tcp      6 9 TIME_WAIT src=10.187.0.2 dst=10.187.0.3 sport=4 dport=80 src=10.187.0.3 dst=10.187.0.2 sport=80 dport=4 [ASSURED] mark=0'), [101, 102]);
    assert.deepEqual(of('ipv6     10 tcp      6 9 src=2001:0db8:0007:0000:0000:0000:0000:0099 dst=2001:0db8:0001:0000:0000:0000:0000:0002 sport=4 dport=80 src=2001:0db8:0001:0000:0000:0000:0000:0002 dst=2001:0db8:0007:0000:0000:0000:0000:0099'), [101]);
    assert.deepEqual(of('ipv4     2 tcp      6 9 src=198.51.100.2 dst=198.51.100.1 sport=4 dport=8080 src=10.187.0.3 dst=198.51.100.2 sport=80 dport=4'), [102], 'a published port');
    assert.deepEqual(of('ipv4     2 udp      17 28 src=192.0.2.1 dst=192.0.2.2 src=192.0.2.2 dst=192.0.2.1'), []);
  });

  test('more than the host has, and a VE without a routed interface, are refused', () => {
    const context = { names: namesOf('t1'), pools: [], allocator: createAllocator([]), isOwn: () => false };
    assert.throws(() => assign(context, veRecord(101, [], { 'network.mode': 'none', 'network.connections': 100 }), []), { code: 'property.invalid', message: /this VE has none/ });
    assert.throws(() => assign(context, veRecord(101, [], { 'network.mode': 'routed', 'network.addresses': [A4], 'network.connections': 2 ** 40 }), []), { code: 'property.invalid', message: /connection table of this host holds \d+ in all/ });
  });
}

function inNamespace(): void {
  let lab: Lab;
  let a: Agent;
  let b: Agent;
  before(async () => {
    lab = await makeLab();
    a = await lab.add(101, [A4, A6], { 'network.connections': 100 });
    b = await lab.add(102, [B4, B6]);
  });
  after(() => lab.close());
  const use = async (number = 101, network: NetworkManager = lab.network): Promise<ConnectionUse> => (await network.connections(lab.ves))(lab.record(number));
  const forget = (): void => void lab.sh('conntrack', '-F');
  const neighbour = async (): Promise<void> => {
    assert.deepEqual(await Promise.all([b.ask('connect', WORLD4, 80), b.ask('connect', WORLD6, 80)]), ['198.51.100.1', '2001:db8:1::1']);
  };
  const refused = async (): Promise<string> => a.ask('connect', WORLD4, 80);

  test('a flood from a VE ends at its limit, by both families and to wherever; the neighbour goes on', async () => {
    forget();
    await a.ask('spray', WORLD4, 20_000, 700);
    await a.ask('spray', WORLD6, 20_000, 700);
    await a.ask('spray', B4, 20_000, 300);
    await a.ask('spray', '10.187.0.1', 20_000, 300);
    const { held, most, refused: times } = await use();
    assert.ok(held! <= 100 && held! >= 95, `${held}`);
    assert.deepEqual([most, times >= 1300], [100, true], `${times} refused`);
    assert.equal(await refused(), 'ETIMEDOUT');
    await neighbour();
    assert.equal((await use(102)).most, null);
  });

  test('what comes to it counts alike: it cannot be filled from outside beyond its limit', async () => {
    forget();
    const script = `const s=require('dgram').createSocket('udp4');let n=0;const next=()=>{if(n===500)return s.close();s.send('x',20000+n++,'${A4}',next)};next()`;
    lab.sh(process.execPath, '-e', script);
    const { held } = await use();
    assert.ok(held! <= 100 && held! >= 95, `${held}`);
    await neighbour();
  });

  test('raised while it floods it may have so many, shared out among lists; lowered, and lifted', async () => {
    forget();
    await lab.set(101, { 'network.connections': 2500 });
    await a.ask('spray', WORLD4, 20_000, 3000);
    const { held } = await use();
    assert.ok(held! <= 2500 && held! >= 2300, `${held}`);
    await neighbour();
    await lab.set(101, { 'network.connections': 50 });
    forget();
    await a.ask('spray', WORLD6, 20_000, 300);
    assert.ok((await use()).held! <= 50);
    await lab.set(101, {});
    assert.equal(await refused(), '198.51.100.1');
    await a.ask('spray', WORLD6, 30_000, 300);
    assert.ok((await use()).held! >= 300, 'no limit: a test that cannot fail');
    assert.doesNotMatch(lab.sh('nft', 'list', 'table', 'inet', 'veld_t1_kept'), /connections_101|jump connections_/);
  });

  test('it begins nothing anew with other rules or another daemon, and is back when somebody took it away', async () => {
    forget();
    await lab.set(101, { 'network.connections': 60 });
    await a.ask('spray', WORLD4, 20_000, 200);
    const fresh = lab.make({ veToHost: true });
    await fresh.setup();
    await fresh.admit(lab.record(101));
    await a.ask('spray', WORLD4, 30_000, 200);
    assert.ok((await use(101, fresh)).held! <= 60, JSON.stringify(await use(101, fresh)));
    lab.sh('nft', 'flush', 'ruleset');
    assert.ok((await fresh.mend()).length > 0);
    forget();
    await a.ask('spray', WORLD4, 40_000, 200);
    assert.ok((await use(101, fresh)).held! <= 60);
    await lab.network.setup();
  });

  test('a VE that has ended leaves no list', async () => {
    assert.match(lab.sh('nft', 'list', 'table', 'inet', 'veld_t1_kept'), /connections_101_60/);
    await lab.network.revoke(lab.record(101));
    assert.doesNotMatch(lab.sh('nft', 'list', 'table', 'inet', 'veld_t1_kept'), /connections_101/);
  });
}
