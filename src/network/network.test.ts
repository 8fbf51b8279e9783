/** The whole network on real kernel objects. It runs in a network namespace of its own, which takes everything with it at the end. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ipBatch } from '../kernel/links.ts';
import { defaultSettings } from '../lib/settings.ts';
import type { Settings } from '../lib/settings.ts';
import type { VeRecord } from '../store/types.ts';
import { createNetwork } from './network.ts';
import { plugLinks, testInNamespace, startAgent, veRecord } from './testing/agents.ts';
import type { Agent } from './testing/agents.ts';
import type { NetworkManager } from './types.ts';
import { until } from '../../test/lib/wait.ts';

testInNamespace('the network of VEs', import.meta.filename, inNamespace);

function inNamespace(): void {
  const A4 = '10.187.0.2';
  const A6 = 'fd5e:1d00:187::2';
  const B4 = '10.187.0.3';
  const B6 = 'fd5e:1d00:187::3';
  let settings: Settings;
  let network: NetworkManager;
  let a: Agent;
  let b: Agent;
  let world: Agent;
  const agents: Agent[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'veld-t1-'));

  const sh = (file: string, ...args: string[]): string => execFileSync(file, args, { encoding: 'utf8' });
  const ve = (number: number, ...addresses: string[]): VeRecord => veRecord(number, addresses);
  const veA = ve(101, A4, A6);
  const veB = ve(102, B4, B6);
  const counter = (name: string): number => Number(/packets (\d+)/.exec(sh('nft', 'list', 'counter', 'inet', 'veld_t1', name))?.[1]);
  const build = (record: VeRecord, agent: Agent): number => plugLinks(network.plan(record), agent, folder);
  const make = (network_: Partial<Settings['network']> = {}): NetworkManager => createNetwork({ ...settings, network: { ...settings.network, ...network_ } });
  /** Do something with the guard against forged sources switched off. */
  const withoutGuard = async (work: () => Promise<void>): Promise<void> => {
    sh('nft', 'insert', 'rule', 'inet', 'veld_t1', 'from_ve', 'accept');
    try {
      await work();
    } finally {
      await network.setup();
    }
  };

  before(async () => {
    settings = { ...defaultSettings('t1'), runDir: folder };
    for (let i = 0; i < 3; i++) agents.push(await startAgent());
    [a, b, world] = agents as [Agent, Agent, Agent];
    await ipBatch([`link add up0 type veth peer name eth0 netns ${world.pid}`, 'link set up0 up',
      'addr add 198.51.100.1/24 dev up0', 'addr add 2001:db8:1::1/64 dev up0 nodad']);
    world.ip('link set lo up', 'link set eth0 up', 'addr add 198.51.100.2/24 dev eth0', 'addr add 2001:db8:1::2/64 dev eth0 nodad');
    await ipBatch(['route add default via 198.51.100.2', 'route add default via 2001:db8:1::2']);
    await sleep(100); // carrier
    network = make();
    await network.setup();
    await Promise.all([network.admit(veA), network.admit(veB)]);
    build(veA, a);
    build(veB, b);
    await Promise.all(agents.map((agent) => agent.ask('serve', 80)));
    await b.ask('hear', 9);
  });
  after(async () => {
    for (const agent of agents) agent.stop();
    await network.teardown();
    rmSync(folder, { recursive: true, force: true });
  });

  const fromHost = async (host: string): Promise<string> => {
    const { stdout } = spawnSync(process.execPath, ['-e',
      `const s=require('net').connect({host:'${host}',port:80,timeout:700});s.on('data',d=>{process.stdout.write(d);s.destroy()});s.on('timeout',()=>process.exit(1));s.on('error',e=>{process.stdout.write(e.code)})`], { encoding: 'utf8' });
    return stdout.trim();
  };

  test('the host reaches VEs, and they each other, over both families', async () => {
    assert.equal(await fromHost(A4), '10.187.0.1');
    assert.equal(await fromHost(A6), 'fd5e:1d00:187::1');
    assert.equal(await a.ask('connect', B4, 80), A4);
    assert.equal(await a.ask('connect', B6, 80), A6);
    assert.equal(await a.ask('connect', '127.0.0.1', 80), '127.0.0.1');
  });

  test('VEs reach the world: through NAT from private pools', async () => {
    assert.equal(await a.ask('connect', '198.51.100.2', 80), '198.51.100.1');
    assert.equal(await a.ask('connect', '2001:db8:1::2', 80), '2001:db8:1::1');
  });

  test('VEs may not open connections to the host, unless veToHost is set', async () => {
    await world.ask('serve', 81);
    const server = (await import('node:net')).createServer((socket) => socket.end('host\n')).listen(22, '::');
    try {
      for (const address of ['10.187.0.1', 'fd5e:1d00:187::1', '198.51.100.1', '2001:db8:1::1']) assert.equal(await a.ask('connect', address, 22), 'ECONNREFUSED', address);
      assert.ok(counter('refused_to_host') >= 4);
      await make({ veToHost: true }).setup();
      assert.equal(await a.ask('connect', '10.187.0.1', 22), 'host');
      assert.equal(await a.ask('connect', 'fd5e:1d00:187::1', 22), 'host');
    } finally {
      server.close();
      await network.setup();
    }
  });

  test('forged source addresses are dropped and counted; without the guard they pass', async () => {
    a.ip('addr add 10.187.0.77/32 dev eth0', 'addr add fd5e:1d00:187::77/128 dev eth0 nodad');
    const forge = async (): Promise<string[]> => {
      await a.ask('send', '10.187.0.77', B4, 9, ['forged4']);
      await a.ask('send', 'fd5e:1d00:187::77', B6, 9, ['forged6']);
      await a.ask('send', A4, B4, 9, ['true4']);
      await sleep(60);
      return (await b.ask<string[]>('heard')).toSorted();
    };
    const counted = counter('forged');
    assert.deepEqual(await forge(), [`${A4} true4`]);
    assert.ok(counter('forged') >= counted + 2);
    await withoutGuard(async () => assert.deepEqual(await forge(), [`${A4} true4`, '10.187.0.77 forged4', 'fd5e:1d00:187::77 forged6']));
    a.ip('addr del 10.187.0.77/32 dev eth0', 'addr del fd5e:1d00:187::77/128 dev eth0');
  });

  test('a forged link-layer address is dropped; without the guard it passes', async () => {
    const gateway = ['neigh replace 10.187.0.1 lladdr 02:76:65:6c:64:01 dev eth0 nud permanent', 'neigh replace fe80::1 lladdr 02:76:65:6c:64:01 dev eth0 nud permanent'];
    a.ip('link set eth0 address 02:00:00:00:99:99', ...gateway);
    const counted = counter('forged');
    await a.ask('send', A4, B4, 9, ['mac']);
    await a.ask('send', A6, B6, 9, ['mac']);
    await sleep(60);
    assert.deepEqual(await b.ask('heard'), []);
    assert.ok(counter('forged') >= counted + 2);
    await withoutGuard(async () => {
      await a.ask('send', A4, B4, 9, ['mac']);
      await sleep(60);
      assert.deepEqual(await b.ask('heard'), [`${A4} mac`]);
    });
    a.ip(`link set eth0 address ${veA.mac}`, ...gateway);
    assert.equal(await a.ask('connect', B4, 80), A4);
  });

  test('the host takes no route from a router advertisement of a VE, even where its settings would; without the guard it does', async () => {
    writeFileSync('/proc/sys/net/ipv6/conf/vt1-101/accept_ra', '2');
    const learned = (): string => sh('ip', '-6', 'route', 'show', 'default', 'dev', 'vt1-101');
    assert.equal(await a.ask('advertise'), 16);
    await sleep(60);
    assert.equal(learned(), '');
    sh('nft', 'flush', 'chain', 'inet', 'veld_t1', 'from_ve_checked');
    sh('nft', 'flush', 'chain', 'inet', 'veld_t1', 'to_host'); // the second wall
    await a.ask('advertise');
    await sleep(60);
    assert.match(learned(), /proto ra/);
    writeFileSync('/proc/sys/net/ipv6/conf/vt1-101/accept_ra', '0');
    sh('ip', '-6', 'route', 'del', 'default', 'dev', 'vt1-101');
    await network.setup();
  });

  test('a VE cannot fill the host\'s ARP table, nor get an answer for the host\'s other addresses', async () => {
    a.ip('neigh add 198.51.100.1 dev eth0 nud incomplete', 'neigh del 10.187.0.1 dev eth0');
    for (let i = 0; i < 5; i++) a.ip(`addr add 10.66.0.${i}/32 dev eth0`);
    assert.match(await a.ask<string>('connect', B4, 80), /EHOSTUNREACH|ETIMEDOUT/); // asks by ARP, in vain
    const table = sh('ip', '-4', 'neigh', 'show', 'dev', 'vt1-101').trim().split('\n');
    assert.deepEqual(table.map((line) => line.split(' ')[0]), [A4]);
    for (let i = 0; i < 5; i++) a.ip(`addr del 10.66.0.${i}/32 dev eth0`);
    a.ip('neigh replace 10.187.0.1 lladdr 02:76:65:6c:64:01 dev eth0 nud permanent');
    assert.equal(await a.ask('connect', B4, 80), A4);
  });

  test('metadata services of clouds are out of reach, the resolver at the same address is not', async () => {
    world.ip('addr add 169.254.169.254/32 dev eth0');
    await ipBatch(['route add 169.254.169.254/32 via 198.51.100.2']);
    await world.ask('serve', 53);
    assert.equal(await fromHost('169.254.169.254'), '198.51.100.1');
    assert.equal(await a.ask('connect', '169.254.169.254', 80), 'ETIMEDOUT');
    assert.equal(await a.ask('connect', '169.254.169.254', 53), '198.51.100.1');
  });

  test('veToVe off: VEs do not reach each other, but the world and the host them', async () => {
    await make({ veToVe: false }).setup();
    assert.equal(await a.ask('connect', B4, 80), 'ECONNREFUSED');
    assert.equal(await a.ask('connect', B6, 80), 'ECONNREFUSED');
    assert.ok(counter('refused_to_ve') >= 2);
    assert.equal(await fromHost(A4), '10.187.0.1');
    assert.equal(await a.ask('connect', '198.51.100.2', 80), '198.51.100.1');
    await network.setup();
    assert.equal(await a.ask('connect', B4, 80), A4);
  });

  test('addresses change live, and the connection over a kept one goes on', async () => {
    await a.ask('keep', B4, 80);
    const changed = { ...veA, addresses: [A4, '10.187.0.9', 'fd5e:1d00:187::9'] };
    await network.relink(veA, changed, a.pid);
    assert.equal(await fromHost('10.187.0.9'), '10.187.0.1');
    assert.equal(await fromHost('fd5e:1d00:187::9'), 'fd5e:1d00:187::1');
    assert.notEqual(await fromHost(A6), 'fd5e:1d00:187::1');
    assert.equal(await b.ask('connect', 'fd5e:1d00:187::9', 80), B6);
    assert.equal(await a.ask('say', 'still here'), 'still here');
    assert.ok(!sh('nft', 'list', 'table', 'inet', 'veld_t1').includes(`${A6},`));
    await network.relink(changed, { ...veA, addresses: [] }, a.pid);
    assert.equal(sh('nft', 'list', 'table', 'inet', 'veld_t1').includes('"vt1-101" . 02:00:00:00:00:65 . 10.'), false);
    await network.relink({ ...veA, addresses: [] }, veA, a.pid);
    await network.relink({ ...veA, addresses: [] }, veA, a.pid); // may be repeated
    assert.equal(await a.ask('connect', B6, 80), A6);
    assert.equal(await a.ask('connect', '198.51.100.2', 80), '198.51.100.1');
  });

  test('addresses by hand in the uplink\'s subnet are answered for there, without NAT', async () => {
    const wanted = { ...veB, properties: { 'network.addresses': [...veB.addresses, '198.51.100.50', '2001:0db8:1::50'] } };
    const byHand = { ...wanted, addresses: network.assign(wanted, [veA]) };
    await network.relink(veB, byHand, b.pid);
    assert.match(await world.ask<string>('connect', '198.51.100.50', 80), /^198\.51\.100\.2$/);
    assert.equal(await world.ask('connect', '2001:db8:1::50', 80), '2001:db8:1::2');
    await network.setup([veA, veB]); // the daemon came back, and the addresses were taken away meanwhile
    assert.equal(sh('ip', 'neigh', 'show', 'proxy'), '');
    await network.relink(byHand, veB, b.pid);
    const only = { ...veB, addresses: ['198.51.100.50'] };
    await network.relink(veB, only, b.pid);
    assert.equal(await b.ask('connect', '198.51.100.2', 80), '198.51.100.50');
    await network.relink(only, veB, b.pid);
    assert.equal(sh('ip', 'neigh', 'show', 'proxy'), '');
  });

  test('setup again and again loses no packet and no connection', async () => {
    await a.ask('keep', '198.51.100.2', 80); // over NAT
    await b.ask('heard');
    const texts = Array.from({ length: 300 }, (_, i) => String(i));
    const state = { done: false, setups: 0, sent: 0 };
    const sending = (async () => {
      do {
        await a.ask('send', A4, B4, 9, texts);
        state.sent += texts.length;
      } while (state.setups < 3);
      state.done = true;
    })();
    while (!state.done) {
      await network.setup(state.setups % 2 === 0 ? undefined : [veA, veB]);
      state.setups += 1;
    }
    await sending;
    let heard = 0;
    await until('all that was sent', async () => (heard += (await b.ask<string[]>('heard')).length) >= state.sent);
    assert.equal(heard, state.sent);
    assert.equal(await a.ask('say', 'still here'), 'still here');
    const table = sh('nft', 'list', 'table', 'inet', 'veld_t1');
    await network.setup();
    assert.equal(sh('nft', 'list', 'table', 'inet', 'veld_t1').replaceAll(/packets \d+ bytes \d+/g, ''), table.replaceAll(/packets \d+ bytes \d+/g, ''));
  });

  test('traffic is counted as the VE sees it', async () => {
    const was = network.traffic(veA);
    await a.ask('send', A4, B4, 9, Array.from({ length: 20 }, () => 'x'.repeat(1000)));
    const is = network.traffic(veA);
    assert.ok(was && is);
    assert.ok(is.txBytes - was.txBytes >= 20_000 && is.txPackets - was.txPackets >= 20);
    assert.ok(is.rxBytes - was.rxBytes < 5000);
    assert.equal(network.traffic(ve(999)), undefined);
  });

  test('starting a VE and admitting it are quick, also beside 500 others', async (t) => {
    const others = Array.from({ length: 500 }, (_, i) => ve(1000 + i, `10.187.${8 + (i >> 8)}.${i & 255}`, `fd5e:1d00:187::8:${i.toString(16)}`));
    const extra = await startAgent();
    agents.push(extra);
    const measure = async (): Promise<[number, number]> => {
      const admits: number[] = [];
      const builds: number[] = [];
      for (let i = 0; i < 5; i++) {
        const record = ve(200 + i, `10.187.1.${i}`, `fd5e:1d00:187::1:${i}`);
        const started = performance.now();
        await network.admit(record);
        admits.push(performance.now() - started);
        builds.push(build(record, extra));
        await network.revoke(record);
      }
      return [admits.toSorted((x, y) => x - y)[2] as number, builds.toSorted((x, y) => x - y)[2] as number];
    };
    const few = await measure();
    await network.setup([veA, veB, ...others]);
    const many = await measure();
    t.diagnostic(`admit ${few[0].toFixed(1)} ms, beside 500 VEs ${many[0].toFixed(1)} ms; both batches ${few[1].toFixed(1)} ms, ${many[1].toFixed(1)} ms`);
    assert.ok(many[0] < 3 * few[0] + 10, `admit grew from ${few[0]} to ${many[0]} ms`);
    await network.setup([veA, veB]);
  });

  test('revoke takes what is there, and may be repeated', async () => {
    const extra = await startAgent();
    agents.push(extra);
    const record = ve(300, '10.187.3.1', '198.51.100.60');
    await network.admit(record);
    build(record, extra);
    await network.revoke(record);
    await network.revoke(record);
    assert.ok(!readdirSync('/sys/class/net').includes('vt1-300'));
    assert.ok(!sh('nft', 'list', 'table', 'inet', 'veld_t1').includes('vt1-300'));
    assert.equal(sh('ip', 'neigh', 'show', 'proxy'), '');
    assert.ok(!sh('ip', 'route').includes('10.187.3.1'));
  });

  test('another instance with the same pool, or a pool that holds a host\'s subnet, is refused', async () => {
    const other = { ...defaultSettings('t2'), runDir: folder };
    await assert.rejects(createNetwork(other).setup(), { code: 'daemon.instance_overlap', message: /vt1gw/ });
    other.network = { ...other.network, pools: ['198.51.100.0/24'] };
    await assert.rejects(createNetwork(other).setup(), { code: 'daemon.instance_overlap', message: /198\.51\.100\.1/ });
    assert.ok(!sh('nft', 'list', 'tables').includes('veld_t2'));
  });

  test('warnings name firewalls that drop, missing uplinks, forwarding', async () => {
    assert.deepEqual(await network.warnings(), []);
    const nft = (script: string): string => execFileSync('nft', ['-f', '-'], { input: script, encoding: 'utf8' });
    nft('table ip filter { chain DOCKER-USER { }\n chain FORWARD { type filter hook forward priority filter; policy drop; }\n}\n');
    assert.match((await network.warnings()).join(), /ip filter FORWARD.*Docker.*iptables -I DOCKER-USER -i vt1-\+ -j ACCEPT/);
    nft('add rule ip filter DOCKER-USER iifname "vt1-*" accept');
    assert.deepEqual(await network.warnings(), []);
    nft('delete table ip filter');
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '0');
    assert.match((await network.warnings()).join(), /ip_forward is off/);
    const lost = make({ uplinks: ['nosuch0'] });
    assert.match((await lost.warnings()).join(), /nosuch0 does not exist/);
    await network.setup();
    assert.deepEqual(await network.warnings(), []);
  });

  test('setup records what it changed, and keeps routes learned by router advertisement', () => {
    const { sysctls } = JSON.parse(readFileSync(join(folder, 'network.json'), 'utf8')) as { sysctls: { name: string; after: string }[] };
    const names = sysctls.map(({ name, after: value }) => `${name}=${value}`);
    assert.ok(names.includes('net/ipv6/conf/all/forwarding=1'));
    assert.ok(names.includes('net/ipv6/conf/up0/accept_ra=2'), names.join());
    assert.ok(names.indexOf('net/ipv6/conf/up0/accept_ra=2') < names.indexOf('net/ipv6/conf/all/forwarding=1'));
  });

  test('the uplink follows the default route', async () => {
    const reports: (readonly string[])[] = [];
    const end = network.follow((error, uplinks) => {
      assert.ifError(error);
      reports.push(uplinks);
    }, 20);
    try {
      sh('ip', 'link', 'add', 'up1', 'type', 'bridge');
      sh('ip', 'addr', 'add', '203.0.113.1/24', 'dev', 'up1');
      sh('ip', 'link', 'set', 'up1', 'up');
      sh('ip', 'route', 'add', 'default', 'via', '203.0.113.2', 'metric', '50');
      await until('the new uplink', () => /oifname \{ "up0", "up1" \} ip saddr/.test(sh('nft', 'list', 'table', 'inet', 'veld_t1')));
      assert.equal(await a.ask('connect', B4, 80), A4, 'who was let in stays let in');
      sh('ip', 'link', 'del', 'up1');
      await until('the old one', () => !sh('nft', 'list', 'table', 'inet', 'veld_t1').includes('up1'));
      await until('both reports', () => reports.length >= 2);
      assert.deepEqual(reports.map((links) => [...links].sort()), [['up0', 'up1'], ['up0']]);
    } finally {
      end();
    }
  });

  test('a setup that failed is tried again, by itself and when a VE starts', async () => {
    const other = createNetwork({ ...settings, instance: 't2', network: { ...settings.network, pools: ['10.189.0.0/24'] } });
    const foreign = ['10.189.0.0/25', 'dev', 'up0'];
    sh('ip', 'route', 'add', ...foreign);
    await assert.rejects(other.setup(), { code: 'daemon.instance_overlap' });
    await assert.rejects(other.admit({ ...veA, addresses: ['10.189.0.2'] }), { code: 'daemon.instance_overlap' });
    const outcomes: (Error | undefined)[] = [];
    const end = other.follow((error) => outcomes.push(error), 20);
    try {
      await until('a second failure', () => outcomes.length >= 2);
      assert.ok(outcomes.every((outcome) => outcome !== undefined));
      sh('ip', 'route', 'del', ...foreign);
      await other.admit({ ...veA, addresses: ['10.189.0.2'] });
      assert.match(sh('nft', 'list', 'set', 'inet', 'veld_t2', 'sources4'), /10\.189\.0\.2/);
      await until('the report of the setup that the VE made', () => outcomes.at(-1) === undefined);
      end();
      await other.teardown();
      const fresh = createNetwork({ ...settings, instance: 't2', network: { ...settings.network, pools: ['10.189.0.0/24'] } });
      const ready = new Promise<Error | undefined>((resolve) => { fresh.follow(resolve, 20); });
      assert.equal(await ready, undefined);
      assert.match(sh('ip', 'addr', 'show', 'vt2gw'), /10\.189\.0\.1/);
    } finally {
      end();
      await other.teardown();
    }
  });

  test('changed pools move the gateway; teardown leaves nothing', async () => {
    const moved = make({ pools: ['10.188.0.0/16'] });
    await moved.setup([]);
    assert.match(sh('ip', 'addr', 'show', 'vt1gw'), /10\.188\.0\.1/);
    assert.doesNotMatch(sh('ip', 'addr', 'show', 'vt1gw') + sh('ip', 'route'), /10\.187\.0\.(1|0)\/|10\.187\.0\.0/);
    await network.setup([veA, ve(400, '198.51.100.70')]);
    await network.teardown();
    await network.teardown();
    assert.deepEqual(readdirSync('/sys/class/net').filter((link) => link.startsWith('vt1')), []);
    assert.equal(sh('nft', 'list', 'tables'), '');
    assert.doesNotMatch(sh('ip', 'route') + sh('ip', '-6', 'route') + sh('ip', 'neigh', 'show', 'proxy'), /10\.18[78]|fd5e|198\.51\.100\.70/);
    assert.deepEqual(readdirSync(folder).filter((file) => file.startsWith('network')), []);
  });
}
