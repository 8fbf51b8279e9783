/**
 * The host goes down, in order or without a warning, and the daemon dies, in the middle of operations: afterwards each VE is wholly there or gone.
 *
 * Points are those of test/system/crash.test.ts, which visits all of them; here a few of each verb, chosen by VELD_TEST_SEED, on a kernel and under a
 * systemd that are those of servers. Where the power is cut, the daemon dies at the point first: what it had not written is lost either way.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OperationRecord } from '../../src/store/types.ts';
import { SEED, randomFrom } from '../lib/random.ts';
import { until } from '../lib/wait.ts';
import { PATIENCE } from './host.ts';
import type { Host } from './host.ts';

type State = 'absent' | 'stopped' | 'running';

interface Verb {
  from: State;
  /** Where it may end when it was cut short. */
  to: State[];
  run(host: Host): Promise<unknown>;
}

const NAME = 'victim';

const VERBS: Record<string, Verb> = {
  create: { from: 'absent', to: ['absent', 'stopped', 'running'], run: (host) => host.create(NAME) },
  start: { from: 'stopped', to: ['stopped', 'running'], run: (host) => host.api.operate('POST', `/v1/ves/${NAME}/start`) },
  stop: { from: 'running', to: ['running', 'stopped'], run: (host) => host.api.operate('POST', `/v1/ves/${NAME}/stop`) },
  destroy: { from: 'running', to: ['absent', 'running', 'stopped'], run: (host) => host.destroy(NAME) },
};

/** Asks the unit `keeper` of a VE for its number, which no file has: it is one more each time. */
async function told(host: Host, ve: string): Promise<string> {
  await host.exec(ve, 'sh', '-c', 'rm -f /run/told; systemctl kill -s USR1 --kill-whom=main keeper');
  return until('the number', async () => (await host.exec(ve, 'cat', '/run/told')).stdout.trim() || undefined, PATIENCE, 250);
}

/** Start the unit of {@link told}. */
const keep = (host: Host, ve: string) =>
  host.exec(ve, 'systemd-run', '--quiet', '--unit=keeper', 'sh', '-c', 'n=40; tell() { n=$((n+1)); echo $n >/run/told; }; trap tell USR1; while :; do sleep 0.2; done');

/** A boot of the host in order. */
export function rebootTests(host: Host): void {
  const { machine } = host;

  test('a running VE is suspended and resumed, cloned and rolled back', async () => {
    await host.create('other');
    await host.booted('other');
    await keep(host, 'other');
    assert.equal(await told(host, 'other'), '41');
    for (let round = 0; round < 2; round++) {
      await host.api.operate('POST', '/v1/ves/other/suspend');
      await host.api.operate('POST', '/v1/ves/other/resume');
    }
    assert.equal(await told(host, 'other'), '42');
    await host.api.operate('POST', '/v1/ves/other/snapshots', { name: 'one', live: true });
    assert.equal(await told(host, 'other'), '43');
    await host.api.operate('POST', '/v1/ves/other/clone', { name: 'twin', live: true });
    assert.equal(await told(host, 'twin'), '44');
    assert.equal(await host.said('twin', 'hostname'), 'twin');
    await host.destroy('twin');
    await host.api.operate('POST', '/v1/ves/other/snapshots/one/restore');
    assert.equal(await told(host, 'other'), '43');
    await host.healthy('other');
  });

  test('the host boots again: VEs are shut down in order, boot.start brings back its own, a suspended one waits to be resumed, and one that shutdown.action suspends is there again', async () => {
    await host.set('demo', { 'boot.start': true });
    await host.exec('demo', 'systemd-run', '--quiet', '--unit=witness', '-p', 'ExecStop=/bin/sh -c "echo in order >/root/stopped"', 'sleep', 'infinity');
    await host.api.operate('POST', '/v1/ves/other/suspend');
    await host.create('kept');
    await host.set('kept', { 'shutdown.action': 'suspend' });
    await host.booted('kept');
    await keep(host, 'kept');
    assert.equal(await told(host, 'kept'), '41');
    await machine.reboot();
    await back(host);
    await until('kept to be back', async () => (await host.show('kept')).status === 'running', PATIENCE, 250);
    assert.equal(await told(host, 'kept'), '42');
    await host.destroy('kept');
    assert.equal(await host.said('demo', 'cat', '/root/stopped'), 'in order');
    assert.equal((await host.show('other')).status, 'suspended');
    await host.api.operate('POST', '/v1/ves/other/resume');
    assert.equal(await told(host, 'other'), '44');
    // Nothing had to be waited for to the last, or be killed.
    assert.equal(await machine.ask('journalctl -b -1 --no-pager | grep -E "timed out. Killing|did not shut down within"', { allow: true }), '');
    await host.destroy('other');
  });
}

/** A boot of the host in order, with operations under way. */
export function interruptedTest(host: Host): void {
  const { machine } = host;

  test('the host boots again with operations half done: each VE is wholly there or gone', async () => {
    const empty = await traces(host);
    for (const ve of ['slow', 'leaving']) {
      await host.create(ve);
      await host.booted(ve);
    }
    await host.exec('slow', 'sh', '-c', 'printf "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStop=/bin/sleep 8\\n" >/etc/systemd/system/slow.service && systemctl start slow');
    const under = [host.api.operate('POST', '/v1/ves/slow/stop')];
    await until('the stop to be under way', async () => (await host.show('slow')).status === 'stopping', PATIENCE, 100);
    under.push(host.api.operate('DELETE', '/v1/ves/leaving?force=true'),
      ...['one', 'two', 'three'].map((ve) => host.api.operate('POST', '/v1/ves', { name: ve, template: host.template, start: true })));
    const ended = Promise.allSettled(under);
    await machine.reboot();
    await ended;
    await back(host);
    const ves = await settled(host);
    for (const { name, status } of ves) assert.equal(status, name === 'demo' ? 'running' : 'stopped', name);
    assert.ok(ves.some(({ name }) => name === 'slow'));
    for (const { name } of ves) if (name !== 'demo') await usable(host, name);
    assert.deepEqual(await traces(host), empty);
  });
}

/** The power is cut while much is under way. */
export function powerTest(host: Host): void {
  const { machine } = host;

  test('power cut while VEs are made: each is wholly there or gone', async (t) => {
    await onlyDemo(host);
    const empty = await traces(host);
    const delay = 500 + Math.floor(randomFrom(SEED)() * 6000);
    t.diagnostic(`seed ${SEED}: cut after ${delay} ms`);
    const ended = Promise.allSettled(['one', 'two', 'three', 'four'].map((ve) => host.create(ve)));
    await sleep(delay);
    await machine.powerCut();
    await ended;
    await machine.start();
    await back(host);
    const ves = (await settled(host)).filter(({ name }) => name !== 'demo');
    assert.ok(ves.every(({ status }) => status === 'stopped'), JSON.stringify(ves));
    if (ves[0]) await usable(host, ves[0].name);
    for (const { name } of ves.slice(1)) await host.destroy(name);
    assert.deepEqual(await traces(host), empty);
  });
}

/**
 * Deaths of the daemon and of the host's power.
 * @param names verbs; all of them in the full check
 * @param counts points of each at which the daemon dies, and at which the power is cut
 */
export function crashTests(host: Host, names: readonly string[], counts: { kills: number; cuts: number }): void {
  const { machine } = host;
  const random = randomFrom(SEED);
  let empty: string[] | undefined;

  for (const [name, verb] of Object.entries(VERBS)) {
    if (!names.includes(name) && !process.env.VELD_TEST_FULL) continue;
    test(`cut short anywhere in ${name}: by the end of the daemon ${counts.kills} times, of the power ${counts.cuts} times`, async (t) => {
      if (!empty) {
        await onlyDemo(host);
        empty = await traces(host);
      }
      await prepareFaults(host);
      await bring(host, verb.from);
      const points = await pointsOf(host, verb);
      assert.ok(points.length >= counts.kills + counts.cuts, `${points.length} points`);
      for (let i = 0; i < counts.kills + counts.cuts; i++) {
        const [point = ''] = points.splice(Math.floor(random() * points.length), 1);
        const cut = i >= counts.kills;
        const what = `seed ${SEED}, ${name}: ${cut ? 'power' : 'daemon'} gone at ${point}`;
        t.diagnostic(what);
        await bring(host, verb.from);
        await restart(host, `VELD_FAULT=kill:${point}`);
        await verb.run(host).catch(() => {});
        if (cut) {
          await machine.powerCut();
          await machine.start();
          await prepareFaults(host);
          await back(host);
        } else await host.answers();
        const state = await whole(host, what, empty);
        assert.ok(verb.to.includes(state), `${what}: the VE is ${state}`);
        if (cut) assert.notEqual(state, 'running', what);
      }
      await bring(host, 'absent');
      assert.deepEqual(await traces(host), empty);
      await forgetFaults(host);
    });
  }
}

/** Whatever else a test that failed has left. */
async function onlyDemo(host: Host): Promise<void> {
  for (const { name } of await host.list()) if (name !== 'demo') await host.destroy(name);
}

/** Wait until the host is as it should be after a boot. */
async function back(host: Host): Promise<void> {
  await host.answers();
  await until('demo to come back', async () => (await host.show('demo')).status === 'running', PATIENCE, 250);
  await host.booted('demo');
}

/** The VEs, once no operation is under way and none of them neither runs nor rests. */
async function settled(host: Host): Promise<{ name: string; status: string; uuid: string }[]> {
  return until('all operations to end', async () => {
    if ((await host.api.call<OperationRecord[]>('GET', '/v1/operations')).some(({ state }) => state === 'running')) return undefined;
    const ves = await host.list();
    return ves.every(({ status }) => ['running', 'stopped', 'failed'].includes(status)) ? ves : undefined;
  }, PATIENCE, 100);
}

async function stateOf(host: Host): Promise<State> {
  const status = (await settled(host)).find(({ name }) => name === NAME)?.status ?? 'absent';
  // `failed`: it should run, and does not.
  return status === 'failed' ? 'stopped' : status as State;
}

/** What VEs are on this host: files, groups, run folders, links, monitors. */
async function traces(host: Host): Promise<string[]> {
  await settled(host);
  return (await host.machine.ask(`cd /var/lib/veld; ls -d ves/* layers/* staging/* ${host.group}/[0-9]* /run/veld/ves/* /run/veld/crun/* 2>/dev/null; `
    + 'ip -o link | grep -o "vmain-[0-9]*"; echo "$(pgrep -xc conmon) monitors"', { allow: true })).split('\n').sort();
}

/** Bring the victim into a state, with a healthy daemon. */
async function bring(host: Host, state: State): Promise<void> {
  const now = await stateOf(host);
  if (now === state) return;
  if (state === 'absent') return host.destroy(NAME);
  if (now === 'absent') await host.api.operate('POST', '/v1/ves', { name: NAME, template: host.template, start: state === 'running' });
  else await host.api.operate('POST', `/v1/ves/${NAME}/${state === 'running' ? 'start' : 'stop'}`, {});
  if (state === 'running') await host.booted(NAME);
}

/** Running and usable, or stopped with nothing on the host, or gone without a trace. @returns its state */
async function whole(host: Host, what: string, empty: readonly string[]): Promise<State> {
  const state = await stateOf(host);
  if (state === 'running') {
    assert.equal(await host.said(NAME, 'echo', 'alive'), 'alive', what);
    return state;
  }
  const ve = (await host.list()).find(({ name }) => name === NAME);
  assert.deepEqual(await traces(host), ve ? [...empty, `ves/${ve.uuid}`].sort() : empty, `${what}: traces of a VE that is ${state}`);
  return state;
}

/** A VE that stands there stopped can be started, and destroyed. */
async function usable(host: Host, ve: string): Promise<void> {
  await host.api.operate('POST', `/v1/ves/${ve}/start`);
  await host.booted(ve);
  await host.destroy(ve);
}

const FAULT = '/run/veld-fault';

/** Let the daemon take variables from a file, for one start only. Gone with the next boot. */
async function prepareFaults(host: Host): Promise<void> {
  await host.machine.run(`mkdir -p /run/systemd/system/veldd.service.d && printf '%s\\n' '[Unit]' 'StartLimitIntervalSec=0' '[Service]' 'EnvironmentFile=-${FAULT}' 'ExecStart='`
    + ` 'ExecStart=/bin/sh -c "rm -f ${FAULT}; exec ${host.program}/bin/veldd"' >/run/systemd/system/veldd.service.d/test.conf && systemctl daemon-reload`);
}

/** Start the daemon anew as its unit says. */
async function forgetFaults(host: Host): Promise<void> {
  await host.machine.run('rm -r /run/systemd/system/veldd.service.d && systemctl daemon-reload && systemctl restart veldd');
  await host.answers();
}

/** Start the daemon anew, with these variables. */
async function restart(host: Host, variables: string): Promise<void> {
  await host.machine.run(`echo '${variables}' >${FAULT} && systemctl restart veldd`);
  await host.answers();
}

/** The fault points that a verb reaches, as VELD_FAULT names them: each with its number since the daemon's start. */
async function pointsOf(host: Host, verb: Verb): Promise<string[]> {
  const log = '/run/veld-points';
  const lines = async (): Promise<string[]> => (await host.machine.ask(`cat ${log}`)).split('\n').filter(Boolean);
  await host.machine.run(`: >${log}`);
  await restart(host, `VELD_FAULT_LOG=${log}`);
  const before = await lines();
  await verb.run(host);
  const all = await lines();
  return all.flatMap((name, i) => (i < before.length ? [] : [`${name}#${all.slice(0, i + 1).filter((other) => other === name).length}`]));
}
