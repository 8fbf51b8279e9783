/** Names of real VEs: they and the host find each other, through every change and death. The resolver by itself: src/network/resolver.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { Resolver } from 'node:dns/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runningDnsmasq } from '../../src/kernel/dnsmasq.ts';
import { isAlive } from '../../src/kernel/process.ts';
import { fileInstance, makeInstance } from '../lib/instance.ts';
import { outsideOf } from '../lib/outside.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
const domain = `${veld.name}.internal`;
const folder = join(veld.settings.runDir, 'resolver');
const gateways = veld.settings.network.pools.map((pool) => pool.replace(/0\/24$|\/64$/, '1'));

/** What a program of the VE that knows nothing of Veld gets for a name. */
const inVe = async (ve: string, name: string, database = 'ahostsv4'): Promise<string> =>
  (await veld.exec(ve, 'timeout', '10', 'getent', database, name)).stdout.split('\n')[0]?.split(/\s+/)[0] ?? '';
const four = async (ve: string): Promise<string> => (await veld.show(ve)).addresses.find((address) => !address.includes(':')) ?? '';
const six = async (ve: string): Promise<string> => (await veld.show(ve)).addresses.find((address) => address.includes(':')) ?? '';
/** The host's way: by the gateway address, as its resolv.conf or systemd-resolved would. */
const onHost = (name: string): Promise<string> => {
  const client = new Resolver({ timeout: 1000, tries: 2 });
  client.setServers([gateways[0]!]);
  return client.resolve4(name).then((addresses) => addresses.join(), (error: NodeJS.ErrnoException) => String(error.code));
};
const finds = (name: string, answer: string): Promise<unknown> => until(`${name} to be ${answer}`, async () => (await onHost(name)) === answer, 10_000);

await Promise.all([veld.createRunning('web'), veld.createRunning('db')]);
await Promise.all([veld.booted('web'), veld.booted('db')]);

test('VEs find each other and the host by short and full names, both families, and back', async () => {
  assert.equal(await inVe('web', 'db'), await four('db'));
  assert.equal(await inVe('web', `db.${domain}`), await four('db'));
  assert.equal(await inVe('db', 'web', 'ahostsv6'), await six('web'));
  assert.equal(await inVe('db', 'host'), gateways[0]);
  assert.match((await veld.exec('db', 'getent', 'hosts', await four('web'))).stdout, new RegExp(`web\\.${domain}`));
  assert.equal(await onHost(`web.${domain}`), await four('web'));
  assert.deepEqual((await veld.exec('web', 'cat', '/etc/resolv.conf')).stdout.split('\n').filter((line) => /^(search|nameserver)/.test(line)),
    [`search ${domain}`, ...gateways.map((gateway) => `nameserver ${gateway}`)]);
});

test('a name follows its VE: renamed, given other addresses, frozen, stopped, destroyed', async () => {
  await veld.cli('create', 'third', '--template', 'test');
  const address = await four('third');
  await finds(`third.${domain}`, address); // it never ran
  assert.equal((await veld.cli('rename', 'third', 'shop')).code, 0);
  await finds(`shop.${domain}`, address);
  await finds(`third.${domain}`, 'ENOTFOUND');
  const other = address.replace(/\d+$/, '99');
  assert.equal((await veld.cli('set', 'shop', `network.addresses=${other}`)).code, 0);
  await finds(`shop.${domain}`, other);
  assert.equal((await veld.cli('freeze', 'db')).code, 0);
  assert.equal(await inVe('web', 'db'), await four('db'));
  assert.equal((await veld.cli('thaw', 'db')).code, 0);
  assert.equal((await veld.cli('destroy', 'shop', '--yes')).code, 0);
  await finds(`shop.${domain}`, 'ENOTFOUND');
  assert.equal((await veld.cli('create', 'broken', '--template', 'none')).code === 0, false);
  await finds(`broken.${domain}`, 'ENOTFOUND');
});

test('it lives on while the daemon is dead, and the next daemon takes it over with the same process', async () => {
  const before = runningDnsmasq(folder)?.pid;
  assert.ok(before);
  const [{ pid }, address] = [await veld.show('web'), await four('db')];
  await veld.kill9();
  // As the VE itself asks: in its namespaces, by its own files.
  const { stdout } = spawnSync('nsenter', ['-t', String(pid), '-m', `--net=/proc/${pid}/ns/net`, 'getent', 'ahostsv4', 'db'], { encoding: 'utf8', timeout: 10_000 });
  assert.equal(stdout.split(/\s+/)[0], address);
  await veld.start();
  assert.equal(runningDnsmasq(folder)?.pid, before);
  await veld.restart();
  assert.equal(runningDnsmasq(folder)?.pid, before);
  assert.equal(await inVe('web', 'db'), await four('db'));
});

test('killed, it comes back by itself, and VEs find names again', async () => {
  const before = runningDnsmasq(folder);
  assert.ok(before);
  process.kill(before.pid, 'SIGKILL');
  await until('another resolver', () => (runningDnsmasq(folder)?.pid ?? before.pid) !== before.pid, 20_000);
  await until('names to be found again', async () => (await inVe('web', 'db')) === (await four('db')));
  await until('the daemon to say so', () => /the resolver for VEs/.test(veld.daemonLog()));
});

test('killed while the daemon is dead, it comes back with the daemon', async () => {
  const before = runningDnsmasq(folder);
  assert.ok(before);
  await veld.kill9();
  process.kill(before.pid, 'SIGKILL');
  await until('its end', () => !isAlive(before));
  await veld.start();
  assert.equal(await inVe('web', 'db'), await four('db'));
});

test('nobody outside is answered', async () => {
  const outside = await outsideOf(veld);
  assert.notDeepEqual(await outside.ask('lookup', gateways[0], `web.${domain}`, 'A'), [await four('web')]);
  spawnSync('nft', ['insert', 'rule', 'inet', `veld_${veld.name}`, 'input', 'accept']); // the guard off
  assert.deepEqual(await outside.ask('lookup', gateways[0], `web.${domain}`, 'A'), [await four('web')]);
  spawnSync('nft', ['delete', 'table', 'inet', `veld_${veld.name}`]); // made anew by the daemon
  await until('the guard to be back', async () => typeof (await outside.ask('lookup', gateways[0], `web.${domain}`, 'A')) === 'string', 20_000, 200);
});

test('resolvers of one\'s own are left alone, and a name that only begins like the domain is not ours', async () => {
  assert.equal((await veld.cli('create', 'own', '--template', 'test', '--start', '--set', 'network.dns=192.0.2.1', '--set', 'network.search=example.org')).code, 0);
  assert.match((await veld.exec('own', 'cat', '/etc/resolv.conf')).stdout, /^search example\.org\nnameserver 192\.0\.2\.1\n$/m);
  assert.equal((await veld.cli('destroy', 'own', '--force', '--yes')).code, 0);
});

test('doctor tells of it', async () => {
  const { checks } = await veld.json<{ checks: { id: string; message: string }[] }>('doctor').catch(async () => JSON.parse((await veld.cli('--json', 'doctor')).stdout) as never);
  assert.match(checks.find(({ id }) => id === 'names')?.message ?? '', new RegExp(`NAME\\.${domain}`));
});

test('an instance without a domain has no resolver, and its VEs ask those of the host', async () => {
  const plain = makeInstance({ settings: (settings) => { settings.network.domain = ''; } });
  try {
    await plain.start();
    await plain.createRunning('alone');
    assert.ok(!existsSync(join(plain.settings.runDir, 'resolver')) || readdirSync(join(plain.settings.runDir, 'resolver')).length === 0);
    const { stdout } = await plain.exec('alone', 'cat', '/etc/resolv.conf');
    assert.doesNotMatch(stdout, /internal/);
    for (const pool of plain.settings.network.pools) assert.doesNotMatch(stdout, new RegExp(pool.replace(/0\/24$|\/64$/, '1')));
  } finally {
    assert.deepEqual(await plain.destroy(), []);
  }
});
