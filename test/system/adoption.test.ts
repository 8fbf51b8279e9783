/** The daemon comes and goes; VEs stay. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { startTime } from '../lib/guard.ts';
import { listen } from '../lib/events.ts';
import { fileInstance } from '../lib/instance.ts';
import { ask, askUntil, serveGreeting } from '../lib/tcp.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();

/** What must not change while a daemon is away. */
async function life(ve: string): Promise<{ pid: number | null; born: string | undefined; address: string }> {
  const { pid, addresses } = await veld.show(ve);
  return { pid, born: startTime(pid ?? 0), address: addresses[0]! };
}

for (const [how, end] of [['stopped', () => veld.stop()], ['killed', () => veld.kill9()]] as const) {
  test(`a daemon that is ${how} leaves a running VE alone, the next one adopts it`, async () => {
    const name = `lives-${how}`;
    await veld.createRunning(name);
    await veld.booted(name);
    await serveGreeting(veld, name, 5000);
    const before = await life(name);
    await askUntil(before.address, 5000);
    await end();
    assert.equal(startTime(before.pid ?? 0), before.born, 'init lives on');
    assert.equal(await ask(before.address, 5000), `greetings from ${name}\n`, 'and serves');
    await veld.start();
    assert.deepEqual(await life(name), before);
    assert.equal((await veld.show(name)).status, 'running');
    assert.equal((await veld.exec(name, 'systemctl', 'is-system-running')).stdout, 'running\n');
    assert.equal(await ask(before.address, 5000), `greetings from ${name}\n`);
    // It is wholly the new daemon's: it can be changed and stopped.
    await veld.api.operate('PATCH', `/v1/ves/${name}/properties`, { changes: { 'pids.limit': 999 } });
    await veld.api.operate('POST', `/v1/ves/${name}/stop`);
    assert.equal((await veld.show(name)).lastExit?.code, 130);
    await veld.api.operate('DELETE', `/v1/ves/${name}`);
  });
}

test('a VE that another version booted is brought up to this one: commands, and the next boot', async () => {
  const { number } = await veld.createRunning('upgraded');
  await veld.booted('upgraded');
  const before = await life('upgraded');
  await veld.stop();
  // As an older version would have left it that lay elsewhere, and knew nothing of tini.
  const file = join(veld.settings.runDir, 'ves', String(number), 'env');
  const [was, now] = [/^VELD_LIBEXEC=.*$/m, `VELD_LIBEXEC='${join(veld.dir, 'older-version')}'`];
  const written = readFileSync(file, 'utf8');
  writeFileSync(file, written.replace(was, now).replace(/^VELD_TINI=.*\n/m, ''));
  await veld.start();
  assert.equal(readFileSync(file, 'utf8'), written);
  assert.deepEqual(await life('upgraded'), before);
  assert.equal((await veld.exec('upgraded', 'true')).exitCode, 0);
  await veld.exec('upgraded', 'systemctl', 'reboot');
  await until('another init', async () => {
    const { pid, status } = await veld.show('upgraded');
    return pid !== null && pid !== before.pid && status === 'running';
  }, 30_000);
  assert.equal(await veld.booted('upgraded'), 'running');
  await veld.api.operate('DELETE', '/v1/ves/upgraded?force=true');
});

test('a frozen VE stays frozen over a change of daemons', async () => {
  await veld.createRunning('cold');
  await veld.api.operate('POST', '/v1/ves/cold/freeze');
  await veld.restart();
  assert.equal((await veld.show('cold')).status, 'frozen');
  await veld.api.operate('POST', '/v1/ves/cold/thaw');
  assert.equal((await veld.exec('cold', 'true')).exitCode, 0);
  await veld.api.operate('DELETE', '/v1/ves/cold?force=true');
});

test('a reboot inside while the daemon is down reboots the VE', async () => {
  await veld.createRunning('again');
  await veld.booted('again');
  const before = await life('again');
  const status = (await veld.exec('again', 'sh', '-c', 'systemd-run --quiet sh -c "sleep 1; systemctl reboot"')).exitCode;
  assert.equal(status, 0);
  await veld.stop();
  await until('the old init to be gone', () => startTime(before.pid ?? 0) !== before.born, 30_000);
  await until('another init to serve, without a daemon', () => veld.traces().some((line) => line.includes('systemd') || line.includes('/sbin/init')), 30_000);
  await veld.start();
  const after = await life('again');
  assert.notEqual(after.born, before.born);
  assert.equal((await veld.show('again')).status, 'running');
  assert.equal(await veld.booted('again'), 'running');
  assert.equal((await veld.exec('again', 'true')).exitCode, 0);
  await veld.api.operate('DELETE', '/v1/ves/again?force=true');
});

test('a poweroff inside while the daemon is down is recorded, and leaves nothing', async () => {
  const empty = veld.traces();
  await veld.createRunning('leaves');
  await veld.booted('leaves');
  const before = await life('leaves');
  await veld.exec('leaves', 'systemd-run', '--quiet', 'sh', '-c', 'sleep 1; systemctl poweroff');
  await veld.stop();
  await until('init to be gone', () => startTime(before.pid ?? 0) !== before.born, 30_000);
  await veld.start();
  const ve = await until('it to be stopped', async () => {
    const now = await veld.show('leaves');
    return now.status === 'stopped' ? now : undefined;
  });
  assert.equal(ve.lastExit?.code, 130);
  assert.match(ve.lastExit.reason, /power|off|halt/i);
  await until('its traces to be gone', () => JSON.stringify(veld.traces()) === JSON.stringify(empty), 20_000)
    .catch(() => assert.deepEqual(veld.traces(), empty));
  await veld.api.operate('POST', '/v1/ves/leaves/start');
  await veld.api.operate('DELETE', '/v1/ves/leaves?force=true');
});

test('an init that was killed is started again by the policy, later each time', async () => {
  await veld.createRunning('phoenix', { 'restart.policy': 'on-failure' });
  const listener = await listen(veld.api);
  const waits: unknown[] = [];
  for (let round = 1; round <= 2; round++) {
    const { pid } = await veld.show('phoenix');
    process.kill(pid ?? 0, 'SIGKILL');
    await until(`restart ${round}`, async () => {
      const now = await veld.show('phoenix');
      return now.pid !== null && now.pid !== pid && now.status === 'running' ? now : undefined;
    }, 20_000);
    waits.push(listener.events.filter((event) => event.type === 've.restart-scheduled').at(-1)?.data?.seconds);
  }
  assert.equal(waits.length, 2);
  assert.ok(Number(waits[1]) > Number(waits[0]), `waited ${waits.join(', then ')} s`);
  // A poweroff is a wish, not a failure.
  await veld.exec('phoenix', 'systemctl', 'poweroff');
  await until('it to stay off', async () => (await veld.show('phoenix')).status === 'stopped');
  await new Promise((resolve) => { setTimeout(resolve, 1500); });
  assert.equal((await veld.show('phoenix')).status, 'stopped');
  listener.close();
  await veld.api.operate('DELETE', '/v1/ves/phoenix');
});

test('without a policy a killed VE is shown as failed or stopped, with the reason', async () => {
  const { pid } = await veld.createRunning('mortal');
  process.kill(pid ?? 0, 'SIGKILL');
  const ve = await until('its end to be seen', async () => {
    const now = await veld.show('mortal');
    return now.pid === null && now.lastExit !== null ? now : undefined;
  });
  assert.ok(['failed', 'stopped'].includes(ve.status));
  assert.equal(ve.lastExit?.code, 137);
  await veld.api.operate('DELETE', '/v1/ves/mortal');
});

test('an operation that was under way is shown as interrupted, never as running for ever', async () => {
  await veld.createRunning('slow');
  await veld.exec('slow', 'sh', '-c', 'printf "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStop=/bin/sleep 4\\n" > /etc/systemd/system/slow.service && systemctl start slow');
  const { id } = await veld.api.call<{ id: string }>('POST', '/v1/ves/slow/stop');
  // Before its first phase is in the journal a stop is only a wish, which dies with the daemon.
  await until('the stop to be under way', async () => (await veld.show('slow')).status === 'stopping');
  await veld.kill9();
  await veld.start();
  const record = await until('its end', async () => {
    const now = await veld.api.call<{ state: string }>('GET', `/v1/operations/${id}`);
    return now.state === 'running' ? undefined : now;
  });
  assert.equal(record.state, 'interrupted');
  // The stop was promised: the new daemon finishes it.
  await until('it to be stopped', async () => (await veld.show('slow')).status === 'stopped', 30_000);
  await until('it to be free', async () => (await veld.api.raw('DELETE', '/v1/ves/slow?wait=1')).status === 200);
});
