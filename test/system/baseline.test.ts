/** `cpu.baseline`: whom it reaches in a VE, that a run keeps what it was started with, and that it goes with its processes. (Two processors that differ are in test/vm/pair.test.ts.) */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Manifest } from '../../src/checkpoint/types.ts';
import { baselineEnvironment, baselineOf } from '../../src/kernel/baseline.ts';
import { guestTemplate } from '../lib/cache.ts';
import { startInstance } from '../lib/instance.ts';
import { makeNode, pair } from '../lib/nodes.ts';
import { until } from '../lib/wait.ts';

const skip = process.arch === 'x64' ? {} : { skip: 'cpu.baseline is for x86-64' };
const bare = (): ReturnType<typeof startInstance> => startInstance({ noTemplate: true });
const INITS = ['sysvinit', 'busybox'] as const;
const templates: string[] = [];
for (const init of INITS) templates.push(await guestTemplate({ suite: 'debian-12', init }, bare));
const settings = (own: { network: { uplinks: string[] } }): void => { own.network.uplinks = ['lo']; };
const a = await makeNode('alpha', { settings, templates });
const b = await makeNode('beta', { settings, noTemplate: true });
after(async () => {
  await Promise.all([a.destroy(), b.destroy()]);
});
await a.start();
await b.start();

const V2 = baselineEnvironment(baselineOf('x86-64-v2', []));
const TUNABLES = V2.GLIBC_TUNABLES!;

async function said(node: typeof a, ve: string, command: string): Promise<string> {
  const { stdout, stderr, exitCode } = await node.exec(ve, 'sh', '-c', command);
  assert.equal(exitCode, 0, `${command}: ${stdout}${stderr}`);
  return stdout.trim();
}
const environment = (pid: string): string => `tr '\\0' '\\n' </proc/${pid}/environ | grep ^GLIBC_TUNABLES= | cut -d= -f2- || true`;
/** Whom it is told in a VE with systemd. */
const PLACES = { 'init': environment('1'), 'a service': environment('$(pidof systemd-journald)'), 'a command': 'echo "$GLIBC_TUNABLES"', 'a session': 'su - -c \'echo "$GLIBC_TUNABLES"\'', 'the other variable': 'echo "$OPENSSL_ia32cap" | sed "s/.\\+/as told/"' };
const places = async (node: typeof a, ve: string): Promise<string[]> => {
  const answers = [];
  for (const command of Object.values(PLACES)) answers.push(await said(node, ve, command));
  return answers;
};
const TOLD = [TUNABLES, TUNABLES, TUNABLES, TUNABLES, 'as told'], UNTOLD = ['', '', '', '', ''];
const rebooted = async (ve: string, how: () => Promise<unknown>): Promise<void> => {
  const { pid } = await a.show(ve);
  await how();
  await until('it to have booted again', async () => ![pid, null].includes((await a.show(ve)).pid), 60_000);
  await a.booted(ve);
};

test('a VE with systemd is told, all of it, from its first boot', skip, async () => {
  await a.api.operate('POST', '/v1/ves', { name: 'web', template: 'test', properties: { 'cpu.baseline': 'x86-64-v2' }, start: true });
  await a.booted('web');
  await said(a, 'web', 'echo LANG=C.UTF-8 >>/etc/environment');
  assert.deepEqual(await places(a, 'web'), TOLD);
  // Own tunables hold beside it.
  const { stdout } = await a.api.call<{ stdout: string }>('POST', '/v1/ves/web/exec', { command: ['sh', '-c', 'echo $GLIBC_TUNABLES'], env: { GLIBC_TUNABLES: 'glibc.malloc.perturb=1' } });
  assert.equal(stdout.trim(), `glibc.malloc.perturb=1:${TUNABLES}`);
});

test('its run keeps it, over changes for the next start and reboots from inside; a start takes it away, and leaves the administrator\'s lines', skip, async () => {
  await assert.rejects(a.api.operate('PATCH', '/v1/ves/web/properties', { changes: { 'cpu.baseline': 'host' } }), /cannot change while web runs/);
  await a.api.operate('PATCH', '/v1/ves/web/properties', { changes: { 'cpu.baseline': 'host' }, nextStart: true });
  assert.deepEqual((await a.show('web')).pending, ['cpu.baseline']);
  await rebooted('web', () => a.exec('web', 'systemctl', '--no-block', 'reboot'));
  assert.deepEqual(await places(a, 'web'), TOLD);
  assert.deepEqual((await a.show('web')).pending, ['cpu.baseline']);
  await rebooted('web', () => a.api.operate('POST', '/v1/ves/web/restart'));
  assert.deepEqual(await places(a, 'web'), UNTOLD);
  assert.equal(await said(a, 'web', 'cat /etc/environment'), 'LANG=C.UTF-8');
});

test('`nodes` is what all of them have, which is told at the pairing; its processes go with it, and are not said to use more', skip, async () => {
  await pair(a, b, 'beta', { there: 'migrate,manage', here: 'migrate' });
  await a.api.operate('PATCH', '/v1/ves/web/properties', { changes: { 'cpu.baseline': 'nodes' }, nextStart: true });
  await a.api.operate('POST', '/v1/ves/web/restart');
  await a.booted('web');
  const told = baselineEnvironment(baselineOf('nodes', [])).GLIBC_TUNABLES;
  assert.equal(await said(a, 'web', PLACES.init), told);
  await a.api.operate('PATCH', '/v1/ves/web/properties', { changes: { 'cpu.baseline': 'x86-64-v2' }, nextStart: true });
  await a.api.operate('POST', '/v1/ves/web/restart');
  await a.booted('web');
  await a.api.operate('POST', '/v1/ves/web/migrate', { node: 'beta' });
  assert.deepEqual(await places(b, 'web'), TOLD);
  await b.api.operate('POST', '/v1/ves/web/suspend');
  const { processor, told: fewer } = JSON.parse(readFileSync(join(b.settings.stateDir, 'states', (await b.show('web')).uuid, 'manifest.json'), 'utf8')) as Manifest;
  assert.deepEqual([processor, fewer], [baselineOf('x86-64-v2', []), true]);
  await b.api.operate('POST', '/v1/ves/web/resume');
  assert.deepEqual(await places(b, 'web'), TOLD);
});

for (const init of INITS) {
  test(`with ${init} what init begins has it, too`, skip, async () => {
    await a.api.operate('POST', '/v1/ves', { name: init, template: `debian-12-${init}`, properties: { 'cpu.baseline': 'x86-64-v2' }, start: true });
    assert.equal(await said(a, init, environment('1')), TUNABLES);
    const told = await until('processes that init has begun', async () => (await a.exec(init, 'sh', '-c', 'for p in $(cat /proc/1/task/1/children); do tr "\\0" "\\n" </proc/$p/environ | grep ^GLIBC_TUNABLES=; done')).stdout.trim() || undefined, 60_000);
    assert.deepEqual([...new Set(told.split('\n'))], [`GLIBC_TUNABLES=${TUNABLES}`]);
    await a.api.operate('DELETE', `/v1/ves/${init}?force=true`);
  });
}

test('a command of an application VE has it', skip, async () => {
  await a.api.operate('POST', '/v1/ves', { name: 'app', template: 'test', properties: { 'cpu.baseline': 'x86-64-v2', 'boot.command': ['sh', '-c', 'echo "$GLIBC_TUNABLES" >/root/told; exec sleep 1000'] }, start: true });
  assert.equal(await until('its words', async () => (await a.exec('app', 'cat', '/root/told')).stdout.trim() || undefined, 30_000), TUNABLES);
});
