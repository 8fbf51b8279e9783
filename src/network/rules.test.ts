/** The firewall of VEs on real kernel objects, in a network namespace of its own; and what rules become. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseRule } from '../spec/rules.ts';
import type { Rule } from '../spec/rules.ts';
import { chainOf, matchOf } from './rules.ts';
import { OUTSIDE, testInNamespace } from './testing/agents.ts';
import type { Agent } from './testing/agents.ts';
import { HOST4, WORLD4, WORLD6, makeLab } from './testing/lab.ts';
import type { Lab } from './testing/lab.ts';

const A4 = '10.187.0.2';
const A6 = 'fd5e:1d00:187::2';
const B4 = '10.187.0.3';
const B6 = 'fd5e:1d00:187::3';
/** By hand, in the uplink's subnet: the world reaches it directly. */
const PUBLIC = '198.51.100.50';

testInNamespace('the firewall of VEs', import.meta.filename, inNamespace);
if (OUTSIDE) words();

function words(): void {
  const rule = (text: string): Rule => parseRule(text) as Rule;

  test('a rule in nft\'s words', () => {
    assert.equal(matchOf(rule('22/tcp')), 'tcp dport 22');
    assert.equal(matchOf(rule('any:53-54')), 'meta l4proto { tcp, udp } th dport 53-54');
    assert.equal(matchOf(rule('192.0.2.0/24')), 'ip saddr 192.0.2.0/24');
    assert.equal(matchOf(rule('out:[2001:db8::/32]:25/tcp')), 'ip6 daddr 2001:db8::/32 tcp dport 25');
    assert.equal(matchOf(rule('192.0.2.1/icmp')), 'ip saddr 192.0.2.1 meta l4proto { icmp, ipv6-icmp }');
    assert.equal(matchOf(rule('any')), '');
  });

  test('denied first, then allowed, then the rest', () => {
    assert.deepEqual(chainOf({ allow: [rule('22/tcp')], deny: [rule('192.0.2.7'), rule('out:any')] }, 'in', 'c'),
      ['ip saddr 192.0.2.7 counter name c jump refuse', 'tcp dport 22 return', 'counter name c jump refuse']);
    assert.deepEqual(chainOf({ allow: [rule('22/tcp')], deny: [rule('out:any')] }, 'out', 'c'), ['counter name c jump refuse']);
    assert.deepEqual(chainOf({ allow: [], deny: [rule('out:any')] }, 'in', 'c'), []);
  });
}

function inNamespace(): void {
  let lab: Lab;
  let a: Agent;
  let b: Agent;

  before(async () => {
    lab = await makeLab();
    a = await lab.add(101, [A4, A6, PUBLIC]);
    b = await lab.add(102, [B4, B6]);
    await a.ask('serve', 81);
  });
  after(() => lab.close());

  /** Who reaches the VE on a port: the world, the host by both families, the other VE by both. */
  const reach = async (port: number): Promise<string> => {
    const answers = [await lab.world.ask<string>('connect', PUBLIC, port), lab.fromHost(A4, port), lab.fromHost(A6, port), await b.ask<string>('connect', A4, port), await b.ask<string>('connect', A6, port)];
    return answers.map((answer) => (answer.startsWith('E') ? '-' : '+')).join('');
  };

  test('without rules everything passes; what is allowed by name shuts out the rest, for the world, the host and VEs', async () => {
    assert.deepEqual([await reach(80), await reach(81)], ['+++++', '+++++']);
    await lab.set(101, { 'network.allow': ['in:any:81/tcp'] });
    assert.deepEqual([await reach(80), await reach(81)], ['-----', '+++++']);
    assert.ok(lab.counter('refused_in_101') >= 5);
    assert.equal(await b.ask('connect', A4, 80), 'ECONNREFUSED'); // refused, not left hanging
    assert.match(await a.ask<string>('connect', WORLD4, 80), /^198\.51\.100\./);
    assert.notEqual(await a.ask('connect', B4, 80), 'ECONNREFUSED'); // the other direction is open, and answers come back
    await lab.set(101, {});
    assert.equal(await reach(80), '+++++');
  });

  test('what is denied never passes; the rest does', async () => {
    await lab.set(101, { 'network.deny': [`in:${B4}`, `in:[${B6}]:80/tcp`] });
    assert.deepEqual([await reach(80), await reach(81)], ['+++--', '+++-+']);
    await lab.set(101, { 'network.deny': ['in:198.51.100.0/24'], 'network.allow': ['in:any:80/tcp', `in:${B4}`] });
    assert.deepEqual([await reach(80), await reach(81)], ['-++++', '---+-']);
    await lab.set(101, {});
  });

  test('what the VE may reach', async () => {
    await lab.set(101, { 'network.allow': [`out:${WORLD4}:80/tcp`] });
    assert.notEqual(await a.ask('connect', WORLD4, 80), 'ECONNREFUSED');
    assert.equal(await a.ask('connect', WORLD6, 80), 'ECONNREFUSED');
    assert.equal(await a.ask('connect', B4, 80), 'ECONNREFUSED');
    assert.equal(await reach(80), '+++++');
    await lab.set(101, { 'network.deny': [`out:${WORLD4}/tcp`] });
    assert.equal(await a.ask('connect', WORLD4, 80), 'ECONNREFUSED');
    assert.equal(await a.ask('connect', B4, 80), A4);
    await lab.set(101, {});
  });

  test('and not the services of the host, even where VEs may', async () => {
    const server = createServer((socket) => socket.end('host\n')).listen(22, '::');
    const open = lab.make({ veToHost: true });
    try {
      await open.setup();
      assert.equal(await a.ask('connect', '10.187.0.1', 22), 'host');
      await lab.set(101, { 'network.deny': ['out:10.187.0.1'] });
      await open.setup();
      assert.equal(await a.ask('connect', '10.187.0.1', 22), 'ECONNREFUSED');
      assert.equal(await b.ask('connect', '10.187.0.1', 22), 'host');
    } finally {
      server.close();
      await lab.set(101, {});
      await lab.network.setup();
    }
  });

  test('datagrams and pings are met, too', async () => {
    const heard = async (): Promise<string[]> => {
      await b.ask('send', B4, A4, 9, ['four']);
      await b.ask('send', B6, A6, 9, ['six']);
      await sleep(60);
      return (await a.ask<string[]>('heard')).toSorted();
    };
    const pings = async (): Promise<boolean[]> => [await b.ask('ping', A4), await b.ask('ping', A6)];
    assert.deepEqual(await pings(), [true, true]);
    await lab.set(101, { 'network.deny': ['in:any:9/udp', 'in:any/icmp'] });
    assert.deepEqual(await heard(), []);
    assert.deepEqual(await pings(), [false, false]);
    await lab.set(101, { 'network.allow': ['in:any:9', 'in:any/icmp'] });
    assert.deepEqual(await heard(), [`${B4} four`, `${B6} six`]);
    assert.deepEqual(await pings(), [true, true]);
    await lab.set(101, {});
  });

  test('a connection that is no longer allowed is cut; others go on', async () => {
    await lab.world.ask('keep', PUBLIC, 80);
    await b.ask('keep', A4, 80);
    await lab.set(101, { 'network.deny': [`in:${WORLD4}`] });
    await assert.rejects(lab.world.ask('say', 'still there?'), /ECONNRESET|took too long/);
    assert.equal(await b.ask('say', 'still here'), 'still here');
    await lab.set(101, {});
  });

  test('rules look at who came to a published port, and at the VE\'s own port', async () => {
    await lab.set(101, { 'network.publish': ['8080:80/tcp'], 'network.allow': [`in:${WORLD4}:80/tcp`] });
    assert.equal(await lab.world.ask('connect', HOST4, 8080), WORLD4);
    assert.equal(await b.ask('connect', HOST4, 8080), 'ECONNREFUSED');
    assert.equal(lab.fromHost(HOST4, 8080), 'ECONNREFUSED');
    await lab.set(101, {});
  });

  test('no root of a VE gets round them: other addresses and links are not its own, and its own firewall is behind', async () => {
    await lab.set(101, { 'network.deny': ['in:any', 'out:any'] });
    a.ip('addr add 10.187.0.77/32 dev eth0');
    await a.ask('send', '10.187.0.77', B4, 9, ['forged']);
    await a.ask('send', A4, B4, 9, ['own']);
    await sleep(60);
    assert.deepEqual(await b.ask('heard'), []);
    a.ip('addr del 10.187.0.77/32 dev eth0');
    lab.sh('nft', 'flush', 'map', 'inet', 'veld_t1', 'rules_out'); // the guard off
    await a.ask('send', A4, B4, 9, ['own']);
    await sleep(60);
    assert.deepEqual(await b.ask('heard'), [`${A4} own`]);
    await lab.network.setup();
    assert.equal(await a.ask('connect', B4, 80), 'ECONNREFUSED'); // made anew with its rules
    await lab.make().setup(); // also by another daemon
    assert.equal(await a.ask('connect', B4, 80), 'ECONNREFUSED');
    await lab.set(101, {});
    assert.equal(await a.ask('connect', B4, 80), A4);
  });

  test('a VE that is gone leaves nothing in the table, and one without rules is in no map of them', async () => {
    await lab.set(101, { 'network.deny': ['in:any:1', 'out:any:1'], 'network.publish': ['8080:80/tcp'] });
    assert.doesNotMatch(lab.sh('nft', 'list', 'map', 'inet', 'veld_t1', 'rules_in'), /vt1-102/);
    await lab.network.revoke(lab.record(101));
    const table = lab.sh('nft', 'list', 'table', 'inet', 'veld_t1');
    assert.doesNotMatch(table, /101|10\.187\.0\.2/);
  });
}
