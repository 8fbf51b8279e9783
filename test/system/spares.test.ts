/** Spare VEs: of a template that is deployed one stands ready, and the next deploy only gives it a name. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { askUntil, serveGreeting } from '../lib/tcp.ts';
import { until } from '../lib/wait.ts';
import { readRunState } from '../../src/ve/run-folder.ts';
import type { TemplateView, VeDetail } from '../../src/ve/types.ts';

const veld = await fileInstance({ settings: (settings) => { settings.deploy = { warm: true, spares: 1 }; } });

const template = () => veld.api.call<TemplateView>('GET', '/v1/templates/test');
const spareThere = () => until('a spare', async () => (await template()).spares === 1);
const said = async (ve: string, command: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await veld.exec(ve, 'sh', '-c', command);
  assert.equal(exitCode, 0, `${command}: ${stderr}`);
  return stdout.trim();
};
const destroy = (...ves: string[]) => Promise.all(ves.map((ve) => veld.api.operate('DELETE', `/v1/ves/${ve}?force=true`)));
const names = async () => (await veld.list()).map(({ name }) => name);
/** Numbers of VEs that have a group, seen or not. */
const numbers = (): number[] => [...new Set(veld.outline().flatMap((line) => /^cgroup.*\/(\d+)$/.exec(line)?.[1] ?? []).map(Number))];

let empty: string[];

test('after the first deploy one stands ready, which nobody sees', async () => {
  empty = veld.traces();
  assert.equal((await veld.createRunning('first')).deployed, 'cold');
  await until('a spare', async () => (await template()).spares === 1, 60_000);
  assert.deepEqual(await names(), ['first']);
  assert.equal((await template()).uses, 1);
  assert.match((await veld.cli('template', 'show', 'test')).stdout, /Spare VEs:\s+1 ready/);
  const spare = numbers().find((number) => number !== 101);
  assert.ok(spare, 'it runs');
  assert.equal((await veld.cli('show', String(spare))).code, 4, 'it is there for nobody');
});

test('the next VE is that one, with a name, an address and limits of its own', async () => {
  const spare = numbers().find((number) => number !== 101);
  const made = await veld.createRunning('second', { 'memory.limit': '300M', hostname: 'second-host', 'network.publish': [] });
  assert.equal(made.number, spare);
  assert.equal(made.deployed, 'warm');
  assert.equal(made.status, 'running');
  assert.ok(Date.now() - Date.parse(made.createdAt) < 10_000);
  assert.equal(await said('second', 'hostname; cat /etc/hostname'), 'second-host\nsecond-host');
  assert.match(await said('second', 'cat /etc/hosts'), new RegExp(`${made.addresses[0]!.replaceAll('.', '\\.')}.*second`));
  assert.equal(await said('second', 'cat /etc/machine-id'), made.uuid.replaceAll('-', ''));
  assert.equal(await said('second', 'ls /run/log/journal /var/log/journal 2>/dev/null | grep -v :'), made.uuid.replaceAll('-', ''));
  assert.equal(await said('second', 'systemctl is-system-running; systemctl is-active ssh.service systemd-journald.service dbus.service | sort -u'), 'running\nactive');
  assert.match(await said('second', 'grep MemTotal /proc/meminfo'), /\b307200 kB/);
  const served = await said('second', 'ssh-keyscan -t ed25519 localhost 2>/dev/null | cut -d " " -f 3');
  assert.match(await said('second', 'cat /etc/ssh/ssh_host_ed25519_key.pub'), new RegExp(served.replaceAll('+', '\\+')));
  assert.notEqual(served, await said('first', 'cut -d " " -f 2 /etc/ssh/ssh_host_ed25519_key.pub'));
  assert.doesNotMatch(await said('second', 'cat /etc/ssh/*.pub /etc/hosts /etc/hostname'), /spare/);
  await said('second', 'logger hello-from-second && journalctl --sync');
  assert.match(await said('second', 'journalctl -t root --no-pager | tail -n 1'), /second-host.*hello-from-second/);
});

test('it is in the network from its first moment on, and its firewall holds', async () => {
  await spareThere();
  const third = await veld.createRunning('third', { 'network.deny': ['7001/tcp'] });
  await serveGreeting(veld, 'third', 7000);
  assert.match(await askUntil(third.addresses[0]!, 7000), /third/);
  const [second] = (await veld.show('second')).addresses;
  assert.equal(await said('third', `ping -c 1 -W 2 ${second} >/dev/null && echo answers`), 'answers');
  assert.equal(await said('third', 'getent hosts second | cut -d " " -f 1'), (await veld.show('second')).addresses.find((address) => address.includes(':')) ?? second);
});

test('an address by hand; bad names, taken addresses and VEs that must boot leave the spare where it is', async () => {
  await spareThere();
  const [taken] = (await veld.show('third')).addresses;
  await assert.rejects(veld.createRunning('third'), /already a VE/);
  await assert.rejects(veld.createRunning('other', { 'network.addresses': [taken!] }), /taken|third/);
  assert.equal((await veld.createRunning('nested', { 'features.nesting': true })).deployed, 'cold');
  assert.equal((await template()).spares, 1);
  const byHand = taken!.replace(/\d+$/, '77');
  const made = await veld.createRunning('byhand', { 'network.addresses': [byHand], 'network.dns': ['192.0.2.53'] });
  assert.deepEqual(made.addresses, [byHand]);
  assert.equal(made.deployed, 'warm');
  assert.equal(await said('byhand', 'ip -o -4 addr show dev eth0 | sed "s/.*inet //; s/[ /].*//"; grep -c 192.0.2.53 /etc/resolv.conf'), `${byHand}\n1`);
  await destroy('nested', 'byhand');
});

test('reboots, suspends and clones like any other', async () => {
  const before = await veld.show('second');
  await veld.exec('second', 'systemctl', 'reboot');
  await until('another init', async () => { const now = await veld.show('second'); return now.status === 'running' && now.pid !== before.pid && (await veld.exec('second', 'true')).exitCode === 0; });
  assert.equal(await veld.booted('second'), 'running');
  assert.equal(await said('second', 'hostname'), 'second-host');
  await veld.api.operate('POST', '/v1/ves/third/suspend');
  await veld.api.operate('POST', '/v1/ves/third/resume');
  await veld.api.operate('POST', '/v1/ves/third/clone', { name: 'fourth', live: true });
  assert.equal(await said('fourth', 'hostname'), 'fourth');
  await destroy('fourth', 'third');
});

test('of several deploys at once each gets a VE of its own', async () => {
  await spareThere();
  const made = await Promise.all(['a', 'b', 'c'].map((name) => veld.createRunning(name)));
  assert.equal(new Set(made.map(({ number }) => number)).size, 3);
  assert.equal(new Set(made.flatMap(({ addresses }) => addresses)).size, made.flatMap(({ addresses }) => addresses).length);
  for (const { name } of made) assert.equal(await said(name, 'hostname; systemctl is-system-running'), `${name}\nrunning`);
  await destroy('a', 'b', 'c');
});

test('a spare that has ended, or is not well, costs nobody a VE', async () => {
  await spareThere();
  const before = new Set((await veld.list()).map(({ number }) => number));
  const spare = numbers().find((number) => !before.has(number))!;
  process.kill(readRunState(veld.settings, spare).init!.pid, 'SIGKILL');
  await until('its end', () => readRunState(veld.settings, spare).init === undefined);
  const made = await veld.createRunning('after');
  assert.equal(made.deployed, 'warm');
  assert.notEqual(made.number, spare);
  await veld.restart({ VELD_FAULT: 'fail:deploy.spare' });
  await spareThere();
  const other: VeDetail = await veld.createRunning('unlucky');
  assert.equal(other.deployed, 'warm');
  assert.equal(await said('unlucky', 'hostname; systemctl is-system-running'), 'unlucky\nrunning');
  assert.match(veld.daemonLog(), /a spare VE could not be used/);
  await destroy('after', 'unlucky');
});

test('a daemon that ends takes its spares with it, and one that is killed leaves them to the next', async () => {
  await veld.restart({ VELD_FAULT: 'kill:deploy.spare' });
  await spareThere();
  await veld.api.operate('POST', '/v1/ves', { name: 'half', template: 'test', start: true }).catch(() => {});
  await veld.died();
  await veld.start();
  assert.ok(!(await names()).includes('half'));
  await spareThere(); // the template was deployed within the hour
  await veld.kill9();
  await veld.start();
  await spareThere();
  await destroy(...await names());
  await veld.stop();
  assert.deepEqual(numbers(), []);
  await veld.start();
  assertSame(veld.traces(), empty, 'traces');
});

test('goes with its image and its template; the setting makes none', async () => {
  assert.equal((await veld.cli('template', 'warm', 'test')).code, 0);
  await spareThere();
  assert.equal((await veld.cli('template', 'warm', '--drop', 'test')).code, 0);
  assert.equal((await template()).spares, 0);
  assertSame(veld.traces(), empty, 'traces');
  assert.equal((await veld.cli('template', 'warm', 'test')).code, 0);
  await spareThere();
  assert.equal((await veld.cli('template', 'delete', 'test')).code, 0);
  assertSame(veld.traces(), empty, 'traces');
  writeFileSync(veld.settingsFile, JSON.stringify({ ...veld.settings, deploy: { warm: true, spares: -1 }, libexecDir: undefined }));
  await assert.rejects(veld.restart(), /deploy\.spares|ended/);
});
