/** Instant deploy: a template keeps a VE as it was just after its boot, and new VEs are made of that. */
import assert from 'node:assert/strict';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { askUntil, serveGreeting } from '../lib/tcp.ts';
import { until } from '../lib/wait.ts';
import type { TemplateView, VeDetail } from '../../src/ve/types.ts';

const veld = await fileInstance({ settings: (settings) => { settings.deploy.warm = true; } });

const template = () => veld.api.call<TemplateView>('GET', '/v1/templates/test');
const said = async (ve: string, command: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await veld.exec(ve, 'sh', '-c', command);
  assert.equal(exitCode, 0, `${command}: ${stderr}`);
  return stdout.trim();
};
const destroy = (...ves: string[]) => Promise.all(ves.map((ve) => veld.api.operate('DELETE', `/v1/ves/${ve}?force=true`)));
const snapshots = join(veld.settings.stateDir, 'snapshots');

/** What no two VEs may have in common. */
async function identity(ve: string): Promise<Record<string, string>> {
  return {
    name: await said(ve, 'hostname'), machine: await said(ve, 'cat /etc/machine-id'), keys: await said(ve, 'cat /etc/ssh/ssh_host_*_key.pub | cut -d " " -f 2'),
    served: await said(ve, 'ssh-keyscan -t ed25519 localhost 2>/dev/null | cut -d " " -f 3'), journal: await said(ve, 'ls /run/log/journal /var/log/journal 2>/dev/null | grep -v :'),
    address: await said(ve, 'ip -o -4 addr show dev eth0 | sed "s/.*inet //; s/ .*//"'), uids: await said(ve, 'cat /proc/self/uid_map'), mac: await said(ve, 'cat /sys/class/net/eth0/address'),
  };
}

let empty: string[];

test('the first VE of a template boots, and leaves it warm', async () => {
  empty = veld.traces();
  assert.equal((await template()).warm, null);
  const first = await veld.createRunning('first');
  assert.equal(first.deployed, 'cold');
  await until('the template to be warm', async () => (await template()).warm, 60_000);
  assert.deepEqual((await veld.list()).map(({ name }) => name), ['first'], 'the model is not there, nor was it seen');
  assert.match((await veld.cli('template', 'list')).stdout, /WARM.*\n.*yes/);
});

test('the next ones need no boot: all services run, and each is somebody else', async () => {
  const ves = ['second', 'third'];
  for (const ve of ves) {
    const made = await veld.createRunning(ve, { 'memory.limit': '300M', hostname: `${ve}-host` });
    assert.equal(made.deployed, 'warm');
    assert.equal(await said(ve, 'systemctl is-system-running'), 'running');
    assert.equal(await said(ve, 'systemctl is-active ssh.service systemd-journald.service dbus.service | sort -u'), 'active');
    assert.match(await said(ve, 'grep MemTotal /proc/meminfo'), /\b307200 kB/);
    assert.ok(Number((await said(ve, 'cat /proc/uptime')).split(' ')[0]) < 60, 'its model had just booted');
    assert.match(await said(ve, 'cat /etc/hostname /etc/hosts'), new RegExp(`${ve}-host`));
  }
  const [first, second, third] = [await identity('first'), await identity('second'), await identity('third')];
  for (const [one, other] of [[first, second], [first, third], [second, third]] as const) {
    for (const [what, value] of Object.entries(one)) assert.notEqual(value, other[what], what);
  }
  for (const [ve, { name, machine, keys, served, journal }] of [['second', second], ['third', third]] as const) {
    assert.equal(name, `${ve}-host`);
    assert.equal(machine, (await veld.show(ve)).uuid.replaceAll('-', ''));
    assert.ok(keys!.split('\n').includes(served!), 'what sshd serves is its own key');
    assert.equal(journal, machine, 'the journal of the model is gone');
  }
  assert.match((await veld.cli('show', 'third')).stdout, /warm image/);
});

test('they reach each other, log, and reboot like any other', async () => {
  const third = await veld.show('third');
  await serveGreeting(veld, 'third', 7000);
  assert.match(await askUntil(third.addresses[0]!, 7000), /third/);
  await said('second', 'logger hello-from-second && journalctl --sync');
  assert.match(await said('second', 'journalctl -t root --no-pager | tail -n 1'), /second-host.*hello-from-second/);
  await veld.exec('second', 'systemctl', 'reboot');
  await until('another init', async () => { const now = await veld.show('second'); return now.status === 'running' && now.pid !== third.pid && (await veld.exec('second', 'true')).exitCode === 0; });
  assert.equal(await veld.booted('second'), 'running');
});

test('can be suspended, cloned and checkpointed', async () => {
  await veld.api.operate('POST', '/v1/ves/third/suspend');
  await veld.api.operate('POST', '/v1/ves/third/resume');
  await veld.api.operate('POST', '/v1/ves/third/clone', { name: 'fourth', live: true });
  assert.equal(await said('fourth', 'systemctl is-system-running'), 'running');
  await destroy('fourth');
});

test('a VE that must be otherwise from its boot on boots', async () => {
  assert.equal((await veld.createRunning('nested', { 'features.nesting': true })).deployed, 'cold');
  assert.equal((await veld.createRunning('single', { 'boot.command': ['sleep', '600'] })).deployed, 'cold');
  assert.equal((await veld.createRunning('small', { 'memory.limit': '64M' })).deployed, 'cold');
  await destroy('nested', 'single', 'small');
});

test('an image that cannot be brought back costs nobody a VE', async () => {
  const [id] = readdirSync(snapshots);
  const file = join(snapshots, id!, 'images/pstree.img');
  rmSync(file);
  writeFileSync(file, 'nothing of the sort');
  const made = await veld.createRunning('fallen');
  assert.equal(made.deployed, 'cold');
  assert.equal(await veld.booted('fallen'), 'running');
  assert.equal((await template()).warm, null, 'it is not tried again at once');
  assert.match(veld.daemonLog(), /warm image of its template could not be used/);
  await destroy('fallen');
});

test('is made and thrown away by hand; killed in the middle of making it nothing is left', async () => {
  const result = await veld.cli('template', 'warm', 'test');
  assert.equal(result.code, 0, result.stderr);
  assert.notEqual((await template()).warm, null);
  assert.equal((await veld.cli('template', 'warm', '--drop', 'test')).code, 0);
  assert.equal((await template()).warm, null);
  assert.deepEqual(readdirSync(snapshots), []);
  const running = await veld.api.call<{ id: string }>('POST', '/v1/templates/test/warm');
  assert.ok(running.id);
  await until('the model to run', () => veld.traces().length > 0 && (veld.outline().filter((line) => line.startsWith('cgroup')).length) > 2);
  await veld.kill9();
  await veld.start();
  await destroy('first', 'second', 'third');
  assert.deepEqual(readdirSync(snapshots), []);
  assertSame(veld.traces(), empty, 'traces');
});

test('killed in the middle of a warm deploy there is no VE', async () => {
  assert.equal((await veld.cli('template', 'warm', 'test')).code, 0);
  for (const fault of ['deploy.state', 'resume.folder']) {
    await veld.restart({ VELD_FAULT: `kill:${fault}` });
    await veld.api.operate('POST', '/v1/ves', { name: 'half', template: 'test', start: true }).catch(() => {});
    await veld.died();
    await veld.start();
    assert.deepEqual((await veld.list()).map(({ name }) => name), []);
  }
  assertSame(veld.traces(), empty, 'traces');
  const whole: VeDetail = await veld.createRunning('whole');
  assert.equal(whole.deployed, 'warm');
});

test('the setting switches it off', async () => {
  writeFileSync(veld.settingsFile, JSON.stringify({ ...veld.settings, deploy: { warm: false }, libexecDir: undefined }));
  await veld.restart();
  assert.equal((await veld.createRunning('plain')).deployed, 'cold');
  assert.equal((await template()).warm, null);
});
