/**
 * criu is killed in the last moments of a restore. What has run goes on, and is never brought back from the same state again; what has not run stays suspended. Judged by a process
 * that counts, and those who look whether a number is missing or comes twice (sequence.ts).
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { criuAtWork, keepUnsaid } from '../lib/criu.ts';
import { fileInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { countIn } from '../lib/sequence.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
await veld.createRunning('web');
await veld.booted('web');
const { number } = await veld.show('web');
const folder = join(veld.settings.runDir, 'ves', String(number));
const sequence = await countIn(veld, 'web');
after(() => sequence.end());
await sequence.goesOn(20_000);
let running = veld.outline();

const suspend = async (): Promise<void> => { await veld.api.operate('POST', '/v1/ves/web/suspend'); };
/** Begin a resume. @returns what it says in the end: empty when it is done */
const resume = (): Promise<string> => veld.api.operate('POST', '/v1/ves/web/resume').then(() => '', (error: Error) => error.message);
/**
 * Suspend, and begin a resume until criu waits for its last script: it cannot go on when that has ended.
 * @returns the last number from before, what {@link resume} gives, and the pid of criu
 */
async function resumeToLastScript(): Promise<{ last: number; ended: Promise<string>; criu: number }> {
  await suspend();
  const last = sequence.last();
  const ended = resume();
  const criu = await criuAtWork(veld.name);
  await until('its last script', () => existsSync(join(folder, 'init')), 20_000, 1);
  return { last, ended, criu };
}

const restored = (): boolean => existsSync(join(folder, 'restored'));
const initStatus = (): string => readFileSync(`/proc/${readFileSync(join(folder, 'init'), 'utf8').split(' ')[0]}/status`, 'utf8');

const childrenOf = (pid: number, name: string): number[] => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number).filter((child) => readFileSync(`/proc/${child}/comm`, 'utf8').trim() === name);

test('when all of it is there and nothing runs: it stays suspended, and comes back from the same state', async () => {
  for (let i = 0; i < 3; i++) {
    const { last, ended, criu } = await resumeToLastScript();
    process.kill(criu, 'SIGSTOP');
    await until('all of it to be there', restored, 20_000, 1);
    assert.match(initStatus(), /^SigBlk:\tfffffffffffbfeff$/m);
    process.kill(criu, 'SIGKILL');
    assert.match(await ended, /stays suspended/);
    assert.equal((await veld.show('web')).status, 'suspended');
    assert.equal(sequence.last(), last, 'it has run');
    assert.equal(await resume(), '');
    await sequence.goesOn(20_000);
  }
  assertSame(veld.outline(), running, 'traces');
});

test('when it runs, and nobody has said so yet: it runs on', async () => {
  for (let i = 0; i < 3; i++) {
    const { last, ended, criu } = await resumeToLastScript();
    const giveBack = await keepUnsaid(folder);
    try {
      await until('it to run', () => sequence.last() > last, 20_000, 1);
      assert.ok(existsSync(join(folder, 'restore')), 'it has been said already');
      // And with it who would say so, or that one would sooner or later.
      process.kill(criu, 'SIGSTOP');
      for (const child of childrenOf(criu, 'veld-criu-hook')) process.kill(child, 'SIGKILL');
      process.kill(criu, 'SIGKILL');
    } finally {
      giveBack();
    }
    assert.equal(await ended, '');
    assert.equal((await veld.show('web')).status, 'running');
    await sequence.goesOn(20_000);
    assert.equal((await veld.exec('web', 'systemd-run', '--quiet', '--collect', '--wait', 'true')).exitCode, 0);
  }
  // Nor is anything in the way of another state.
  await suspend();
  assert.equal(await resume(), '');
  await sequence.goesOn(20_000);
  running = veld.outline();
  assert.equal(sequence.wrong(), undefined);
});
