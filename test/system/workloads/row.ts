/** Does one row of the matrix: a node or two, a VE, clients, and rounds of suspend and resume, or of migrations, under them. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Obstacle } from '../../../src/checkpoint/types.ts';
import { guestName } from '../../lib/cache.ts';
import { ApiError } from '../../lib/http.ts';
import type { Instance } from '../../lib/instance.ts';
import { until } from '../../lib/wait.ts';
import { makeHome, type Home, type HomeKind } from './home.ts';
import type { Guest, Load, LoadReport, Workload } from './types.ts';

/** Milliseconds of load before the first round, between rounds and after the last one. */
const CALM = 2000;

export interface RowResult {
  name: string;
  /** What became of it: `works`, `refused as expected`, or the first line of the failure. */
  outcome: string;
  rounds: number;
  /** Milliseconds of each request, as its caller saw them; of migrations how long the VE stood, and how long all of it took. */
  suspends: number[];
  resumes: number[];
  /** Answers a second while nothing happened. */
  rate: number | null;
  /** Milliseconds, of one client. */
  longestGap: number | null;
}

/** Do a row. Never throws: what went wrong is in the result. @param rounds at most @param kind where the VE lives, and so what a round is */
export async function doRow(workload: Workload, rounds: number, kind: HomeKind = 'one node'): Promise<RowResult> {
  const result: RowResult = { name: workload.name, outcome: 'works', rounds: 0, suspends: [], resumes: [], rate: null, longestGap: null };
  let home: Home | undefined;
  let load: Load | undefined;
  try {
    const { suite = 'debian-12', packages } = workload;
    const template = { suite, include: packages };
    home = await makeHome(kind, template);
    const guest = await makeGuest(home, packages.length === 0 ? suite : guestName(template), workload);
    await workload.setup?.(guest);
    assert.equal(await home.now().booted('ve'), 'running', await guest.sh('systemctl --failed --no-legend --plain'));
    if (workload.refused) {
      await assertRefused(home.now(), workload.refused);
      await assertRightlyRefused(home.now());
      result.outcome = 'refused, as expected';
      return result;
    }
    load = await workload.load?.(guest);
    const since = performance.now();
    await sleep(CALM);
    if (load) result.rate = load.answers() / ((performance.now() - since) / 1000);
    const todo = Math.min(rounds, workload.rounds ?? rounds);
    for (let round = 1; round <= todo; round++) {
      await assertCheckAgrees(home.now());
      await home.round(result);
      await workload.afterResume?.(guest, round);
      // Whose question was lost on the way asks again after as long as it has waited until then: that is TCP's own way.
      await load?.answered();
      await sleep(CALM / 2);
      assert.deepEqual(load?.problems() ?? [], [], `round ${round}`);
      result.rounds = round;
    }
    await sleep(CALM / 2);
    const report = await load?.stop();
    load = undefined;
    if (report) reported(report, result);
    await workload.check?.(guest, report);
    assert.equal(await guest.sh('systemctl --failed --no-legend --plain'), '', 'failed units');
    if (workload.reboot) {
      await reboot(home.now());
      await home.round(result);
      assert.equal(await home.now().booted('ve'), 'running');
    }
    if (result.rate !== null && result.rate < (workload.rate ?? 0)) result.outcome = `works, though the clients had less than ${workload.rate} answers/s`;
  } catch (error) {
    const said = error instanceof Error ? error : new Error(String(error));
    result.outcome = `FAILS in round ${result.rounds + 1}: ${said.message.replaceAll('\n', ' ').slice(0, 600)}${said.cause instanceof Error ? ` (${said.cause.message})` : ''}`;
    // For the log of the test: what the VE says, if it can.
    const journal = await home?.now().exec('ve', 'sh', '-c', 'journalctl -b --no-pager | tail -60').catch(() => undefined);
    process.stderr.write(`${workload.name}: ${said.stack}\n${journal?.stdout ?? ''}\n`);
    if (error instanceof ApiError && error.error.details) result.outcome += ` ${JSON.stringify(error.error.details).slice(0, 1500)}`;
  } finally {
    // Clients whose VE has failed have nobody to wait for.
    void load?.stop().catch(() => {});
    await home?.destroy();
  }
  return result;
}

function reported(report: LoadReport, result: RowResult): void {
  result.longestGap = report.longestGap;
  assert.deepEqual(report.problems, [], 'what the clients saw');
  assert.equal(report.answers, report.questions, 'answers to all questions');
}

async function makeGuest(home: Home, template: string, { properties = {} }: Workload): Promise<Guest> {
  const veld = home.now();
  await veld.api.operate('POST', '/v1/ves', { name: 've', template, properties, start: true });
  assert.equal(await veld.booted('ve'), 'running', (await veld.exec('ve', 'systemctl', '--failed', '--no-legend', '--plain')).stdout);
  const folder = join(veld.dir, 'clients');
  mkdirSync(folder, { mode: 0o700 });
  return {
    name: 've', address: (await veld.show('ve')).addresses[0]!, folder,
    async sh(script) {
      const { exitCode, stdout, stderr } = await home.now().exec('ve', 'sh', '-c', script);
      assert.equal(exitCode, 0, `${script.trim().slice(0, 200)}: ${stdout}${stderr}`);
      return stdout;
    },
  };
}

async function assertRefused(veld: Instance, message: RegExp): Promise<void> {
  const refusal = await veld.api.operate('POST', '/v1/ves/ve/suspend').then(() => undefined, (error: unknown) => error as Error);
  assert.ok(refusal, 'it was suspended');
  assert.match(refusal.message, message);
  assert.equal((await veld.show('ve')).status, 'running');
}

/** `checkpoint --check` says that nothing is in the way; what is only for a moment may be. */
async function assertCheckAgrees(veld: Instance): Promise<void> {
  const obstacles = await veld.api.call<Obstacle[]>('GET', '/v1/ves/ve/obstacles');
  assert.deepEqual(obstacles.filter(({ kind }) => kind !== 'queue'), [], '`--check` sees something in the way');
}

/** What was refused cannot be done: criu itself fails on it, and the VE runs on. */
async function assertRightlyRefused(veld: Instance): Promise<void> {
  await veld.restart({ VELD_FAULT: 'skip:suspend.obstacles' });
  const failure = await veld.api.operate('POST', '/v1/ves/ve/suspend').then(() => undefined, (error: unknown) => error as ApiError);
  assert.ok(failure, 'it can be suspended: it is refused for nothing');
  assert.equal(failure.code, 'checkpoint.failed', failure.message);
  assert.equal((await veld.show('ve')).status, 'running');
  await veld.restart();
}

async function reboot(veld: Instance): Promise<void> {
  const { pid } = await veld.show('ve');
  await veld.exec('ve', 'systemctl', 'reboot');
  await until('another init', async () => ![pid, null].includes((await veld.show('ve')).pid), 60_000);
  await until('the VE to run', async () => (await veld.show('ve')).status === 'running', 60_000);
  assert.equal(await veld.booted('ve'), 'running', 'after a reboot inside');
}
