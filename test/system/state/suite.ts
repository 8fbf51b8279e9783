/**
 * What of a VE's state survives suspend and resume: a program for each object of the kernel (test/system/state/), all of them in one VE, asked after each of
 * several rounds whether their object is what it was. Then what criu loses without a word, and what it cannot dump.
 *
 * STATE_PROGRAMS, a regular expression on their ids, selects programs: to find the one that a suspend fails on.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Obstacle } from '../../../src/checkpoint/types.ts';
import { ApiError } from '../../lib/http.ts';
import { fileInstance } from '../../lib/instance.ts';
import { LOST } from './lost.ts';
import type { Program } from './program.ts';
import { ALL, ask, endAll, firstWords, install, startAll, tokens, unitOf } from './run.ts';
import type { Said } from './run.ts';
import { PREVENTED, UNDUMPABLE } from './undumpable.ts';

const ROUNDS = 3;
const wanted = new RegExp(process.env.STATE_PROGRAMS ?? '');
const selected = <T extends Program>(rows: readonly T[]): T[] => rows.filter(({ id }) => wanted.test(id));
const [survivors, lost, undumpable, prevented] = [selected(ALL), selected(LOST), selected(UNDUMPABLE), selected(PREVENTED)];

const veld = await fileInstance();
await veld.createRunning('box');
await veld.booted('box');
await install(veld, 'box', [...survivors, ...lost, ...undumpable, ...prevented], survivors);
const first = await startAll(veld, 'box', [...survivors, ...lost, ...prevented]);
const atFirst = await ask(veld, 'box', 0, 'check', first);

/** Suspends that failed by what systemd was just doing. */
const failures: string[] = [];
/** What each said after each round; a round that failed is the last. */
const rounds: Said[] = [];
let broken: Error | undefined;
for (let round = 1; round <= ROUNDS && broken === undefined; round++) {
  try {
    await suspend();
    await veld.api.operate('POST', '/v1/ves/box/resume');
    rounds.push(await ask(veld, 'box', round, 'check', first));
  } catch (error) {
    broken = error as Error;
  }
}
// Now each loses its object, and has to notice; then the VE boots anew, and fresh processes take the place of the old.
await ask(veld, 'box', ROUNDS + 1, 'harm', first);
const harmed = await ask(veld, 'box', ROUNDS + 2, 'check', first);

test(`${ROUNDS} rounds of suspend and resume`, (t) => {
  for (const line of failures) t.diagnostic(line);
  if (broken) throw new Error(broken instanceof ApiError ? JSON.stringify(broken.error, null, 2) : String(broken), { cause: broken });
  assert.ok(survivors.length + lost.length === 0 || rounds.length === ROUNDS);
});

for (const [category, rows] of Map.groupBy(survivors, (row) => row.category)) {
  describe(`what survives: ${category}`, () => {
    for (const { name, id } of rows) {
      test(name, (t) => {
        if (skips(id, t)) return;
        assert.equal(atFirst.get(id), 'ok', 'before the first suspend');
        assert.notEqual(rounds.length, 0, 'there was no round');
        for (const [i, said] of rounds.entries()) assert.equal(said.get(id), 'ok', `after round ${i + 1}`);
        assert.match(harmed.get(id) ?? 'nothing', /^FAIL/, 'when it has lost it on purpose');
      });
    }
  });
}

describe('what criu loses', () => {
  for (const { name, id, reason } of lost) {
    test(`${name} (${reason})`, (t) => {
      if (skips(id, t)) return;
      assert.equal(atFirst.get(id), 'ok', 'before the first suspend');
      assert.match(rounds[0]?.get(id) ?? 'nothing', /^FAIL/, 'it is kept: its row belongs to the others');
    });
  }
});

describe('what a VE cannot have', () => {
  for (const { name, id, reason } of prevented) {
    test(`${name} (${reason})`, (t) => {
      if (!skips(id, t)) assert.equal(atFirst.get(id), 'ok');
    });
  }
});

test('a fresh boot has none of it', async () => {
  await veld.api.operate('POST', '/v1/ves/box/stop');
  await veld.api.operate('POST', '/v1/ves/box/start');
  await veld.booted('box');
  const fresh = await firstWords(veld, 'box', survivors);
  const said = await ask(veld, 'box', ROUNDS + 3, 'check', first);
  for (const { id } of survivors.filter((row) => tokens(first).has(row.id))) {
    assert.match(said.get(id) ?? 'nothing', /^FAIL/, id);
    if (tokens(fresh).has(id)) assert.match(said.get(id) ?? 'nothing', /^FAIL another process/, id);
  }
  await endAll(veld, 'box', [...survivors, ...lost, ...prevented]);
});

describe('what cannot be suspended', () => {
  for (const row of undumpable) {
    test(`${row.name} (${row.reason})`, async (t) => {
      const word = await startAll(veld, 'box', [row]);
      try {
        if (word.get(row.id)?.startsWith('SKIP')) return t.skip(word.get(row.id));
        assert.equal((await ask(veld, 'box', 0, 'check', word)).get(row.id), 'ok');
        // (As `checkpoint --check`, which must know of each.)
        const obstacles = await veld.api.call<Obstacle[]>('GET', '/v1/ves/box/obstacles');
        assert.notDeepEqual(obstacles, [], '`--check` sees nothing in the way');
        const error = await veld.api.operate('POST', '/v1/ves/box/suspend').then(() => undefined, (reason: unknown) => reason as ApiError);
        if (error === undefined) {
          await veld.api.operate('POST', '/v1/ves/box/resume').catch(async (reason: unknown) => {
            // The rows after this one need a VE.
            await veld.api.operate('POST', '/v1/ves/box/start', { discardState: true });
            await veld.booted('box');
            throw new Error('it can, but not be resumed', { cause: reason });
          });
          assert.fail(`it can: and afterwards ${(await ask(veld, 'box', 1, 'check', word)).get(row.id)}`);
        }
        assert.match(error.code, /^checkpoint\.(refused|failed)$/, error.message);
        assert.doesNotMatch(error.error.message, /said nothing/, 'without a reason');
        t.diagnostic(`${error.code}: ${error.error.message}`);
        assert.equal((await ask(veld, 'box', 1, 'check', word)).get(row.id), 'ok', 'it goes on as before');
      } finally {
        // A message queue outlives its makers.
        await veld.exec('box', 'sh', '-c', `systemctl stop ${unitOf(row)}; rm -f /dev/mqueue/*`);
      }
    });
  }
});

describe('each of these is tried all the same: criu fails, or it is lost', () => {
  before(() => veld.restart({ VELD_FAULT: 'skip:suspend.obstacles' }));
  after(() => veld.restart());
  for (const row of undumpable) {
    test(row.name, async (t) => {
      const word = await startAll(veld, 'box', [row]);
      try {
        if (word.get(row.id)?.startsWith('SKIP')) return t.skip(word.get(row.id));
        const error = await veld.api.operate('POST', '/v1/ves/box/suspend').then(() => undefined, (reason: unknown) => reason as ApiError);
        if (error) {
          t.diagnostic(error.error.message);
          assert.equal(error.code, 'checkpoint.failed', error.error.message);
          assert.equal((await ask(veld, 'box', 1, 'check', word)).get(row.id), 'ok', 'it goes on as before');
          return;
        }
        const back = await veld.api.operate('POST', '/v1/ves/box/resume').then(() => undefined, (reason: unknown) => reason as ApiError);
        const found = back ? back.error.message : (await ask(veld, 'box', 1, 'check', word)).get(row.id);
        t.diagnostic(found ?? 'nothing');
        if ((await veld.show('box')).status !== 'running') {
          await veld.api.operate('POST', '/v1/ves/box/start', { discardState: true });
          await veld.booted('box');
        }
        if (row.sometimes !== undefined && found === 'ok') return t.diagnostic(`this time it came back: ${row.sometimes}`);
        assert.notEqual(found, 'ok', 'it comes back as it was: it is refused for nothing');
      } finally {
        await veld.exec('box', 'sh', '-c', `systemctl stop ${unitOf(row)}; rm -f /dev/mqueue/*`);
      }
    });
  }
});

test('without them the VE can be suspended', async () => {
  assert.deepEqual(await veld.api.call('GET', '/v1/ves/box/obstacles'), []);
  await veld.api.operate('POST', '/v1/ves/box/suspend');
  await veld.api.operate('POST', '/v1/ves/box/resume');
  assert.equal((await veld.exec('box', 'true')).exitCode, 0);
});

/** Suspend it; where messages or watches of systemd's are just then on their way, try again. */
async function suspend(): Promise<void> {
  for (let left = 5; ; left--) {
    try {
      await veld.api.operate('POST', '/v1/ves/box/suspend');
      return;
    } catch (error) {
      const { message } = error as Error;
      failures.push(message);
      if (left === 0 || !/Control messages in queue|parse_fdinfo|In-flight connection/.test(message)) throw error;
    }
  }
}

function skips(id: string, t: { skip(why?: string): void }): boolean {
  const word = first.get(id) ?? 'nothing';
  if (word.startsWith('SKIP')) t.skip(word.slice(5));
  else assert.match(word, /^READY/, 'set-up');
  return word.startsWith('SKIP');
}
