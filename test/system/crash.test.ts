/**
 * The daemon dies anywhere, and the next one leaves every VE wholly there or wholly gone.
 *
 * First each verb is done once with VELD_FAULT_LOG to learn its fault points; then it is done again for each of them with a daemon
 * that is killed there (phases, steps, and after each external command), or in which a step fails. Last come kills at random times.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TEMPLATE } from '../lib/cache.ts';
import { faultOf, pointsOf } from '../lib/faults.ts';
import type { FaultPoint } from '../lib/faults.ts';
import { ApiError } from '../lib/http.ts';
import { fileInstance } from '../lib/instance.ts';
import { processesOf } from '../lib/leftovers.ts';
import { SEED, randomFrom } from '../lib/random.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import type { OperationRecord } from '../../src/store/types.ts';
import type { VeView } from '../../src/ve/types.ts';

const FULL = process.env.VELD_TEST_FULL !== undefined;
const RANDOM_KILLS = FULL ? 200 : 10;

const veld = await fileInstance();
const NAME = 'victim';
const empty = [...veld.traces(), ...volumes()];

type State = 'absent' | 'stopped' | 'running' | 'suspended';

interface Verb {
  from: State;
  /** States in which it may end when the daemon died meanwhile. */
  to: State[];
  request: [method: string, path: string, body?: object];
}

const VERBS: Record<string, Verb> = {
  create: { from: 'absent', to: ['absent', 'stopped'], request: ['POST', '/v1/ves', { name: NAME, template: TEMPLATE }] },
  'create and start': { from: 'absent', to: ['absent', 'stopped', 'running'], request: ['POST', '/v1/ves', { name: NAME, template: TEMPLATE, start: true }] },
  start: { from: 'stopped', to: ['stopped', 'running'], request: ['POST', `/v1/ves/${NAME}/start`] },
  stop: { from: 'running', to: ['running', 'stopped'], request: ['POST', `/v1/ves/${NAME}/stop`] },
  restart: { from: 'running', to: ['running', 'stopped'], request: ['POST', `/v1/ves/${NAME}/restart`] },
  suspend: { from: 'running', to: ['running', 'suspended'], request: ['POST', `/v1/ves/${NAME}/suspend`] },
  resume: { from: 'suspended', to: ['suspended', 'running'], request: ['POST', `/v1/ves/${NAME}/resume`] },
  destroy: { from: 'running', to: ['absent', 'running', 'stopped'], request: ['DELETE', `/v1/ves/${NAME}?force=true`] },
};

/** In `./check full` all points. Else, of a command that runs many times in one operation (waiting, mostly), the first two times and the last; and of these one of six: which, the seed says. */
function thinned(points: readonly FaultPoint[]): FaultPoint[] {
  if (FULL) return [...points];
  const some = points.filter((point) => {
    const same = points.filter((other) => other.name === point.name);
    return same.length <= 3 || same.indexOf(point) < 2 || point === same.at(-1);
  });
  return some.length < 6 ? some : some.filter((_, i) => i % 6 === SEED % 6);
}

/** Volumes on disk: whole or half, a VE that is gone has none. */
function volumes(): string[] {
  return ['ves', 'layers', 'staging', 'states'].flatMap((folder) => {
    try {
      return readdirSync(join(veld.settings.stateDir, folder)).map((entry) => `${folder}/${entry}`);
    } catch {
      return [];
    }
  });
}

/** Do a verb to its end, whatever that is: the daemon may die under it. */
async function attempt({ request: [method, path, body] }: Verb): Promise<OperationRecord | undefined> {
  try {
    return await veld.api.operate(method, path, body);
  } catch {
    return undefined;
  }
}

/** Do something by a healthy daemon; it may be cleaning up after an exit just now, so busy means wait. */
async function operate(method: string, path: string, body?: object): Promise<void> {
  const refused = await until(`${method} ${path}`, async () => {
    const outcome = await veld.api.operate(method, path, body).catch((error: unknown) => error as Error);
    if (!(outcome instanceof ApiError)) return outcome;
    // How often a command runs can depend on timing: a fault that was meant for an earlier verb may only come now, also when nothing can be taken back
    // any more. Then the next daemon finishes it.
    if (outcome.message.includes('injected failure')) await veld.restart();
    else if ((outcome.code === 've.suspended' && path.endsWith('/suspend')) || (outcome.code === 've.not_found' && method === 'DELETE')) return 'done';
    else if (outcome.code !== 've.busy') return outcome;
    return undefined;
  }, 20_000);
  if (refused instanceof Error) throw refused;
}

/** Bring the one VE of this file into a state, with a healthy daemon. */
async function bring(state: State): Promise<void> {
  let now = await settled();
  if (now === state) return;
  const verb = (name: string, body?: object): Promise<void> => operate('POST', `/v1/ves/${NAME}/${name}`, body);
  if (state === 'absent') return operate('DELETE', `/v1/ves/${NAME}?force=true`);
  if (now === 'absent') {
    await operate('POST', '/v1/ves', { name: NAME, template: TEMPLATE });
    now = 'stopped';
  }
  if (state === 'stopped') {
    if (now === 'suspended') await verb('start', { discardState: true });
    if (now !== 'stopped') await verb('stop', { force: true });
    return;
  }
  if (now !== 'running') await verb(now === 'suspended' ? 'resume' : 'start');
  if (state === 'suspended') await verb('suspend');
}

/** Wait until no operation is under way, then say what is. */
async function settled(): Promise<State> {
  await until('all operations to end', async () => {
    const operations = await veld.api.call<OperationRecord[]>('GET', '/v1/operations');
    return operations.every((operation) => operation.state !== 'running');
  }, 60_000);
  // The end of an init that no operation has seen is dealt with in the background.
  const ves = await until('a VE that neither starts nor stops', async () => {
    const now = await veld.list();
    return now.every((ve) => ve.status !== 'starting' && ve.status !== 'stopping') ? now : undefined;
  }, 30_000);
  assert.ok(ves.length <= 1, `${ves.length} VEs where one was made`);
  const status = ves[0]?.status ?? 'absent';
  // `failed`: it should run, and does not, as after a restart whose start failed. On the host that is the same as stopped.
  if (status === 'failed') return 'stopped';
  assert.ok(status === 'absent' || status === 'stopped' || status === 'running' || status === 'suspended', `the VE is ${status}`);
  return status;
}

/** Whole: running and usable once, or stopped with nothing on the host, or gone without a trace. @returns its state */
async function assertWhole(what: string): Promise<State> {
  const state = await settled();
  const monitors = processesOf(veld.name).filter((process) => /\/conmon /.test(process.what));
  assert.equal(monitors.length, state === 'running' ? 1 : 0, `${what}: ${monitors.length} monitors of a VE that is ${state}`);
  if (state === 'running') {
    const said = await veld.exec(NAME, 'sh', '-c', 'echo alive');
    assert.equal(said.stdout, 'alive\n', `${what}: ${said.stderr}`);
  } else {
    const [ve] = await veld.list();
    assertSame([...veld.traces(), ...volumes()], ve ? [...empty, `ves/${ve.uuid}`, ...state === 'suspended' ? [`states/${ve.uuid}`] : []] : empty, `${what}: traces of a VE that is ${state}`);
  }
  return state;
}

/** A VE can be made, started and destroyed afterwards, and nothing stays. */
async function assertUsable(what: string): Promise<void> {
  await bring('running');
  assert.equal((await veld.exec(NAME, 'true')).exitCode, 0, what);
  await bring('absent');
  assertSame([...veld.traces(), ...volumes()], empty, `${what}: after a destroy`);
}

for (const [name, verb] of Object.entries(VERBS)) {
  test(`killed anywhere in ${name}`, async (t) => {
    await bring(verb.from);
    const points = thinned(await pointsOf(veld, () => attempt(verb)));
    assert.ok(points.length > 0, 'no fault points');
    let missed = 0;
    for (const point of points) {
      const fault = faultOf('kill', point);
      await bring(verb.from);
      const uuid = (await veld.list())[0]?.uuid;
      await veld.restart({ VELD_FAULT: fault });
      await attempt(verb);
      if (veld.pid !== undefined && !(await veld.died(2000).then(() => true, () => false))) {
        missed += 1;
        t.diagnostic(`${fault} was not reached`);
        await veld.restart();
        continue;
      }
      await veld.start();
      const state = await assertWhole(fault);
      assert.ok(verb.to.includes(state), `${fault}: the VE is ${state}`);
      if (uuid !== undefined && state !== 'absent') assert.equal((await veld.list())[0]?.uuid, uuid, `${fault}: another VE`);
      await assertInterrupted(fault);
    }
    await assertUsable(`after ${name}`);
    assert.ok(missed <= Math.max(1, points.length / 4), `${missed} of ${points.length} points were not reached`);
    t.diagnostic(`${points.length - missed} points: ${points.map((p) => p.name).join(' ')}`);
  });
}

/** No operation of an earlier daemon is shown as succeeded or running when it was cut short. */
async function assertInterrupted(what: string): Promise<void> {
  const [latest] = (await veld.api.call<OperationRecord[]>('GET', '/v1/operations')).filter((operation) => operation.requestId !== null);
  assert.notEqual(latest?.state, 'running', what);
}

for (const name of ['create and start', 'start', 'stop', 'restart', 'suspend', 'resume', 'destroy'] as const) {
  const verb = VERBS[name]!;
  test(`a failure at any step of ${name}`, async (t) => {
    await bring(verb.from);
    const all = await pointsOf(veld, () => attempt(verb));
    const points = thinned(all);
    for (const point of points) {
      const fault = faultOf('fail', point);
      await bring(verb.from);
      await veld.restart({ VELD_FAULT: fault });
      const done = await attempt(verb);
      // What has begun to tear a VE down cannot go back: where a command fails there, the next verb must still find its way.
      if (verb.from === 'running' && !point.name.startsWith('did:')) await settled();
      else {
        const state = await assertWhole(fault);
        // A restart that fails after its stop leaves a stopped VE, which is not made to run again behind the operator's back.
        // What fails when a resumed VE runs already is a proof that it works, not the resume.
        const runs = name === 'resume' && all.indexOf(point) > all.findIndex((other) => other.name === 'ran:veld-boot');
        if (done === undefined && name !== 'restart') assert.equal(state, runs ? 'running' : verb.from, `${fault}: a failed ${name} changed the VE`);
      }
      // A destroy that has begun is finished by the next daemon, if not by this one.
      if (name === 'destroy') await veld.restart();
      await bring('absent');
      assertSame([...veld.traces(), ...volumes()], empty, `${fault}: after a destroy`);
    }
    await veld.restart();
    await assertUsable(`after failures in ${name}`);
    t.diagnostic(`${points.length} points`);
  });
}

test(`killed ${RANDOM_KILLS} times at random (seed ${SEED})`, async (t) => {
  const random = randomFrom(SEED);
  const verbs = Object.entries(VERBS);
  await veld.restart();
  for (let round = 0; round < RANDOM_KILLS; round++) {
    const state = await assertWhole(`before round ${round}`);
    const possible = verbs.filter(([, verb]) => verb.from === state || (state === 'stopped' && verb.request[0] === 'DELETE'));
    const [name, verb] = possible[Math.floor(random() * possible.length)]!;
    const delay = Math.floor(random() * 700);
    const what = `round ${round}: ${name}, killed after ${delay} ms`;
    const ended = attempt(verb);
    await sleep(delay);
    await veld.kill9();
    await ended;
    await veld.start();
    const after = await assertWhole(what);
    assert.ok(verb.to.includes(after) || after === state, `${what}: the VE is ${after}`);
  }
  await assertUsable('after all');
  t.diagnostic(`seed ${SEED}`);
});

test('a daemon that dies again and again while it recovers gets there in the end', async () => {
  await bring('running');
  const before: VeView = (await veld.list())[0]!;
  await veld.stop();
  for (let i = 0; i < 5; i++) {
    const starting = veld.start({ VELD_FAULT: '' }).catch(() => undefined);
    await sleep(40 + 60 * i);
    await veld.kill9();
    await starting;
  }
  await veld.start();
  assert.equal((await veld.list())[0]?.pid, before.pid, 'the VE never noticed');
  assert.equal(await assertWhole('after five deaths at start'), 'running');
  await bring('absent');
});
