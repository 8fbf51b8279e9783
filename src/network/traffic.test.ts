/** Traffic by class on real kernel objects, in a network namespace of its own: figures against the bytes that were sent. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { ipBatch } from '../kernel/links.ts';
import { testInNamespace } from './testing/agents.ts';
import type { Agent } from './testing/agents.ts';
import { HOST4, HOST6, WORLD4, WORLD6, makeLab } from './testing/lab.ts';
import type { Lab } from './testing/lab.ts';
import { all, both, growth, NONE, received, sent, texts, UDP4, UDP6 } from './testing/traffic.ts';

const A4 = '10.187.0.2';
const A6 = 'fd5e:1d00:187::2';
const B4 = '10.187.0.3';
const B6 = 'fd5e:1d00:187::3';
/** By hand, outside of the pools. */
const C4 = '203.0.113.9';

testInNamespace('traffic by class', import.meta.filename, inNamespace);

function inNamespace(): void {
  let lab: Lab;
  let a: Agent;
  let b: Agent;
  let c: Agent;
  before(async () => {
    lab = await makeLab();
    a = await lab.add(101, [A4, A6]);
    b = await lab.add(102, [B4, B6]);
    c = await lab.add(103, [C4]);
    lab.world.ip(`route add ${C4}/32 via ${HOST4}`);
    for (const agent of [a, b, c, lab.world]) await agent.ask('hear', 7000);
  });
  after(() => lab.close());

  test('from one VE to another it is inside for both, to the byte, by IPv4 and IPv6', async () => {
    const grown = await growth(lab, async () => {
      await a.ask('send', A4, B4, 7000, texts(20, 1000));
      await a.ask('send', A6, B6, 7000, texts(10, 700));
    });
    const bytes = both(sent(20, 1000 + UDP4), sent(10, 700 + UDP6));
    assert.deepEqual(grown[101], { inside: bytes, outside: NONE });
    assert.deepEqual(grown[102], { inside: both(received(20, 1000 + UDP4), received(10, 700 + UDP6)), outside: NONE });
    assert.deepEqual(grown[103], { inside: NONE, outside: NONE });
  });

  test('also where an address is in no pool, and with the host by any of its addresses', async () => {
    const grown = await growth(lab, () => c.ask('send', C4, A4, 7000, texts(5, 100)));
    assert.deepEqual([grown[103], grown[101]], [{ inside: sent(5, 100 + UDP4), outside: NONE }, { inside: received(5, 100 + UDP4), outside: NONE }]);
    const socket = createSocket('udp6');
    const host = await growth(lab, async () => {
      for (const to of [A4, A6]) for (const text of texts(3, 400)) await new Promise<void>((resolve, reject) => { socket.send(text, 7000, to.includes(':') ? to : `::ffff:${to}`, (error) => (error ? reject(error) : resolve())); });
    });
    socket.close();
    assert.deepEqual(host[101], { inside: both(received(3, 400 + UDP4), received(3, 400 + UDP6)), outside: NONE });
    // The host refuses what a VE begins; it has been sent all the same, unless a rule stops it on its way in.
    const server = createServer((socket_) => socket_.end('host\n')).listen(7001, '::');
    const open = lab.make({ veToHost: true });
    await open.setup();
    try {
      const asked = await growth(lab, () => a.ask('connect', HOST4, 7001));
      assert.ok(asked[101]!.inside!.txPackets >= 3 && asked[101]!.inside!.rxPackets >= 2, JSON.stringify(asked[101]));
      assert.deepEqual(asked[101]!.outside, NONE);
      assert.deepEqual((await growth(lab, () => a.ask('connect', HOST6, 7001)))[101]!.outside, NONE);
    } finally {
      server.close();
      await lab.network.setup();
    }
  });

  test('with the world it is outside, both ways, through NAT and without', async () => {
    const grown = await growth(lab, async () => {
      await a.ask('send', A4, WORLD4, 7000, texts(15, 1200));
      await a.ask('send', A6, WORLD6, 7000, texts(4, 900));
      await lab.world.ask('send', WORLD4, C4, 7000, texts(6, 500));
    });
    assert.deepEqual(grown[101], { inside: NONE, outside: both(sent(15, 1200 + UDP4), sent(4, 900 + UDP6)) });
    assert.deepEqual(grown[103], { inside: NONE, outside: received(6, 500 + UDP4) });
  });

  test('streams: as many bytes as programs have sent, and headers', async () => {
    const BYTES = 4 << 20;
    for (const [host, name, peer] of [[B4, 'inside', 102], [WORLD4, 'outside', undefined], [WORLD6, 'outside', undefined]] as const) {
      let grown: Awaited<ReturnType<typeof growth>>;
      let [rxBytes, txBytes] = [0, 0];
      // On a busy host TCP sends some of it again, which is counted: then once more.
      for (let tries = 1; ; tries++) {
        grown = await growth(lab, () => a.ask('echo', host, 80, BYTES));
        const { rxPackets, txPackets } = grown[101]![name]!;
        ({ rxBytes, txBytes } = grown[101]![name]!);
        const ways = [[rxBytes, rxPackets], [txBytes, txPackets]] as const;
        for (const [bytes] of ways) assert.ok(bytes >= BYTES && bytes <= BYTES * 1.1, `${host}: ${bytes} bytes`);
        if (ways.every(([bytes, packets]) => bytes - BYTES <= (packets + 2) * 80)) break;
        assert.ok(tries < 5, `${host}: ${JSON.stringify(ways)}`);
      }
      assert.deepEqual(grown[101]![name === 'inside' ? 'outside' : 'inside'], NONE);
      if (peer !== undefined) assert.deepEqual([grown[peer]!.inside!.rxBytes, grown[peer]!.inside!.txBytes], [txBytes, rxBytes]);
    }
  });

  test('what a rule or a rate drops is not counted as received, and forged packets not as sent', async () => {
    await lab.set(102, { 'network.deny': ['in:10.0.0.0/8'] });
    const denied = await growth(lab, () => a.ask('send', A4, B4, 7000, texts(8, 1000)));
    await lab.set(102, {});
    assert.deepEqual(denied[102]!.inside, NONE);
    a.ip('addr add 10.187.0.77/32 dev eth0');
    const forged = await growth(lab, () => a.ask('send', '10.187.0.77', B4, 7000, texts(8, 1000)));
    a.ip('addr del 10.187.0.77/32 dev eth0');
    assert.deepEqual([forged[101]!.inside, forged[102]!.inside], [NONE, NONE]);
    await lab.set(102, { 'network.rate.in': 8 * 4000 });
    await b.ask('heard');
    const held = await growth(lab, () => a.ask('send', A4, B4, 7000, texts(40, 1000)));
    await lab.set(102, {});
    const packets = held[102]!.inside!.rxPackets;
    assert.ok(packets > 0 && packets < 20, `${packets} of 40`);
    assert.equal((await b.ask<string[]>('heard')).length, packets);
  });

  test('classes of the settings: the longest prefix; another set of rules begins nothing anew, and loses no packet of it', async () => {
    const other = lab.make({ classes: ['lan=198.51.100.0/24', `backup=${WORLD4}`, 'inside=2001:db8:1::/64'] });
    const before = (await all(lab)).get(101)!;
    await other.setup();
    assert.deepEqual((await all(lab, other)).get(101)!.outside, before.outside, 'kept');
    const grown = await growth(lab, async () => {
      await a.ask('send', A4, WORLD4, 7000, texts(7, 100));
      await a.ask('send', A6, WORLD6, 7000, texts(3, 100));
    }, other);
    assert.deepEqual(grown[101], { inside: sent(3, 100 + UDP6), lan: NONE, backup: sent(7, 100 + UDP4), outside: NONE });
    await lab.network.setup();
    const back = (await all(lab)).get(101)!;
    assert.deepEqual(back.backup, sent(7, 100 + UDP4), 'a class of which the settings know nothing any more');
    const after = await growth(lab, () => a.ask('send', A4, WORLD4, 7000, texts(7, 100)));
    assert.deepEqual(after[101], { inside: NONE, backup: NONE, outside: sent(7, 100 + UDP4) });
    // While packets pass.
    const steady = await growth(lab, async () => {
      const sending = a.ask('send', A4, B4, 7000, texts(300, 100));
      for (let i = 0; i < 5; i++) await lab.network.setup();
      await sending;
    });
    assert.equal(steady[101]!.inside!.txPackets, 300);
    assert.equal(steady[102]!.inside!.rxPackets, 300);
  });

  test('a VE on a bridge, and one with both kinds of interfaces', async () => {
    await ipBatch(['link add br0 type bridge', 'addr add 192.0.2.1/24 dev br0', 'link set br0 up']);
    const d = await lab.add(106, [], { 'network.mode': 'bridge', 'network.bridge': 'br0', 'network.addresses': ['192.0.2.6/24'], 'network.gateway': ['192.0.2.1'] });
    const e = await lab.add(107, ['10.187.0.42'], { 'network.interfaces': ['eth1,bridge=br0,address=192.0.2.7/24'] });
    await d.ask('hear', 7000);
    await e.ask('hear', 7000);
    await d.ask('connect', '192.0.2.7', 80); // they know each other by ARP
    const port = await growth(lab, () => d.ask('send', '192.0.2.6', '192.0.2.7', 7000, texts(9, 300)));
    assert.deepEqual(port[106]!.inside, sent(9, 300 + UDP4));
    assert.equal(port[106]!.outside!.txPackets, 0);
    assert.deepEqual(port[107]!.inside, received(9, 300 + UDP4));
    const routed = await growth(lab, () => e.ask('send', '10.187.0.42', A4, 7000, texts(4, 300)));
    assert.deepEqual(routed[107]!.inside, sent(4, 300 + UDP4));
    const world = await growth(lab, () => d.ask('send', '192.0.2.6', WORLD4, 7000, texts(4, 300)));
    // (On a bridge its neighbours' multicast comes, too, whenever they like.)
    assert.deepEqual({ ...world[106]!.outside, rxBytes: 0, rxPackets: 0 }, sent(4, 300 + UDP4), 'by the host, which is its router');
    // Sums of both tables come back.
    const before = (await all(lab)).get(107);
    await lab.network.accounting.follow({ error: assert.fail })();
    execFileSync('nft', ['flush', 'ruleset']);
    await lab.network.setup();
    assert.deepEqual((await all(lab)).get(107), before);
  });
}
