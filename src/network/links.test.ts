/** Bridges, several interfaces, prefixes and MTUs on real kernel objects. It runs in a network namespace of its own, as network.test.ts does. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ipBatch } from '../kernel/links.ts';
import { defaultSettings } from '../lib/settings.ts';
import type { Settings } from '../lib/settings.ts';
import type { VeRecord } from '../store/types.ts';
import { linkLocal } from './ip.ts';
import { createNetwork } from './network.ts';
import { plugLinks, testInNamespace, startAgent, veRecord } from './testing/agents.ts';
import type { Agent } from './testing/agents.ts';
import { arpReply, BROADCAST, ethernet, icmp6, neighbourAdvertisement, udp } from './testing/frames.ts';
import type { NetworkManager } from './types.ts';

testInNamespace('bridges, interfaces, prefixes and MTUs', import.meta.filename, inNamespace);

function inNamespace(): void {
  // The host: uplink up0 (198.51.100.1) to the world (.2), bridge brA (192.0.2.1) with the machine `lan` (.9).
  const settings: Settings = { ...defaultSettings('t1'), runDir: mkdtempSync(join(tmpdir(), 'veld-t1-')) };
  const agents: Agent[] = [];
  let network: NetworkManager;
  let a: Agent; // eth0 on the bridge
  let b: Agent; // eth0 routed, eth1 on the bridge
  let lan: Agent;
  let world: Agent;
  const LAN_MAC = '02:00:00:00:0a:09';
  const A4 = '192.0.2.5';
  const A6 = '2001:db8:a::5';
  const B4 = '10.187.0.3';
  const veA = veRecord(101, [A4, A6], { 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.addresses': [`${A4}/24`, `${A6}/64`], 'network.gateway': ['192.0.2.1', '2001:db8:a::1'] });
  const veB = veRecord(102, [B4, 'fd5e:1d00:187::3'], { 'network.interfaces': ['eth1,bridge=brA,address=192.0.2.6/24,address=2001:db8:a::6/64,gateway=192.0.2.9,gateway=2001:db8:a::9', 'eth2,address=10.187.0.4,mtu=1400'] });
  const macB1 = (): string => network.plan(veB).links[1]!.mac;

  const sh = (file: string, ...args: string[]): string => execFileSync(file, args, { encoding: 'utf8' });
  const inside = (agent: Agent, ...args: string[]): string => sh('nsenter', '-t', String(agent.pid), '-n', ...args);
  const counter = (name: string): number => Number(/packets (\d+)/.exec(sh('nft', 'list', 'counter', 'bridge', 'veld_t1', name))?.[1]);
  const plug = async (ve: VeRecord, agent: Agent): Promise<void> => {
    await network.admit(ve);
    plugLinks(network.plan(ve), agent, settings.runDir);
  };
  /** With other properties of a VE's, then back. */
  const changed = async (ve: VeRecord, agent: Agent, properties: Record<string, unknown>, work: (changed: VeRecord) => Promise<void>): Promise<void> => {
    const other = { ...ve, properties: { ...ve.properties, ...properties } };
    await network.relink(ve, other, agent.pid);
    try {
      await work(other);
    } finally {
      await network.relink(other, ve, agent.pid);
    }
  };
  const agent = async (): Promise<Agent> => {
    const made = await startAgent();
    agents.push(made);
    return made;
  };

  before(async () => {
    writeFileSync('/proc/sys/net/ipv6/conf/default/accept_dad', '0'); // addresses are there at once
    [a, b, lan, world] = [await agent(), await agent(), await agent(), await agent()];
    await ipBatch([
      `link add up0 type veth peer name eth0 netns ${world.pid}`, 'link set up0 up', 'addr add 198.51.100.1/24 dev up0', 'addr add 2001:db8:1::1/64 dev up0 nodad',
      'link add brA type bridge', 'link set brA mtu 1500 up', 'addr add 192.0.2.1/24 dev brA', 'addr add 2001:db8:a::1/64 dev brA nodad',
      `link add lan0 address 02:00:00:00:00:01 type veth peer name eth0 address ${LAN_MAC} netns ${lan.pid}`, 'link set lan0 master brA up',
    ]);
    world.ip('link set lo up', 'link set eth0 up', 'addr add 198.51.100.2/24 dev eth0', 'addr add 2001:db8:1::2/64 dev eth0 nodad', 'route add default via 198.51.100.1', 'route add default via 2001:db8:1::1');
    lan.ip('link set lo up', 'link set eth0 up', 'addr add 192.0.2.9/24 dev eth0', 'addr add 2001:db8:a::9/64 dev eth0 nodad', 'addr add 203.0.113.9/32 dev lo', 'addr add 2001:db8:c::9/128 dev lo',
      'route add default via 192.0.2.1', 'route add default via 2001:db8:a::1');
    await ipBatch(['route add default via 198.51.100.2', 'route add default via 2001:db8:1::2']);
    await sleep(100); // carrier
    network = createNetwork(settings);
    await network.setup([]);
    await plug(veA, a);
    await plug(veB, b);
    await Promise.all(agents.map((one) => one.ask('serve', 80)));
  });
  after(async () => {
    for (const one of agents) one.stop();
    await network.teardown();
    rmSync(settings.runDir, { recursive: true, force: true });
  });

  test('a VE on a bridge is a machine of that network; routed VEs of the same host reach it, and it them', async () => {
    assert.equal(await a.ask('connect', '192.0.2.9', 80), A4);
    assert.equal(await a.ask('connect', '2001:db8:a::9', 80), A6);
    assert.equal(await lan.ask('connect', A4, 80), '192.0.2.9');
    assert.equal(await a.ask('connect', '198.51.100.2', 80), A4, 'the host routes, and hides nobody');
    assert.equal(await a.ask('connect', '2001:db8:1::2', 80), A6);
    assert.equal(await a.ask('connect', B4, 80), A4, 'to a routed VE');
    const { links: [link] } = network.plan(veA);
    assert.deepEqual([link?.link, link?.bridge, link?.hostMac], ['vt1-101', 'brA', 'fe:00:00:00:00:65']);
    assert.notEqual(readFileSync('/sys/class/net/brA/address', 'utf8').trim(), link?.hostMac, 'the bridge keeps its address');
  });

  test('answers leave by the interface on which the question came', async () => {
    // The asker is no neighbour: b's way to it is eth0, but by eth0 an answer of eth1's address would be a forgery.
    for (const [from, to] of [['203.0.113.9', '192.0.2.6'], ['2001:db8:c::9', '2001:db8:a::6']] as const) {
      await b.ask('hear', from.includes(':') ? 96 : 94);
      await lan.ask('hear', from.includes(':') ? 95 : 93);
      await b.ask('send', to, from, from.includes(':') ? 95 : 93, ['answer']);
      await arrived(lan, `${to} answer`);
    }
    assert.equal(await lan.ask('connect', '192.0.2.6', 80), '192.0.2.9');
    assert.equal(await b.ask('connect', '198.51.100.2', 80), '198.51.100.1', 'its own questions leave by eth0');
    assert.match(inside(b, 'ip', 'rule'), /from 192\.0\.2\.6 lookup 1001/);
    assert.match(inside(b, 'ip', '-6', 'rule'), /from 2001:db8:a::6 lookup 1001/);
  });
  /** Wait until the agent has heard the datagram. */
  const arrived = async (one: Agent, text: string): Promise<void> => {
    for (let i = 0; i < 100; i++) {
      if ((await one.ask<string[]>('heard')).includes(text)) return;
      await sleep(10);
    }
    assert.fail(`${text} did not arrive`);
  };

  test('a second routed interface is reached by its own link', async () => {
    assert.match(sh('ip', 'route', 'get', '10.187.0.4'), /dev vt1-102-2/);
    await world.ask('hear', 92);
    await b.ask('send', '10.187.0.4', '198.51.100.2', 92, ['by eth2']);
    await arrived(world, '198.51.100.1 by eth2');
    const link = network.plan(veB).links[2]!;
    assert.deepEqual([link.name, link.mtu, link.bridge], ['eth2', 1400, null]);
    assert.deepEqual(network.plan(veB).links.map(({ mac }) => mac), createNetwork(settings).plan(veB).links.map(({ mac }) => mac), 'link-layer addresses stay');
    assert.equal(new Set(network.plan(veB).links.map(({ mac }) => mac)).size, 3);
  });

  // What root of a VE with addresses by hand can try on a bridge. Each arrives where the guard is off.
  const GROUP6 = '33:33:00:00:00:01';
  const attacks: [name: string, frame: (mac: string) => string, counter: string, routerMay?: boolean][] = [
    ['the link-layer address of another', () => wrap('02:00:00:00:99:99', LAN_MAC, udp(A4, '192.0.2.9', 7, 7, 'MARK')), 'forged'],
    ['the IPv4 address of another', (mac) => wrap(mac, LAN_MAC, udp('192.0.2.6', '192.0.2.9', 7, 7, 'MARK')), 'forged', true],
    ['the IPv6 address of another', (mac) => wrap(mac, LAN_MAC, udp('2001:db8:a::6', '2001:db8:a::9', 7, 7, 'MARK')), 'forged', true],
    ['an ARP answer for the router', (mac) => ethernet(mac, LAN_MAC, 0x0806, Buffer.concat([arpReply(mac, '192.0.2.1', LAN_MAC, '192.0.2.9'), Buffer.from('MARK')])), 'forged', true],
    ['an ARP answer that names another link-layer address', (mac) => ethernet(mac, LAN_MAC, 0x0806, Buffer.concat([arpReply('02:00:00:00:99:99', A4, LAN_MAC, '192.0.2.9'), Buffer.from('MARK')])), 'forged'],
    ['a neighbour advertisement for the router', (mac) => wrap(mac, LAN_MAC, neighbourAdvertisement(linkLocal(mac), '2001:db8:a::9', '2001:db8:a::1', mac, 'MARK')), 'forged', true],
    ['a router advertisement', (mac) => wrap(mac, GROUP6, icmp6(linkLocal(mac), 'ff02::1', 134, Buffer.concat([Buffer.from([64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('MARK')]))), 'refused_server', true],
    ['an IPv6 redirect', (mac) => wrap(mac, LAN_MAC, icmp6(linkLocal(mac), '2001:db8:a::9', 137, Buffer.concat([Buffer.alloc(36), Buffer.from('MARK')]))), 'refused_server', true],
    ['the answer of a DHCP server', (mac) => wrap(mac, BROADCAST, udp(A4, '255.255.255.255', 67, 68, 'MARK')), 'refused_server', true],
    ['the answer of a DHCP server from another port', (mac) => wrap(mac, LAN_MAC, udp(A4, '192.0.2.9', 6767, 68, 'MARK')), 'refused_server', true],
    ['the answer of a DHCPv6 server', (mac) => wrap(mac, LAN_MAC, udp(A6, '2001:db8:a::9', 547, 546, 'MARK')), 'refused_server', true],
    ['a frame of another VLAN', (mac) => ethernet(mac, LAN_MAC, 0x0800, udp(A4, '192.0.2.9', 7, 7, 'MARK').packet, [42]), 'refused_protocol'],
    ['a spanning tree message', (mac) => ethernet(mac, '01:80:c2:00:00:00', 4, Buffer.from('4242MARK')), 'refused_protocol'],
    ['a frame of an unknown protocol', (mac) => ethernet(mac, LAN_MAC, 0x88b5, Buffer.from('MARK')), 'refused_protocol'],
  ];
  function wrap(from: string, to: string, { type, packet }: { type: number; packet: Buffer }): string {
    return ethernet(from, to, type, packet);
  }
  /** Send a frame from a's eth0, and a harmless one after it. @returns whether the first came to the other machine */
  const reaches = async (frame: string): Promise<boolean> => {
    const mark = `mark${String(Math.random()).slice(2, 8)}`;
    const fence = ethernet(veA.mac, LAN_MAC, 0x0800, udp(A4, '192.0.2.9', 7, 7, mark).packet);
    await lan.ask('sniffed');
    assert.equal(await a.ask('frames', 'eth0', [frame, fence]), 2);
    const seen: string[] = [];
    for (let i = 0; i < 200 && !seen.some((one) => one.includes(Buffer.from(mark).toString('hex'))); i++) {
      seen.push(...await lan.ask<string[]>('sniffed'));
      await sleep(5);
    }
    assert.ok(seen.some((one) => one.includes(Buffer.from(mark).toString('hex'))), 'the harmless one came');
    return seen.some((one) => one.includes(Buffer.from('MARK').toString('hex')));
  };

  for (const [name, frame, count, routerMay] of attacks) {
    test(`on a bridge a VE cannot send ${name}; with the guard off it can`, async () => {
      await lan.ask('sniff', 'eth0');
      const counted = counter(count);
      assert.equal(await reaches(frame(veA.mac)), false);
      assert.ok(counter(count) > counted, 'it was the guard');
      await changed(veA, a, { 'network.guard': 'off' }, async () => assert.equal(await reaches(frame(veA.mac)), true, 'without the guard'));
      assert.equal(await reaches(frame(veA.mac)), false, 'the guard is back');
      await changed(veA, a, { 'network.guard': 'router' }, async () => assert.equal(await reaches(frame(veA.mac)), routerMay === true, 'as a router'));
    });
  }

  test('without the table in the kernel every one of these arrives', async () => {
    sh('nft', 'delete', 'table', 'bridge', 'veld_t1');
    for (const [name, frame] of attacks) assert.equal(await reaches(frame(veA.mac)), true, name);
    await network.setup([veA, veB]);
    for (const [name, frame] of attacks) assert.equal(await reaches(frame(veA.mac)), false, name);
    for (const one of [lan, b]) inside(one, 'ip', 'neigh', 'flush', 'all'); // what they were told
  });

  test('a port of which the firewall has not heard sends nothing', async () => {
    const stranger = await agent();
    const ve = veRecord(110, ['192.0.2.10'], { 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.addresses': ['192.0.2.10/24'] });
    plugLinks(network.plan(ve), stranger, settings.runDir);
    assert.notEqual(await stranger.ask('connect', '192.0.2.9', 80), '192.0.2.10');
    await network.admit(ve);
    assert.equal(await stranger.ask('connect', '192.0.2.9', 80), '192.0.2.10');
    await network.revoke(ve);
    assert.ok(!sh('nft', 'list', 'table', 'bridge', 'veld_t1').includes('vt1-110'));
  });

  test('interfaces come and go while the VE runs; what stays is not touched', async () => {
    await a.ask('keep', '192.0.2.9', 80);
    await changed(veA, a, { 'network.interfaces': ['eth1,address=10.187.0.20', 'eth5,bridge=brA,address=192.0.2.50/24'] }, async (more) => {
      assert.match(inside(a, 'ip', '-br', 'link'), /eth1@.*UP[^]*eth5@.*UP/);
      assert.equal(await b.ask('connect', '10.187.0.20', 80), B4);
      assert.equal(await a.ask('say', 'still here'), 'still here');
      await network.relink(veA, more, a.pid); // again, as after a crash
      a.ip('link del eth5'); // half of it
      await network.relink(veA, more, a.pid);
      assert.equal(await lan.ask('connect', '192.0.2.50', 80), '192.0.2.9');
      assert.equal(await a.ask('say', 'still here'), 'still here');
    });
    assert.doesNotMatch(inside(a, 'ip', '-br', 'link'), /eth1|eth5/);
    assert.deepEqual(readdirSync('/sys/class/net').filter((link) => link.startsWith('vt1-101')), ['vt1-101']);
    assert.doesNotMatch(sh('nft', 'list', 'ruleset'), /vt1-101-/);
    assert.doesNotMatch(inside(a, 'ip', 'rule'), /lookup 100/);
    assert.equal(await a.ask('say', 'still here'), 'still here');
  });

  test('root of the VE cannot hold up a change by renaming or hiding its side', async () => {
    a.ip('link set eth0 down', 'link set eth0 name mine0');
    await changed(veA, a, { 'network.addresses': ['192.0.2.16/24'] }, async () => {
      assert.equal(await lan.ask('connect', '192.0.2.16', 80), '192.0.2.9');
      assert.doesNotMatch(inside(a, 'ip', 'link'), /mine0/);
      a.ip('link del eth0'); // the host's side goes with it
    });
    assert.equal(await a.ask('connect', '192.0.2.9', 80), A4);
  });

  test('a table for bridges that somebody else removed is missed, and made anew for those that are there', async () => {
    assert.deepEqual(await network.mend(), []);
    sh('nft', 'delete', 'table', 'bridge', 'veld_t1');
    assert.deepEqual(await network.mend(), ['the nftables table veld_t1 for bridges']);
    assert.equal(await a.ask('connect', '192.0.2.9', 80), A4);
    await lan.ask('sniff', 'eth0');
    assert.equal(await reaches(attacks[0]![1](veA.mac)), false);
    await createNetwork(settings, () => [veA, veB]).setup(); // another daemon, with other rules perhaps
    assert.equal(await reaches(attacks[0]![1](veA.mac)), false);
    assert.equal(await lan.ask('connect', '192.0.2.6', 80), '192.0.2.9');
  });

  test('rules of a VE hold on every routed interface of it', async () => {
    const ruled = { ...veB, properties: { ...veB.properties, 'network.deny': ['80/tcp'] } };
    assert.equal(await lan.ask('connect', '10.187.0.4', 80), '192.0.2.9');
    await network.guard(veB, ruled);
    for (const to of [B4, '10.187.0.4']) assert.equal(await lan.ask('connect', to, 80), 'ECONNREFUSED', to);
    assert.equal(await lan.ask('connect', '192.0.2.6', 80), '192.0.2.9', 'on a bridge the host has no say');
    await network.guard(ruled, veB);
    assert.equal(await lan.ask('connect', '10.187.0.4', 80), '192.0.2.9');
  });

  test('an interface moves from the host\'s routes to a bridge and back', async () => {
    await changed(veB, b, { 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.addresses': ['192.0.2.7/24'], 'network.interfaces': [] }, async () => {
      assert.equal(await lan.ask('connect', '192.0.2.7', 80), '192.0.2.9');
      assert.doesNotMatch(sh('nft', 'list', 'table', 'inet', 'veld_t1'), /vt1-102/);
      assert.ok(!sh('ip', 'route').includes(B4));
    });
    assert.equal(await b.ask('connect', '198.51.100.2', 80), '198.51.100.1');
    assert.doesNotMatch(sh('nft', 'list', 'set', 'bridge', 'veld_t1', 'ports'), /"vt1-102" /);
    await changed(veB, b, { 'network.mode': 'none', 'network.interfaces': [] }, async () => assert.doesNotMatch(inside(b, 'ip', '-br', 'link'), /eth/));
    assert.equal(await lan.ask('connect', '192.0.2.6', 80), '192.0.2.9');
  });

  test('addresses on a bridge change while the VE runs', async () => {
    await a.ask('keep', '2001:db8:a::9', 80);
    await changed(veA, a, { 'network.addresses': ['192.0.2.15/25', `${A6}/64`] }, async () => {
      assert.equal(await a.ask('connect', '192.0.2.9', 80), '192.0.2.15');
      assert.equal(await a.ask('connect', '198.51.100.2', 80), '192.0.2.15', 'and it has its router again');
      assert.equal(await a.ask('say', 'still here'), 'still here');
    });
    assert.equal(await a.ask('connect', '198.51.100.2', 80), A4);
  });

  test('a VE with addresses by hand takes none from advertisements on its bridge', async () => {
    const advertisement = ethernet(LAN_MAC, GROUP6, 0x86dd, icmp6('fe80::9', 'ff02::1', 134, Buffer.concat([
      Buffer.from([64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]), // a default router for 1800 s
      Buffer.from([3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0xbe, 0xef, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), // 2001:db8:beef::/64
    ])).packet);
    await a.ask('sniff', 'eth0');
    await lan.ask('frames', 'eth0', [advertisement]);
    for (let i = 0; i < 200 && !(await a.ask<string[]>('sniffed')).includes(advertisement); i++) await sleep(5);
    assert.doesNotMatch(inside(a, 'ip', '-6', 'addr') + inside(a, 'ip', '-6', 'route'), /beef|proto ra/);
    inside(a, 'sh', '-c', 'echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_ra');
    await lan.ask('frames', 'eth0', [advertisement]);
    for (let i = 0; i < 200 && !/beef/.test(inside(a, 'ip', '-6', 'addr')); i++) await sleep(5);
    assert.match(inside(a, 'ip', '-6', 'addr'), /beef/, 'it would');
    a.ip('addr flush dev eth0 dynamic', 'route flush ::/0 proto ra');
    inside(a, 'sh', '-c', 'echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_ra');
  });

  test('a whole prefix is routed to a VE, which may use any address of it and none beside it', async () => {
    await changed(veB, b, { 'network.prefixes': ['2001:db8:f::1/64', '203.0.113.64/28'], 'network.interfaces': [] }, async (ve) => {
      assert.equal(await world.ask('connect', '2001:db8:f::1', 80), '2001:db8:1::2', 'the address that is named with it');
      const told = (): number => Number(/^Icmp6InDestUnreachs\s+(\d+)/m.exec(inside(world, 'cat', '/proc/net/snmp6'))?.[1]);
      const before = told();
      await world.ask('connect', '2001:db8:f::abcd', 80);
      assert.ok(told() > before, 'one that nobody in the VE has taken is unreachable'); // once for each SYN
      b.ip('addr add 2001:db8:f::abcd/128 dev lo', 'addr add 203.0.113.70/32 dev lo', 'addr add 2001:db8:e::1/128 dev lo');
      assert.equal(await world.ask('connect', '2001:db8:f::abcd', 80), '2001:db8:1::2');
      assert.equal(await world.ask('connect', '203.0.113.70', 80), '198.51.100.2');
      await world.ask('hear', 91);
      await b.ask('send', '2001:db8:e::1', '2001:db8:1::2', 91, ['forged']);
      await b.ask('send', '2001:db8:f::abcd', '2001:db8:1::2', 91, ['own']);
      await arrived(world, '2001:db8:f::abcd own');
      assert.deepEqual(await world.ask('heard'), []);
      await network.setup(); // the daemon comes back
      assert.equal(await world.ask('connect', '2001:db8:f::abcd', 80), '2001:db8:1::2');
      await network.setup([veA, ve]);
      assert.equal(await world.ask('connect', '203.0.113.70', 80), '198.51.100.2');
      b.ip('addr del 2001:db8:f::abcd/128 dev lo', 'addr del 203.0.113.70/32 dev lo', 'addr del 2001:db8:e::1/128 dev lo');
    });
    assert.doesNotMatch(sh('nft', 'list', 'table', 'inet', 'veld_t1') + sh('ip', '-6', 'route') + sh('ip', 'route') + inside(b, 'ip', '-6', 'route'), /2001:db8:f:|203\.0\.113\.64/);
  });

  test('a small prefix of the uplink\'s subnet is answered for there', async () => {
    await changed(veB, b, { 'network.prefixes': ['2001:db8:1::70/124', '198.51.100.64/30'], 'network.interfaces': [] }, async () => {
      b.ip('addr add 2001:db8:1::7f/128 dev lo', 'addr add 198.51.100.66/32 dev lo');
      // The kernel waits up to 0.8 s before it answers for another (proxy_delay).
      const connected = async (to: string): Promise<string> => {
        const seen = await world.ask<string>('connect', to, 80);
        return seen === 'ETIMEDOUT' ? world.ask<string>('connect', to, 80) : seen;
      };
      assert.equal(await connected('2001:db8:1::7f'), '2001:db8:1::2');
      assert.equal(await connected('198.51.100.66'), '198.51.100.2');
      assert.equal(sh('ip', 'neigh', 'show', 'proxy').trim().split('\n').length, 20);
      b.ip('addr del 2001:db8:1::7f/128 dev lo', 'addr del 198.51.100.66/32 dev lo');
    });
    assert.equal(sh('ip', 'neigh', 'show', 'proxy'), '');
  });

  test('what would meet something else is refused, with the reason', () => {
    const holder = veRecord(120, ['203.0.113.200'], { 'network.addresses': ['203.0.113.200'], 'network.prefixes': ['2001:db8:77::/56'], 'network.interfaces': ['eth1,bridge=brA,address=192.0.2.77/24,mac=02:00:00:00:77:77'] });
    const refused: [properties: Record<string, unknown>, code: string, message: RegExp][] = [
      [{ 'network.mode': 'bridge' }, 'property.invalid', /needs the name of a bridge/],
      [{ 'network.addresses': ['192.0.2.5/24'] }, 'property.invalid', /eth0 is routed/],
      [{ 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.addresses': ['192.0.2.5'] }, 'property.invalid', /need the length/],
      [{ 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.addresses': ['192.0.2.255/24'] }, 'property.invalid', /broadcast/],
      [{ 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.addresses': ['192.0.2.5/24'], 'network.gateway': ['192.0.3.1'] }, 'property.invalid', /no subnet of eth0/],
      [{ 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.addresses': ['192.0.2.5/24'], 'network.gateway': ['192.0.2.1', '192.0.2.2'] }, 'property.invalid', /two IPv4 gateways/],
      [{ 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.gateway': ['192.0.2.1'] }, 'property.invalid', /by DHCP/],
      [{ 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.addresses': ['192.0.2.77/24'] }, 'address.taken', /ve120.*brA/],
      [{ 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.addresses': ['192.0.2.1/24'] }, 'address.taken', /host's own, on brA/],
      [{ 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.mac': '02:00:00:00:77:77' }, 'address.taken', /link-layer address/],
      [{ 'network.mode': 'bridge', 'network.bridge': 'brA', 'network.deny': ['80/tcp'] }, 'property.invalid', /network\.deny is held where the host routes/],
      [{ 'network.mac': '02:76:65:6c:64:01' }, 'property.invalid', /host's side/],
      [{ 'network.interfaces': ['eth1'] }, 'property.invalid', /neither a bridge nor an address/],
      [{ 'network.interfaces': ['eth1,address=auto'] }, 'property.invalid', /no DHCP/],
      [{ 'network.interfaces': ['eth1,address=10.0.0.1,gateway=10.0.0.2'] }, 'property.invalid', /its gateway is the host/],
      [{ 'network.interfaces': ['eth1,address=10.0.0.1,guard=off'] }, 'property.invalid', /only its own addresses/],
      [{ 'network.interfaces': ['eth1,address=10.0.0.1', 'eth1,address=10.0.0.2'] }, 'property.invalid', /eth1 twice/],
      [{ 'network.interfaces': ['eth1,address=203.0.113.200'] }, 'address.taken', /another VE/],
      [{ 'network.interfaces': ['eth1,bridge=brA,prefix=10.0.0.0/24'] }, 'property.invalid', /only to routed/],
      [{ 'network.addresses': ['2001:db8:77:5::1'] }, 'address.taken', /prefix of ve120/],
      [{ 'network.prefixes': ['2001:db8:77:5::/64'] }, 'address.taken', /overlaps one of ve120/],
      [{ 'network.prefixes': ['203.0.113.192/28'] }, 'address.taken', /holds 203\.0\.113\.200 of ve120/],
      [{ 'network.prefixes': ['10.187.8.0/24'] }, 'address.taken', /overlaps the pool/],
      [{ 'network.prefixes': ['2001:db8:1::/64'] }, 'address.taken', /host's own address/],
      [{ 'network.prefixes': ['2001:db8:1::1:0/112'] }, 'address.taken', /too large/],
      [{ 'network.prefixes': ['198.51.100.0/30'] }, 'address.taken', /host's own address 198\.51\.100\.1/],
      [{ 'network.prefixes': ['2001:db8:d::/48'] }, 'address.taken', /2001:db8:d:1::\/64, which the host routes to up0/],
      [{ 'network.prefixes': ['100.99.0.0/16'] }, 'address.taken', /100\.99\.3\.0\/24, which the host routes to up0/],
      [{ 'network.prefixes': ['2001:db8:9::/64', '2001:db8:9::/65'] }, 'property.invalid', /same VE/],
    ];
    sh('ip', 'route', 'add', '2001:db8:d:1::/64', 'via', '2001:db8:1::2');
    sh('ip', 'route', 'add', '100.99.3.0/24', 'via', '198.51.100.2');
    for (const [properties, code, message] of refused) {
      assert.throws(() => network.assign(veRecord(121, [], properties), [veA, veB, holder]), { code, message }, JSON.stringify(properties));
    }
    sh('ip', 'route', 'del', '2001:db8:d:1::/64');
    sh('ip', 'route', 'del', '100.99.3.0/24');
    const fine = { 'network.mode': 'bridge', 'network.bridge': 'brB', 'network.addresses': ['192.0.2.77/24'], 'network.gateway': ['fe80::1', '192.0.2.1'], 'network.interfaces': ['eth1,prefix=2001:db8:78::/56', 'eth2,bridge=brA'] };
    assert.deepEqual(network.assign(veRecord(121, [], fine), [veA, veB, holder]), ['192.0.2.77'], 'the same address on another bridge');
    assert.deepEqual(network.assign(veRecord(121, [], { 'network.mode': 'none' }), [holder]), []);
    assert.equal(network.assign(veRecord(121, []), [holder]).length, 2, 'of each pool');
    assert.deepEqual(network.assign(veRecord(121, []), [], veRecord(121, ['10.187.9.9'])), ['10.187.9.9'], 'what the pools gave stays');
  });

  test('a bridge that is missing, is none, or carries less, is named', async () => {
    const on = (bridge: string, mtu?: number): VeRecord => veRecord(122, [], { 'network.mode': 'bridge', 'network.bridge': bridge, 'network.mtu': mtu ?? null });
    assert.throws(() => network.ready(on('nosuch')), { code: 'network.no_bridge', message: /nosuch.*does not exist/ });
    assert.throws(() => network.ready(on('up0')), { code: 'network.no_bridge', message: /is no bridge/ });
    assert.throws(() => network.ready(on('brA', 9000)), { code: 'network.no_bridge', message: /9000.*1500/ });
    network.ready(on('brA', 1400));
    await assert.rejects(network.relink(veA, { ...veA, properties: { ...veA.properties, 'network.bridge': 'nosuch' } }, a.pid), { code: 'network.no_bridge' });
    assert.equal(await a.ask('connect', '192.0.2.9', 80), A4, 'nothing has changed');
  });

  test('packets of the MTU pass whole, of larger ones both sides are told', async () => {
    await Promise.all([b.ask('measure', 70), world.ask('measure', 70), lan.ask('measure', 70)]);
    for (const [there, back] of [['198.51.100.2', B4], ['2001:db8:1::2', 'fd5e:1d00:187::3']] as const) {
      await changed(veB, b, { 'network.mtu': 1400 }, async () => {
        await b.ask('probe', there, 70);
        assert.equal(await b.ask('fits', 1400), 'answered');
        assert.equal(await b.ask('fits', 1401), 1400, 'its own link');
        await world.ask('probe', back, 70);
        assert.equal(await world.ask('fits', 1400), 'answered');
        assert.equal(await world.ask('fits', 1401), 1400, 'the host told the world');
        inside(world, 'ip', 'route', 'flush', 'cache');
        sh('nsenter', '-t', String(world.pid), '-n', 'ip', '-6', 'route', 'flush', 'cache');
      });
      await changed(veB, b, { 'network.mtu': 9000 }, async () => {
        await b.ask('probe', there, 70);
        assert.equal(await b.ask('fits', 1500), 'answered');
        assert.equal(await b.ask('fits', 9000), 1500, 'the host told the VE what the uplink carries');
        inside(b, 'ip', 'route', 'flush', 'cache');
        inside(b, 'ip', '-6', 'route', 'flush', 'cache');
      });
      await ipBatch(['link set up0 mtu 9000']);
      world.ip('link set eth0 mtu 9000');
      await changed(veB, b, { 'network.mtu': 9000 }, async () => {
        await b.ask('probe', there, 70);
        assert.equal(await b.ask('fits', 9000), 'answered');
        await world.ask('probe', back, 70);
        assert.equal(await world.ask('fits', 9000), 'answered');
      });
      await world.ask('probe', back, 70);
      assert.equal(await world.ask('fits', 9000), 1500, 'the MTU is as before');
      await ipBatch(['link set up0 mtu 1500']);
      world.ip('link set eth0 mtu 1500');
      for (const one of [b, world]) for (const family of ['-4', '-6']) inside(one, 'ip', family, 'route', 'flush', 'cache');
    }
  });

  test('on a bridge the port keeps the bridge\'s MTU, whatever the VE has', async () => {
    await changed(veA, a, { 'network.mtu': 1400 }, async () => {
      assert.equal(readFileSync('/sys/class/net/brA/mtu', 'utf8').trim(), '1500');
      assert.match(inside(a, 'ip', 'link', 'show', 'eth0'), /mtu 1400/);
      await a.ask('probe', '192.0.2.9', 70);
      assert.equal(await a.ask('fits', 1400), 'answered');
      assert.equal(await a.ask('fits', 1401), 1400);
    });
    await a.ask('probe', '192.0.2.9', 70);
    assert.equal(await a.ask('fits', 1500), 'answered');
  });

  test('admitting a VE with a prefix stays quick beside 500 others', async (t) => {
    const measure = async (): Promise<number> => {
      const times: number[] = [];
      for (let i = 0; i < 9; i++) {
        const ve = veRecord(200 + i, [], { 'network.prefixes': [`2001:db8:200:${i}::/64`], 'network.interfaces': [`eth1,bridge=brA,address=192.0.2.${100 + i}/24`] });
        const started = performance.now();
        await network.admit(ve);
        times.push(performance.now() - started);
        await network.revoke(ve);
      }
      return Math.min(...times); // whatever else the machine does, it does not do it all the time
    };
    const few = await measure();
    await network.setup([veA, veB, ...Array.from({ length: 500 }, (_, i) => veRecord(1000 + i, [], { 'network.prefixes': [`2001:db8:100:${i.toString(16)}::/64`], 'network.interfaces': [`eth1,bridge=brA,address=10.9.${i >> 8}.${i & 255}/16`] }))]);
    const many = await measure();
    t.diagnostic(`admit ${few.toFixed(1)} ms, beside 500 VEs with prefixes and ports ${many.toFixed(1)} ms`);
    // libnftables reads the table before each change; a list of links that is gone through for each of them would cost a second.
    assert.ok(many < 3 * few + 100, `admit grew from ${few} to ${many} ms`);
    await network.setup([veA, veB]);
  });

  test('revoke takes every link, teardown both tables', async () => {
    await network.revoke(veB);
    await network.revoke(veB);
    assert.deepEqual(readdirSync('/sys/class/net').filter((link) => link.startsWith('vt1-')), ['vt1-101']);
    // What a VE has sent and received stays counted while it is at rest.
    const rules = sh('nft', 'list', 'ruleset').replaceAll(/^table \w+ \w+_kept \{[^]*?^\}/gm, '');
    assert.doesNotMatch(rules, /vt1-102/);
    assert.doesNotMatch(rules, new RegExp(macB1()));
    await network.teardown();
    assert.deepEqual(readdirSync('/sys/class/net').filter((link) => link.startsWith('vt1')), []);
    assert.equal(sh('nft', 'list', 'tables'), '');
    assert.ok(readdirSync('/sys/class/net').includes('brA'), 'bridges belong to the host');
  });
}
