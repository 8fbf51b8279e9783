/** An init that dies at boot is never reported as a running VE: the start fails, with its last words. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { TEMPLATE } from '../lib/cache.ts';
import { ApiError } from '../lib/http.ts';
import { assertSame } from '../lib/same.ts';
import { fileInstance } from '../lib/instance.ts';

const veld = await fileInstance();
const empty = veld.traces();
beforeEach(async () => {
  for (const ve of await veld.list()) await veld.api.operate('DELETE', `/v1/ves/${ve.name}?force=true`);
});

/** A VE whose /sbin/init is replaced from inside, then stopped. */
async function withInit(name: string, script: string): Promise<void> {
  await veld.createRunning(name);
  const written = await veld.exec(name, 'sh', '-c', `rm -f /sbin/init && printf '%s' "$1" > /sbin/init && chmod 755 /sbin/init`, 'sh', script);
  assert.equal(written.exitCode, 0, written.stderr);
  await veld.api.operate('POST', `/v1/ves/${name}/stop`, { force: true });
}

async function startFails(name: string): Promise<ApiError> {
  const outcome = await veld.api.operate('POST', `/v1/ves/${name}/start`).catch((error: unknown) => error);
  assert.ok(outcome instanceof ApiError, 'start reported success');
  return outcome;
}

test('its last words and status are in the error, and nothing of it runs', async () => {
  await withInit('mute', '#!/bin/sh\necho "no disk for /srv, giving up" >/dev/console 2>&1\necho "no disk for /srv, giving up"\nexit 42\n');
  const error = await startFails('mute');
  assert.equal(error.code, 've.init_died');
  assert.match(error.message, /no disk for \/srv, giving up/);
  assert.match(error.message, /42/);
  const ve = await veld.show('mute');
  assert.ok(['stopped', 'failed'].includes(ve.status), ve.status);
  assert.equal(ve.pid, null);
  assertSame(veld.traces(), empty, 'a failed start leaves nothing');
  const result = await veld.cli('start', 'mute');
  assert.equal(result.code, 10);
  assert.match(result.stderr, /giving up/);
});

test('an init that is killed at once', async () => {
  await withInit('killed', '#!/bin/sh\nkill -9 $$\nexit 1\n'); // pid 1 is immune to its own signals: it ends by exit
  assert.equal((await startFails('killed')).code, 've.init_died');
  assertSame(veld.traces(), empty, 'a failed start leaves nothing');
});

test('no init at all', async () => {
  await veld.createRunning('headless');
  await veld.exec('headless', 'rm', '-f', '/sbin/init');
  await veld.api.operate('POST', '/v1/ves/headless/stop', { force: true });
  const error = await startFails('headless');
  assert.ok(['ve.start_failed', 've.init_died'].includes(error.code), error.code);
  assert.match(error.message, /init/);
  assertSame(veld.traces(), empty, 'a failed start leaves nothing');
});

test('an init that never comes up is given boot.timeout, no more', async () => {
  // systemd that waits forever before it makes its groups: a generator that does not end.
  await veld.createRunning('slow', { 'boot.timeout': 2 });
  await veld.exec('slow', 'sh', '-c', 'mkdir -p /etc/systemd/system-generators && printf "#!/bin/sh\\nsleep 600\\n" > /etc/systemd/system-generators/stuck && chmod 755 /etc/systemd/system-generators/stuck');
  await veld.api.operate('POST', '/v1/ves/slow/stop', { force: true });
  const since = Date.now();
  assert.equal((await startFails('slow')).code, 've.start_failed');
  assert.ok(Date.now() - since < 15_000);
  assertSame(veld.traces(), empty, 'a failed start leaves nothing');
});

test('create --start with a broken init leaves no half VE', async () => {
  // A template cannot be broken in one line; a VE that cannot get its memory can: init is killed while it boots.
  const before = (await veld.list()).length;
  try {
    await veld.api.operate('POST', '/v1/ves', { name: 'tiny', template: TEMPLATE, properties: { 'memory.limit': '16M', 'memory.swap': '0', 'pids.limit': 16, 'boot.timeout': 3 }, start: true });
  } catch (error) {
    assert.ok(error instanceof ApiError);
    assert.equal((await veld.list()).length, before, 'a create that failed made nothing');
    assertSame(veld.traces(), empty, 'a failed start leaves nothing');
    return;
  }
  // It did come up in 16 MiB: then it is whole.
  assert.equal((await veld.show('tiny')).status, 'running');
});
