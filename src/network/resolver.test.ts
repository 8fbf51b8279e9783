/** The resolver on real kernel objects, in a network namespace of its own, with a mount namespace for the host's resolv.conf; and what its files say. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { dnsmasqProgram, runningDnsmasq } from '../kernel/dnsmasq.ts';
import { isAlive } from '../kernel/process.ts';
import type { VeRecord } from '../store/types.ts';
import { parsePrefix } from './ip.ts';
import type { Prefix } from './ip.ts';
import { namesOf } from './names.ts';
import { parsePools } from './pools.ts';
import { createNameService } from './resolver.ts';
import type { NameService } from './resolver.ts';
import { OUTSIDE, testInNamespace } from './testing/agents.ts';
import type { Agent } from './testing/agents.ts';
import { HOST4, HOST6, WORLD4, makeLab } from './testing/lab.ts';
import type { Lab } from './testing/lab.ts';
import { hostsFiles, reverseZone, upstreamFile, zoneConfig } from './zone.ts';

const A4 = '10.187.0.2';
const A6 = 'fd5e:1d00:187::2';
const B4 = '10.187.0.3';
const B6 = 'fd5e:1d00:187::3';
const G4 = '10.187.0.1';
const G6 = 'fd5e:1d00:187::1';

testInNamespace('the resolver for VEs', import.meta.filename, inNamespace, dnsmasqProgram() === undefined ? 'needs dnsmasq' : false);
if (OUTSIDE) files();

function files(): void {
  test('zones of addresses, where a prefix falls on a label', () => {
    assert.equal(reverseZone(parsePrefix('10.187.0.0/16') as Prefix), '187.10.in-addr.arpa');
    assert.equal(reverseZone(parsePrefix('fd5e:1d00:187::/64') as Prefix), '0.0.0.0.7.8.1.0.0.0.d.1.e.5.d.f.ip6.arpa');
    assert.equal(reverseZone(parsePrefix('10.187.0.0/20') as Prefix), undefined);
  });

  test('each VE has a file of its own, but for those half made', () => {
    const ve = (number: number, ready: boolean, properties = {}): VeRecord => ({
      uuid: `u${number}`, number, name: `v${number}`, ready, mac: '02:00:00:00:00:01', addresses: ['10.0.0.9', 'fd00:0::9'], properties,
    }) as unknown as VeRecord;
    const ves = [ve(101, true), ve(102, false), ve(103, true, { 'network.mode': 'bridge', 'network.bridge': 'br0', 'network.addresses': ['192.0.2.5/24'] }),
      ve(104, true, { 'network.mode': 'bridge', 'network.bridge': 'br0' })];
    const found = hostsFiles(ves, 'x.internal', parsePools(['10.0.0.0/24']), { names: namesOf('t1'), ipv6: true });
    assert.deepEqual([...found], [['host', '10.0.0.1 host.x.internal\n'], ['101', '10.0.0.9 v101.x.internal\nfd00::9 v101.x.internal\n'], ['103', '192.0.2.5 v103.x.internal\n'], ['104', '']]);
  });

  test('the configuration listens on the gateways alone, and serves nothing but names', () => {
    const text = zoneConfig({ domain: 'x.internal', pools: parsePools(['10.0.0.0/24', '203.0.113.0/24']), hosts: '/h', upstream: '/r', user: 'nobody' });
    for (const line of ['listen-address=10.0.0.1', 'listen-address=203.0.113.1', 'bind-interfaces', 'no-hosts', 'local=/x.internal/', 'local=/0.0.10.in-addr.arpa/', 'user=nobody']) assert.ok(text.split('\n').includes(line), line);
    assert.doesNotMatch(text, /113\.0\.203|dhcp|tftp|^interface/m);
  });

  test('the resolvers behind a stub are preferred to the stub', () => {
    assert.equal(upstreamFile('/nonexistent', '/etc/resolv.conf'), '/etc/resolv.conf');
  });
}

function inNamespace(): void {
  let lab: Lab;
  let names: NameService;
  let a: Agent;
  let b: Agent;
  let folder: string;
  const resolvConf = '/run/veld-test-etc/resolv.conf';
  const upstream = (address: string): void => {
    writeFileSync('/run/veld-test-etc/new', `nameserver ${address}\n`);
    renameSync('/run/veld-test-etc/new', resolvConf);
  };
  /** A name that is known; asked again, since a busy machine may answer late. */
  const found = async (server: string): Promise<unknown> => {
    let answer: unknown;
    for (let i = 0; i < 10 && !Array.isArray(answer); i++) answer = await a.ask('lookup', server, 've101.veld-t1.internal', 'A');
    return answer;
  };
  const service = (): NameService => createNameService({ settings: lab.settings, records: () => lab.ves, groups: () => [] });

  before(async () => {
    lab = await makeLab();
    // /run and /etc/resolv.conf of the host stay as they are: this mount namespace has its own.
    lab.sh('mount', '-t', 'tmpfs', 'tmpfs', '/run');
    lab.sh('mount', '-t', 'tmpfs', 'tmpfs', '/mnt');
    mkdirSync('/run/veld-test-etc');
    mkdirSync('/run/systemd/resolve', { recursive: true });
    upstream(WORLD4);
    lab.sh('ln', '-s', resolvConf, '/run/systemd/resolve/resolv.conf');
    a = await lab.add(101, [A4, A6]);
    b = await lab.add(102, [B4, B6]);
    await lab.world.ask('answer', '192.0.2.53');
    names = service();
    await names.start();
    folder = join(lab.settings.runDir, 'resolver');
  });
  after(async () => {
    await names.stop();
    await lab.close();
  });

  test('VEs find each other, themselves and the host by name, and names by address', async () => {
    for (const server of [G4, G6]) {
      assert.deepEqual(await a.ask('lookup', server, 've102.veld-t1.internal', 'A'), [B4]);
      assert.deepEqual(await a.ask('lookup', server, 've102.veld-t1.internal', 'AAAA'), [B6]);
      assert.deepEqual(await a.ask('lookup', server, 've101.veld-t1.internal', 'A'), [A4]);
      assert.deepEqual(await a.ask('lookup', server, 'host.veld-t1.internal', 'AAAA'), [G6]);
      assert.deepEqual(await b.ask('lookup', server, '2.0.187.10.in-addr.arpa', 'PTR'), ['ve101.veld-t1.internal']);
    }
    assert.deepEqual(await b.ask('lookup', G4, `2.${'0.'.repeat(15)}0.0.0.0.7.8.1.0.0.0.d.1.e.5.d.f.ip6.arpa`, 'PTR'), ['ve101.veld-t1.internal']);
  });

  test('what is not known of the domain or the pools is asked nowhere else; all other names are', async () => {
    assert.equal(await a.ask('lookup', G4, 'nobody.veld-t1.internal', 'A'), 'ENOTFOUND');
    assert.equal(await a.ask('lookup', G4, '9.9.187.10.in-addr.arpa', 'PTR'), 'ENOTFOUND');
    assert.deepEqual(await a.ask('lookup', G4, 'example.org', 'A'), ['192.0.2.53']);
    assert.deepEqual(await a.ask('lookup', G6, 'example.com', 'A'), ['192.0.2.53']);
  });

  test('a new name, another name, other addresses and the end of a name need no reload', async () => {
    const { pid } = runningDnsmasq(folder) ?? {};
    const record = lab.record(102);
    const change = async (to: VeRecord | undefined, name: string, answer: unknown): Promise<void> => {
      lab.ves.splice(1, 1, ...to ? [to] : []);
      names.sync();
      // dnsmasq hears of it by inotify.
      for (let i = 0; i < 100; i++) if (JSON.stringify(await a.ask('lookup', G4, name, 'A')) === JSON.stringify(answer)) break;
      assert.deepEqual(await a.ask('lookup', G4, name, 'A'), answer);
    };
    await change({ ...record, name: 'shop' }, 'shop.veld-t1.internal', [B4]);
    assert.equal(await a.ask('lookup', G4, 've102.veld-t1.internal', 'A'), 'ENOTFOUND');
    await change({ ...record, name: 'shop', addresses: ['10.187.0.9'] }, 'shop.veld-t1.internal', ['10.187.0.9']);
    await change(undefined, 'shop.veld-t1.internal', 'ENOTFOUND');
    assert.equal(await a.ask('lookup', G4, '9.0.187.10.in-addr.arpa', 'PTR'), 'ENOTFOUND');
    lab.ves.push(record);
    names.sync();
    assert.equal(runningDnsmasq(folder)?.pid, pid);
    assert.deepEqual(readdirSync(join(folder, 'hosts')).toSorted(), ['101', '102', 'host']);
  });

  test('it follows the host to other resolvers', async () => {
    const other = await lab.add(103, ['10.187.0.4']);
    await other.ask('answer', '192.0.2.77');
    upstream('10.187.0.4');
    for (let i = 0; i < 100; i++) if (String(await a.ask('lookup', G4, `q${i}.example.net`, 'A')) === '192.0.2.77') break;
    assert.deepEqual(await a.ask('lookup', G4, 'last.example.net', 'A'), ['192.0.2.77']);
    upstream(WORLD4);
  });

  test('nobody outside is answered; with the guard off, everybody is', async () => {
    lab.world.ip(`route add ${G4} via ${HOST4}`, `route add ${G6} via ${HOST6}`);
    const dropped = lab.counter('refused_dns');
    for (const server of [G4, G6]) assert.match(String(await lab.world.ask('lookup', server, 've101.veld-t1.internal', 'A')), /ETIMEOUT|ETIMEDOUT/);
    assert.equal(await lab.world.ask('connect', G4, 53), 'ETIMEDOUT');
    assert.ok(lab.counter('refused_dns') > dropped);
    for (const server of [HOST4, HOST6]) assert.match(String(await lab.world.ask('lookup', server, 've101.veld-t1.internal', 'A')), /ECONNREFUSED|ETIMEOUT/);
    lab.sh('nft', 'flush', 'chain', 'inet', 'veld_t1', 'input');
    assert.deepEqual(await lab.world.ask('lookup', G4, 've101.veld-t1.internal', 'A'), [A4]);
    await lab.network.setup();
  });

  test('one VE that floods it takes no answer from another; with the guard off nothing holds it back', async () => {
    const dropped = lab.counter('refused_dns');
    const flood = (): Promise<void> => a.ask('flood', G4, 'example.org', 6000);
    const [, answers] = await Promise.all([flood(), Promise.all(Array.from({ length: 10 }, () => b.ask('lookup', G4, 've101.veld-t1.internal', 'A')))]);
    assert.deepEqual(answers, Array.from({ length: 10 }, () => [A4]));
    assert.ok(lab.counter('refused_dns') - dropped > 2000, String(lab.counter('refused_dns') - dropped));
    lab.sh('nft', 'insert', 'rule', 'inet', 'veld_t1', 'names', 'accept');
    try {
      const before = lab.counter('refused_dns');
      await flood();
      assert.equal(lab.counter('refused_dns'), before); // all of them are its work
    } finally {
      await lab.network.setup();
    }
  });

  test('a VE holds few of the connections that it serves', async () => {
    const taken = await a.ask<number>('hold', G4, 53, 30);
    assert.ok(taken > 0 && taken <= 5, String(taken));
    assert.equal(await b.ask('hold', G4, 53, 1), 1);
  });

  test('it lives on without its daemon, and the next one takes it over', async () => {
    const running = runningDnsmasq(folder);
    assert.ok(running);
    const next = service();
    await next.start();
    assert.equal(runningDnsmasq(folder)?.pid, running.pid);
    assert.deepEqual(next.addresses(), [G4, G6]);
    assert.deepEqual(await names.mend(), []);
  });

  test('it has no rights of its own', () => {
    const status = readFileSync(`/proc/${runningDnsmasq(folder)?.pid}/status`, 'utf8');
    assert.doesNotMatch(status, /^Uid:\t0/m);
    assert.match(status, /^CapEff:\t0+$/m);
    assert.match(status, /^CapPrm:\t0+$/m);
    assert.match(status, /^NoNewPrivs:\t1$/m);
  });

  test('when it dies or hangs it is started again; a process that only looks like it is not touched', async () => {
    const running = runningDnsmasq(folder);
    assert.ok(running);
    process.kill(running.pid, 'SIGKILL');
    while (isAlive(running)) await new Promise((resolve) => { setTimeout(resolve, 5); });
    assert.match(String(await a.ask('lookup', G4, 've101.veld-t1.internal', 'A')), /ECONNREFUSED|ETIMEOUT/);
    writeFileSync(join(folder, 'pid'), `${process.pid}\n`); // by now somebody else's
    assert.deepEqual(await names.mend(), ['the resolver for VEs']);
    assert.deepEqual(await found(G4), [A4]);
    const again = runningDnsmasq(folder);
    assert.ok(again);
    process.kill(again.pid, 'SIGSTOP');
    assert.deepEqual(await names.mend(), []); // one silence may be a busy moment
    assert.deepEqual(await names.mend(), ['the resolver for VEs that answered no more']);
    assert.deepEqual(await found(G6), [A4]);
    assert.ok(!isAlive(again));
  });

  test('without a domain there is none; its end leaves nothing', async () => {
    const running = runningDnsmasq(folder);
    assert.ok(running);
    const none = createNameService({ settings: { ...lab.settings, network: { ...lab.settings.network, domain: '' } }, records: () => lab.ves, groups: () => [] });
    await none.start();
    assert.deepEqual(none.addresses(), []);
    assert.equal(await none.answers(), null);
    assert.ok(!isAlive(running));
    await names.start();
    const last = runningDnsmasq(folder);
    await names.stop();
    assert.ok(last && !isAlive(last) && !existsSync(folder));
    rmSync(folder, { recursive: true, force: true });
  });
}
