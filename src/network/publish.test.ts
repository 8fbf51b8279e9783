/** Published ports on real kernel objects, in a network namespace of its own; and who may take which port. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VeRecord } from '../store/types.ts';
import { parseListeners } from './listeners.ts';
import { checkPublish } from './publish.ts';
import { OUTSIDE, testInNamespace } from './testing/agents.ts';
import type { Agent } from './testing/agents.ts';
import { HOST4, HOST6, WORLD4, WORLD6, makeLab } from './testing/lab.ts';
import type { Lab } from './testing/lab.ts';

const A4 = '10.187.0.2';
const A6 = 'fd5e:1d00:187::2';
const B4 = '10.187.0.3';
const B6 = 'fd5e:1d00:187::3';

testInNamespace('published ports', import.meta.filename, inNamespace);
if (OUTSIDE) conflicts();

function conflicts(): void {
  const ve = (name: string, ...items: string[]): VeRecord => ({ name, properties: { 'network.publish': items } }) as unknown as VeRecord;
  const nobody = (): [] => [];

  test('a port belongs to one VE, whether it runs or not', () => {
    checkPublish(ve('a', '8080:80/tcp'), [ve('b', '8080:80/udp', '8081:80/tcp'), ve('c')], [], nobody);
    assert.throws(() => checkPublish(ve('a', '8000-8010:80-90/tcp'), [ve('b', '8010:80/tcp')], [], nobody), { code: 'port.taken', message: /the VE b has published 8010:80\/tcp/ });
    assert.throws(() => checkPublish(ve('a', '192.0.2.1:53:53/udp'), [ve('b', '53:53/udp')], [], nobody), { code: 'port.taken' });
    assert.throws(() => checkPublish(ve('a', '80:80/tcp', '0.0.0.0:70-90:70-90/tcp'), [], [], nobody), { code: 'port.taken', message: /80:80\/tcp of the same list/ });
  });

  test('a program of the host keeps its port', () => {
    const open = (address: string) => (): { protocol: 'tcp'; address: string; port: number; loopback: boolean }[] => [{ protocol: 'tcp', address, port: 22, loopback: address === '127.0.0.1' }];
    assert.throws(() => checkPublish(ve('a', '22:22/tcp'), [], [], open('0.0.0.0')), { code: 'port.taken', message: /a program of the host listens on 0\.0\.0\.0:22/ });
    assert.throws(() => checkPublish(ve('a', '192.0.2.1:22:22/tcp'), [], [], open('::')), { code: 'port.taken', message: /\[::\]:22/ });
    checkPublish(ve('a', '192.0.2.1:22:22/tcp'), [], [], open('192.0.2.2'));
    checkPublish(ve('a', '22:22/udp'), [], [], open('0.0.0.0'));
    checkPublish(ve('a', '22:22/tcp'), [], [], open('127.0.0.1')); // nobody outside reached it anyway
    checkPublish(ve('a', '22:22/tcp', '23:23/tcp'), [], [{ host: null, first: 22, last: 22, port: 22, protocol: 'tcp' }], open('0.0.0.0')); // it was published before: another item may change
  });

  test('the kernel\'s tables of sockets are read', () => {
    const tcp = '  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   1: 0200BB0A:0016 0300BB0A:C350 01 0\n   2: 00000000:0050 00000000:0000 0A 0\n';
    assert.deepEqual(parseListeners(tcp, 'tcp'), [{ protocol: 'tcp', address: '127.0.0.1', port: 8080, loopback: true }, { protocol: 'tcp', address: '0.0.0.0', port: 80, loopback: false }]);
    const udp6 = '   0: B80D0120000000000000000001000000:0035 00000000000000000000000000000000:0000 07 0\n';
    assert.deepEqual(parseListeners(udp6, 'udp'), [{ protocol: 'udp', address: '2001:db8::1', port: 53, loopback: false }]);
  });
}

function inNamespace(): void {
  let lab: Lab;
  let a: Agent;
  let b: Agent;
  const PUBLISHED = { 'network.publish': ['8080:80/tcp', '9000:9/udp', `${HOST4}:8443:80/tcp`, '[::]:8444:80/tcp', '7000-7002:80-82/tcp'] };

  before(async () => {
    lab = await makeLab();
    a = await lab.add(101, [A4, A6], PUBLISHED);
    b = await lab.add(102, [B4, B6]);
    await a.ask('serve', 82);
  });
  after(() => lab.close());

  test('clients outside reach the VE by the host\'s addresses, and it sees who they are', async () => {
    assert.equal(await lab.world.ask('connect', HOST4, 8080), WORLD4);
    assert.equal(await lab.world.ask('connect', HOST6, 8080), WORLD6);
    assert.equal(await lab.world.ask('connect', HOST4, 7002), WORLD4); // the last of the range is port 82
    assert.equal(await lab.world.ask('connect', HOST4, 7001), 'ECONNREFUSED');
    assert.equal(await lab.world.ask('connect', HOST4, 8081), 'ECONNREFUSED');
    await lab.world.ask('send', WORLD4, HOST4, 9000, ['four']);
    await lab.world.ask('send', WORLD6, HOST6, 9000, ['six']);
    await sleep(60);
    assert.deepEqual((await a.ask<string[]>('heard')).toSorted(), [`${WORLD4} four`, `${WORLD6} six`]);
  });

  test('an address of the host, or a family, can be chosen', async () => {
    assert.equal(await lab.world.ask('connect', HOST4, 8443), WORLD4);
    assert.equal(await lab.world.ask('connect', HOST6, 8443), 'ECONNREFUSED');
    assert.equal(lab.fromHost('10.187.0.1', 8443), 'ECONNREFUSED');
    assert.equal(await lab.world.ask('connect', HOST4, 8444), 'ECONNREFUSED');
    assert.equal(await lab.world.ask('connect', HOST6, 8444), WORLD6);
  });

  test('the host reaches it by its own addresses, but for loopback', () => {
    assert.equal(lab.fromHost(HOST4, 8080), HOST4);
    assert.equal(lab.fromHost(HOST6, 8080), HOST6);
    assert.equal(lab.fromHost('10.187.0.1', 8080), '10.187.0.1');
    for (const loopback of ['127.0.0.1', '::1']) assert.equal(lab.fromHost(loopback, 8080), 'ECONNREFUSED');
  });

  test('other VEs reach it, also where VEs may not talk to each other', async () => {
    assert.equal(await b.ask('connect', HOST4, 8080), B4);
    assert.equal(await b.ask('connect', HOST6, 8080), B6);
    const apart = lab.make({ veToVe: false });
    await apart.setup();
    try {
      assert.equal(await b.ask('connect', A4, 80), 'ECONNREFUSED');
      assert.equal(await b.ask('connect', HOST4, 8080), B4);
      assert.equal(await b.ask('connect', '10.187.0.1', 8080), B4);
      assert.equal(await b.ask('connect', HOST6, 8080), B6);
    } finally {
      await lab.network.setup();
    }
  });

  test('it reaches itself by the host\'s address; without the rule for that it does not', async () => {
    assert.match(await a.ask<string>('connect', HOST4, 8080), /^(10\.187\.0\.1|198\.51\.100\.1)$/);
    assert.match(await a.ask<string>('connect', HOST6, 8080), /^(fd5e:1d00:187::1|2001:db8:1::1)$/);
    lab.sh('nft', 'flush', 'set', 'inet', 'veld_t1', 'hairpin');
    assert.equal(await a.ask('connect', HOST4, 8080), 'ETIMEDOUT');
    await lab.network.setup();
  });

  test('what is not the host\'s own address is none of it', async () => {
    await lab.world.ask('serve', 8080);
    assert.equal(await b.ask('connect', WORLD4, 8080), HOST4); // the world's own port 8080
    assert.equal(await lab.world.ask('connect', WORLD4, 8080), WORLD4);
  });

  test('a change holds at once, and cuts what was open over a port that is gone', async () => {
    assert.equal(await lab.world.ask('keep', HOST4, 8080), WORLD4);
    await lab.set(101, { 'network.publish': ['8081:80/tcp', '9000:9/udp'] });
    await assert.rejects(lab.world.ask('say', 'still there?'), /ECONNRESET|took too long/);
    assert.equal(await lab.world.ask('connect', HOST4, 8080), 'ECONNREFUSED');
    assert.equal(await lab.world.ask('keep', HOST4, 8081), WORLD4);
    await lab.set(101, { 'network.publish': ['8081:80/tcp', '8082:80/tcp'] });
    assert.equal(await lab.world.ask('say', 'still here'), 'still here'); // its port stayed
    await lab.set(101, PUBLISHED);
  });

  test('a stream of datagrams follows its port to another VE', async () => {
    const stream = async (text: string): Promise<void> => {
      // One socket of the world for all of them, as a client that never pauses.
      spawnSync('nsenter', [`--net=/proc/${lab.world.pid}/ns/net`, process.execPath, '-e',
        `const s=require('dgram').createSocket('udp4');s.bind(5555,()=>s.send('${text}',9000,'${HOST4}',()=>s.close()))`]);
      await sleep(60);
    };
    await a.ask('heard');
    await stream('one');
    assert.deepEqual(await a.ask('heard'), [`${WORLD4} one`]);
    await lab.set(101, { 'network.publish': ['8080:80/tcp'] });
    await lab.set(102, { 'network.publish': ['9000:9/udp'] });
    await stream('two');
    assert.deepEqual([await a.ask('heard'), await b.ask('heard')], [[], [`${WORLD4} two`]]);
    await lab.set(102, {});
    await lab.set(101, PUBLISHED);
  });

  test('to a VE that does not run a connection is refused', async () => {
    const record = lab.record(102);
    await lab.set(102, { 'network.publish': ['8100:80/tcp'] });
    assert.equal(await lab.world.ask('connect', HOST4, 8100), WORLD4);
    await lab.network.revoke(lab.record(102));
    assert.equal(await lab.world.ask('connect', HOST4, 8100), 'ECONNREFUSED');
    assert.doesNotMatch(lab.sh('nft', 'list', 'table', 'inet', 'veld_t1'), /vt1-102|8100/);
    lab.ves[lab.ves.findIndex(({ number }) => number === 102)] = record;
    b.stop();
    lab.ves.pop();
    b = await lab.add(103, [B4, B6]);
  });

  test('a new daemon finds all of it again, and a table that holds something else is made anew', async () => {
    await lab.make().setup();
    assert.equal(await lab.world.ask('connect', HOST4, 8080), WORLD4);
    lab.sh('nft', 'add', 'element', 'inet', 'veld_t1', 'ports4', '{ tcp . 8200 : 10.187.0.99 . 1 }');
    await lab.set(103, { 'network.publish': ['8200:80/tcp'] });
    assert.equal(await lab.world.ask('connect', HOST4, 8200), WORLD4);
    await lab.set(103, {});
  });

  test('what others take away is noticed and put back', async () => {
    assert.deepEqual(await lab.network.mend(), []);
    lab.sh('nft', 'flush', 'ruleset');
    lab.sh('ip', 'route', 'del', 'unreachable', '10.187.0.0/16');
    lab.sh('ip', '-6', 'route', 'del', 'unreachable', 'fd5e:1d00:187::/64');
    lab.sh('sysctl', '-qw', 'net.ipv6.conf.up0.proxy_ndp=0');
    assert.match((await lab.network.warnings()).join('\n'), /veld_t1 is gone/);
    assert.equal(await lab.world.ask('connect', HOST4, 8080), 'ECONNREFUSED');
    const lost = await lab.network.mend();
    assert.deepEqual(lost, ['the nftables table veld_t1', 'the nftables table veld_t1_kept', 'the nftables table veld_t1_kept for bridges', 'the route for unused addresses of 10.187.0.0/16', 'the route for unused addresses of fd5e:1d00:187::/64', 'net.ipv6.conf.up0.proxy_ndp']);
    assert.deepEqual(await lab.network.mend(), []);
    assert.equal(await lab.world.ask('connect', HOST4, 8080), WORLD4);
    assert.equal(await b.ask('connect', A4, 80), B4);
    assert.match(lab.sh('ip', 'route'), /unreachable 10\.187\.0\.0\/16/);
  });

  test('a VE that is admitted while the table is gone gets one', async () => {
    lab.sh('nft', 'flush', 'ruleset');
    const c = await lab.add(104, ['10.187.0.4'], { 'network.publish': ['8300:80/tcp'] });
    assert.equal(await lab.world.ask('connect', HOST4, 8300), WORLD4);
    assert.equal(await c.ask('connect', A4, 80), '10.187.0.4');
    assert.equal(await lab.world.ask('connect', HOST4, 8080), WORLD4);
  });

  test('warnings name programs behind published ports, and addresses that the host does not have', async () => {
    assert.deepEqual((await lab.network.warnings()).filter((text) => /publish/.test(text)), []);
    const server = createServer().listen(8300, '0.0.0.0');
    try {
      await lab.set(103, { 'network.publish': ['203.0.113.9:1:1/tcp'] });
      const warnings = (await lab.network.warnings()).join('\n');
      assert.match(warnings, /listens on 0\.0\.0\.0 port 8300\/tcp/);
      assert.match(warnings, /does not have the address 203\.0\.113\.9/);
    } finally {
      server.close();
    }
  });
}
