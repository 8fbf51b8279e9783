/**
 * Interfaces of real VEs: on a bridge with addresses by hand and by DHCP, several, coming and going while the VE runs. The network behind
 * the bridge is a namespace of its own with a DHCP server; no address of it is on this host.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { VeDetail } from '../../src/ve/types.ts';
import { TEMPLATE } from '../lib/cache.ts';
import { faultOf, pointsOf } from '../lib/faults.ts';
import { fileInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
const bridge = `${veld.name}br`;
const lan = `${veld.name}lan`;
let server: ChildProcess | undefined;
let empty: string[];

const sh = (file: string, ...args: string[]): string => execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const inLan = (...args: string[]): string => sh('ip', 'netns', 'exec', lan, ...args);
const inVe = async (ve: string, ...args: string[]): Promise<string> => (await veld.exec(ve, ...args)).stdout;
const set = (ve: string, changes: Record<string, unknown>): Promise<unknown> => veld.api.operate('PATCH', `/v1/ves/${ve}/properties`, { changes });
/** Whether the VE hears the address. */
const pings = async (ve: string, to: string, ...options: string[]): Promise<boolean> => (await veld.exec(ve, 'ping', '-c1', '-W2', ...options, to)).exitCode === 0;
/** Make sure that an address is alive: a port on which nobody listens is refused by its own kernel. */
const reached = (to: string, ...by: string[]): void => {
  const [file, ...args] = [...by, 'timeout', '5', 'bash', '-c', `exec 3<>/dev/tcp/${to}/9`];
  assert.match(spawnSync(file, args, { encoding: 'utf8' }).stderr, /refused/, `${to} is reached`);
};
const reachedFromLan = (to: string): void => reached(to, 'ip', 'netns', 'exec', lan);
const addresses = (ve: string, link: string): Promise<string> => inVe(ve, 'ip', '-br', 'addr', 'show', link);

before(async () => {
  empty = veld.traces();
  sh('ip', 'link', 'add', bridge, 'type', 'bridge');
  sh('ip', 'link', 'set', bridge, 'mtu', '1500', 'addrgenmode', 'none', 'up');
  sh('ip', 'netns', 'add', lan);
  sh('ip', 'link', 'add', `${veld.name}p`, 'type', 'veth', 'peer', 'name', 'lan0', 'netns', lan);
  sh('ip', 'link', 'set', `${veld.name}p`, 'master', bridge, 'addrgenmode', 'none', 'up');
  inLan('ip', 'link', 'set', 'lo', 'up');
  inLan('ip', 'link', 'set', 'lan0', 'up');
  inLan('ip', 'addr', 'add', '192.0.2.1/24', 'dev', 'lan0');
  inLan('ip', 'addr', 'add', '2001:db8:5::1/64', 'dev', 'lan0', 'nodad');
  server = spawn('ip', ['netns', 'exec', lan, 'dnsmasq', '--no-daemon', '--conf-file=/dev/null', '--user=root', '--port=0', '--interface=lan0', '--bind-interfaces', `--dhcp-leasefile=${join(veld.dir, 'leases')}`,
    '--dhcp-range=192.0.2.100,192.0.2.150,1h', '--dhcp-range=2001:db8:5::,ra-only', '--enable-ra', `--pid-file=${join(veld.dir, 'dnsmasq.pid')}`], { stdio: 'ignore' });
  await until('the DHCP server', () => inLan('ss', '-lun').includes(':67'));
});
after(async () => {
  for (const ve of await veld.list().catch(() => [])) await veld.api.operate('DELETE', `/v1/ves/${ve.uuid}?force=true`).catch(() => {});
  server?.kill('SIGKILL');
  for (const link of [bridge, `${veld.name}p`]) try { sh('ip', 'link', 'del', link); } catch { /* never made */ }
  try { sh('ip', 'netns', 'del', lan); } catch { /* never made */ }
});

describe('a VE on a bridge, with addresses by hand', () => {
  let one: VeDetail;

  test('it boots, and is reached from the network behind the bridge', async () => {
    one = await veld.createRunning('fixed', {
      'network.mode': 'bridge', 'network.bridge': bridge, 'network.addresses': '192.0.2.5/24,2001:db8:5::5/64', 'network.gateway': '192.0.2.1', 'network.interfaces': 'eth1,address=' + routed(),
    });
    assert.equal(await veld.booted('fixed'), 'running');
    assert.deepEqual(one.links.map(({ name, link, bridge: on }) => [name, link, on]), [['eth0', `v${veld.name}-101`, bridge], ['eth1', `v${veld.name}-101-1`, null]]);
    assert.deepEqual(one.addresses, ['192.0.2.5', '2001:db8:5::5']);
    assert.ok(await pings('fixed', '192.0.2.1'));
    assert.ok(await pings('fixed', '2001:db8:5::1'));
    reachedFromLan('192.0.2.5');
    reached(routed()); // the routed interface of the same VE, from this host
    assert.ok(!(await inVe('fixed', 'cat', '/etc/resolv.conf')).includes(gateway()), 'it does not ask the host, which is none of its network');
    assert.match((await veld.cli('show', 'fixed')).stdout, new RegExp(`Link eth0: +v${veld.name}-101 .*on ${bridge}, MTU 1500: 192.0.2.5/24, 2001:db8:5::5/64`));
  });

  test('advertisements on the bridge give it nothing beside what was given by hand', async () => {
    assert.doesNotMatch(await addresses('fixed', 'eth0'), /192\.0\.2\.1\d\d|2001:db8:5:0:/);
    assert.doesNotMatch(await inVe('fixed', 'ip', '-6', 'route'), /proto ra/);
  });

  test('another address, or another link-layer address, that it takes by itself reaches nobody', async () => {
    await inVe('fixed', 'ip', 'addr', 'add', '192.0.2.66/24', 'dev', 'eth0');
    assert.equal(await pings('fixed', '192.0.2.1', '-I', '192.0.2.66'), false);
    await set('fixed', { 'network.guard': 'router' });
    assert.equal(await pings('fixed', '192.0.2.1', '-I', '192.0.2.66'), true);
    await set('fixed', { 'network.guard': 'strict' });
    assert.equal(await pings('fixed', '192.0.2.1', '-I', '192.0.2.66'), false);
    await inVe('fixed', 'ip', 'addr', 'del', '192.0.2.66/24', 'dev', 'eth0');
  });

  test('it reboots with the daemon down, and has the same links again', async () => {
    const { pid } = await veld.show('fixed');
    await veld.exec('fixed', 'systemctl', 'reboot').catch(() => {});
    await veld.kill9();
    await until('the VE to boot again', () => {
      const now = Number(readFileSync(join(veld.settings.runDir, 'ves/101/init'), 'utf8').split(' ')[0]);
      return now !== pid;
    }, 60_000);
    await veld.start();
    assert.equal(await veld.booted('fixed'), 'running');
    assert.deepEqual((await veld.show('fixed')).links, one.links);
    assert.ok(await pings('fixed', '192.0.2.1'));
    reached(routed());
  });

  test('interfaces come and go while it runs, by the command line', async () => {
    const eth2 = 'eth2,bridge=' + bridge + ',mtu=1400,address=192.0.2.7/24';
    const added = await veld.cli('set', 'fixed', `network.interfaces=eth1,address=${routed()} ${eth2}`);
    assert.equal(added.code, 0, added.stderr);
    assert.match(await addresses('fixed', 'eth2'), /UP +192\.0\.2\.7\/24/);
    reachedFromLan('192.0.2.7');
    assert.ok(await pings('fixed', '192.0.2.1', '-I', '192.0.2.7', '-M', 'do', '-s', String(1400 - 28)));
    assert.equal(await pings('fixed', '192.0.2.1', '-I', '192.0.2.7', '-M', 'do', '-s', String(1401 - 28)), false);
    await set('fixed', { 'network.interfaces': [`eth1,address=${routed()}`, eth2.replace(',mtu=1400', '')] });
    assert.ok(await pings('fixed', '192.0.2.1', '-I', '192.0.2.7', '-M', 'do', '-s', String(1500 - 28)));
    await set('fixed', { 'network.interfaces': null });
    assert.doesNotMatch(await inVe('fixed', 'ip', '-br', 'link'), /eth1|eth2/);
    assert.deepEqual(veld.traces().filter((line) => line.includes('-101-')), []);
    assert.ok(await pings('fixed', '192.0.2.1'));
  });

  test('a change that the host cannot make is refused, and all is as before', async () => {
    const failed = await veld.cli('set', 'fixed', 'network.interfaces=eth1,bridge=nosuchbridge');
    assert.equal(failed.code, 25);
    assert.match(failed.stderr, /The bridge nosuchbridge, to which eth1 shall be connected, does not exist on this host/);
    assert.deepEqual((await veld.show('fixed')).properties['network.interfaces'], []);
    assert.ok(await pings('fixed', '192.0.2.1'));
  });

  for (const action of ['kill', 'fail'] as const) {
    test(`a change that is cut short (${action}) is made whole or taken back`, async (t) => {
      const eth1 = [`eth1,bridge=${bridge},address=192.0.2.8/24,mtu=1400`, `eth2,address=${routed()}`];
      const change = (interfaces: string[] | null): Promise<unknown> => set('fixed', { 'network.interfaces': interfaces, 'network.addresses': interfaces ? '192.0.2.15/24' : '192.0.2.5/24' });
      const points = await pointsOf(veld, () => change(eth1));
      await change(null);
      let reachedPoints = 0;
      for (const point of process.env.VELD_TEST_FULL === undefined ? points.filter((_, i) => i % 3 === 0) : points) {
        const fault = faultOf(action, point);
        await veld.restart({ VELD_FAULT: fault });
        const changed = await change(eth1).then(() => true, () => false);
        if (action === 'kill' && veld.pid !== undefined) await veld.died(2000).catch(() => {});
        if (!changed) reachedPoints += 1;
        // After a failure without the help of a new daemon: the operation has taken back what it had done.
        if (action === 'kill') await veld.restart();
        const there = (await veld.show('fixed')).properties['network.interfaces'].length > 0;
        assert.ok(action === 'kill' || there === changed, fault);
        assert.equal(/eth1@[^]*eth2@/.test(await inVe('fixed', 'ip', '-br', 'link')), there, fault);
        assert.match(await addresses('fixed', 'eth0'), there ? / 192\.0\.2\.15\/24/ : / 192\.0\.2\.5\/24/, fault);
        reachedFromLan(there ? '192.0.2.15' : '192.0.2.5');
        if (there) reachedFromLan('192.0.2.8');
        if (action === 'fail') await veld.restart();
        await change(null);
        assert.deepEqual(veld.traces().filter((line) => line.includes('-101-')), [], fault);
      }
      // A command that fails is mostly made up for: the links are made anew, the firewall too.
      assert.ok(reachedPoints >= (action === 'kill' ? 2 : 1), `${reachedPoints} of ${points.length} points cut it short`);
      t.diagnostic(`${reachedPoints} cut short, of ${points.map(({ name }) => name).join(' ')}`);
    });
  }
});

describe('a VE on a bridge, by DHCP and router advertisements', () => {
  test('it gets its addresses by itself, and the same after a restart', async () => {
    const mac = '02:00:5e:10:20:30';
    await veld.createRunning('dynamic', { 'network.mode': 'bridge', 'network.bridge': bridge, 'network.mac': mac });
    assert.equal(await veld.booted('dynamic'), 'running');
    const lease = async (): Promise<string> => until('addresses by DHCP and by advertisement', async () => {
      const text = await addresses('dynamic', 'eth0');
      return /2001:db8:5:0?:/.test(text) ? /192\.0\.2\.1\d\d/.exec(text)?.[0] : undefined;
    }, 30_000);
    const first = await lease();
    assert.match(readFileSync(join(veld.dir, 'leases'), 'utf8'), new RegExp(`${mac} ${first} `));
    reachedFromLan(first);
    assert.match((await veld.cli('show', 'dynamic')).stdout, /on \w+, MTU 1500: DHCP and router advertisements/);
    await veld.api.operate('POST', '/v1/ves/dynamic/restart', {});
    await veld.booted('dynamic');
    assert.equal(await lease(), first);
  });

  test('an interface by DHCP can be added to a running VE', async () => {
    await veld.createRunning('later');
    await veld.booted('later');
    assert.ok((await inVe('later', 'cat', '/etc/resolv.conf')).includes(gateway()), 'a routed VE asks the host');
    await set('later', { 'network.interfaces': [`eth1,bridge=${bridge},address=dhcp`] });
    await until('an address on eth1', async () => /192\.0\.2\.1\d\d/.test(await addresses('later', 'eth1')), 30_000);
    const [own] = (await veld.show('later')).addresses;
    reached(own!); // eth0 is as it was
    await set('later', { 'network.interfaces': null });
    assert.doesNotMatch(await inVe('later', 'ip', '-br', 'link'), /eth1/);
  });
});

test('a whole prefix is routed to a running VE', async () => {
  const prefix = veld.settings.network.pools[1]!.replace(':7e57:', ':7e58:').replace('::/64', '');
  await set('later', { 'network.prefixes': [`${prefix}::1/64`] });
  reached(`${prefix}::1`);
  await inVe('later', 'ip', 'addr', 'add', `${prefix}::beef/128`, 'dev', 'lo');
  reached(`${prefix}::beef`);
  const refused = await veld.cli('create', 'greedy', '--template', TEMPLATE, '--set', `network.prefixes=${prefix}::/60`);
  assert.equal(refused.code, 19);
  assert.match(refused.stderr, /overlaps one of later/);
  await set('later', { 'network.prefixes': null });
  assert.ok(!sh('ip', '-6', 'route').includes(prefix));
});

test('without its bridge a VE does not start, and says so; with it, it does', async () => {
  await veld.api.operate('POST', '/v1/ves', { name: 'early', template: TEMPLATE, properties: { 'network.interfaces': [`eth1,bridge=${veld.name}xx`] } });
  const failed = await veld.cli('start', 'early');
  assert.equal(failed.code, 25);
  assert.match(failed.stderr, new RegExp(`The bridge ${veld.name}xx.*does not exist`));
  assert.equal((await veld.show('early')).status, 'stopped');
  await set('early', { 'network.interfaces': [`eth1,bridge=${bridge}`] });
  await veld.api.operate('POST', '/v1/ves/early/start', {});
  assert.match(await inVe('early', 'ip', '-br', 'link', 'show', 'eth1'), /DOWN/, 'an interface without addresses is the VE\'s own');
});

test('when all are gone, nothing of them is left', async () => {
  for (const ve of await veld.list()) await veld.api.operate('DELETE', `/v1/ves/${ve.uuid}?force=true`);
  const mine = new RegExp(`${bridge}|${lan}|${veld.name}p\\b|--no-daemon|leases`);
  assertSame(veld.traces().filter((line) => !mine.test(line)), empty, 'traces on the host');
  const ruleset = sh('nft', 'list', 'table', 'bridge', `veld_${veld.name}`);
  assert.doesNotMatch(ruleset, new RegExp(`v${veld.name}-\\d`));
});

/** The host in the instance's IPv4 pool. */
function gateway(): string {
  return veld.settings.network.pools[0]!.replace('0/24', '1');
}

/** An address of the instance's pool, by hand. */
function routed(): string {
  return veld.settings.network.pools[0]!.replace('0/24', '200');
}
