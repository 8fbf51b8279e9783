/** The firewall of real VEs, with a client outside the host. The rules themselves: src/network/rules.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { ERRORS } from '../../src/lib/errors.ts';
import { fileInstance } from '../lib/instance.ts';
import { outsideOf } from '../lib/outside.ts';
import { askUntil, serveGreeting } from '../lib/tcp.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
const outside = await outsideOf(veld);
const web = await veld.createRunning('web');
await veld.booted('web');
for (const port of [80, 81]) await serveGreeting(veld, 'web', port);
for (const address of web.addresses) for (const port of [80, 81]) await askUntil(address, port);

/** Whether the client outside reaches the ports 80 and 81 of the VE, by IPv4 and IPv6. */
const reach = async (): Promise<string> => {
  const answers: string[] = [];
  for (const port of [80, 81]) for (const address of web.addresses) answers.push(await outside.ask<string>('connect', address, port));
  return answers.map((answer) => (answer.startsWith('greetings') ? '+' : '-')).join('');
};
const set = async (...words: string[]): Promise<void> => {
  const { code, stderr } = await veld.cli('set', 'web', ...words);
  assert.equal(code, 0, stderr);
};

test('what is allowed by name shuts out the rest, at once and for good', async () => {
  assert.equal(await reach(), '++++');
  await set('network.allow=81/tcp');
  assert.equal(await reach(), '--++');
  await veld.kill9();
  assert.equal(await reach(), '--++');
  await veld.start();
  assert.equal(await reach(), '--++');
  await set(`network.deny=${outside.own4}`);
  assert.equal(await reach(), '---+');
  await set('network.allow=none', 'network.deny=none');
  assert.equal(await reach(), '++++');
});

test('the root of the VE cannot change it; with the host\'s guard off the client comes in', async () => {
  await set('network.deny=80/tcp');
  await veld.exec('web', 'sh', '-c', 'nft flush ruleset; iptables -F; ip link set eth0 alias x; ip addr add 10.9.9.9/32 dev eth0; ip rule add pref 1 lookup main');
  assert.equal(await reach(), '--++');
  assert.equal(spawnSync('nft', ['flush', 'map', 'inet', `veld_${veld.name}`, 'rules_in']).status, 0);
  assert.equal(await reach(), '++++');
  spawnSync('nft', ['delete', 'table', 'inet', `veld_${veld.name}`]);
  await until('the table to be back with its rules', async () => (await reach()) === '--++', 20_000, 100);
});

test('what the VE may reach; a reboot inside while the daemon is dead changes nothing', async () => {
  await outside.ask('serve', 80);
  const knock = async (): Promise<string> => (await veld.exec('web', 'timeout', '4', 'bash', '-c', `exec 3<>/dev/tcp/${outside.own4}/80 && head -n1 <&3`)).stderr;
  assert.doesNotMatch(await knock(), /refused/);
  await set('network.deny=80/tcp,out:any');
  assert.match(await knock(), /refused/);
  const before = (await veld.show('web')).pid;
  await veld.exec('web', 'systemd-run', '--quiet', 'sh', '-c', 'sleep 1; reboot');
  await veld.kill9();
  await until('the VE to be gone', () => !existsSync(`/proc/${before}`), 20_000, 50);
  await until('the VE to be back', async () => outside.ask<boolean>('ping', web.addresses[0]), 20_000, 100);
  assert.match(await outside.ask<string>('connect', web.addresses[0], 80), /ECONNREFUSED/);
  await veld.start();
  await veld.booted('web');
  assert.match(await knock(), /refused/);
  await set('network.deny=none');
  assert.doesNotMatch(await knock(), /refused/);
});

test('a rule that is none is refused with what would be one', async () => {
  const { code, stderr } = await veld.cli('set', 'web', 'network.deny=any:22/icmp');
  assert.equal(code, ERRORS['property.invalid'].exit);
  assert.match(stderr, /rules such as 22\/tcp/);
});

test('a destroyed VE takes its rules with it', async () => {
  await set('network.deny=80/tcp,out:any:25/tcp');
  assert.equal((await veld.cli('destroy', 'web', '--force', '--yes')).code, 0);
  assert.doesNotMatch(spawnSync('nft', ['list', 'table', 'inet', `veld_${veld.name}`], { encoding: 'utf8' }).stdout, /_101/);
});
