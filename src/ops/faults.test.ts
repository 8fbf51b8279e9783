/** Dies and fails at every fault point of an operation, in processes of their own (the point is read from the environment). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { openStore } from '../store/sqlite.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-ops-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;

/** An operation that makes three things and keeps them in the store's facts, so that what is left after a death can be seen. */
const SCRIPT = `
import { openStore } from ${JSON.stringify(new URL('../store/sqlite.ts', import.meta.url).href)};
import { createEventBus } from ${JSON.stringify(new URL('events.ts', import.meta.url).href)};
import { createOperations } from ${JSON.stringify(new URL('operations.ts', import.meta.url).href)};
const store = openStore(process.env.DB);
const none = () => {};
const operations = createOperations({ store, events: createEventBus(), log: { debug: none, info: none, warn: none, error: none } });
const record = operations.start({ kind: 'make', ve: 'u1', requestId: null }, async (task) => {
  for (const name of ['a', 'b', 'c']) {
    task.phase('before-' + name, { name });
    store.setMeta(name, true);
    task.undo(name, () => store.setMeta(name, undefined));
  }
  if (process.env.FAIL) throw new Error('on purpose');
  task.commit();
  task.phase('committed');
});
const end = await operations.wait(record.id);
console.log(end.state, JSON.stringify(end.error));
store.close();
`;

function runWith(env: Record<string, string>) {
  const file = join(folder, `${count += 1}.db`);
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', SCRIPT], { env: { ...process.env, DB: file, ...env }, encoding: 'utf8', timeout: 20_000 });
  const store = openStore(file);
  const things = ['a', 'b', 'c'].filter((name) => store.getMeta(name) === true);
  const journal = store.listJournal();
  const state = store.listOperations(1)[0]?.state;
  store.close();
  return { signal: child.signal, out: child.stdout.trim(), err: child.stderr, things, journal, state };
}

function points(env: Record<string, string>): string[] {
  const log = join(folder, `${count += 1}.log`);
  runWith({ ...env, VELD_FAULT_LOG: log });
  return readFileSync(log, 'utf8').trim().split('\n').filter((point) => !point.startsWith('store:'));
}

describe('fault points of an operation', () => {
  it('are its phases, its steps, and their undoing, in order', () => {
    const forth = ['phase:make.before-a', 'did:make.a', 'phase:make.before-b', 'did:make.b', 'phase:make.before-c', 'did:make.c'];
    assert.deepEqual(points({}), [...forth, 'phase:make.committed']);
    assert.deepEqual(points({ FAIL: '1' }), [...forth, 'undo:c', 'undo:b', 'undo:a']);
  });

  it('fail: nothing is left, unless it was committed', () => {
    for (const point of points({})) {
      const { out, err, things, journal } = runWith({ VELD_FAULT: `fail:${point}` });
      assert.match(out, /^failed .*injected failure/, err);
      const committed = point === 'phase:make.committed';
      assert.deepEqual(things, committed ? ['a', 'b', 'c'] : [], point);
      assert.equal(journal.length, committed ? 1 : 0, point);
    }
  });

  it('fail in the middle of undoing: the step is tried again, and nothing is left', () => {
    for (const point of ['undo:c', 'undo:b', 'undo:a']) {
      const { out, things, journal } = runWith({ FAIL: '1', VELD_FAULT: `fail:${point}` });
      assert.match(out, /^failed .*on purpose/);
      assert.deepEqual([things, journal], [[], []], point);
    }
  });

  it('kill: the journal knows the phase, and all that is there was announced', () => {
    for (const env of [{}, { FAIL: '1' }] as Record<string, string>[]) {
      for (const point of points(env)) {
        const { signal, things, journal, state } = runWith({ ...env, VELD_FAULT: `kill:${point}` });
        assert.deepEqual([signal, state, journal.length], ['SIGKILL', 'running', 1], point);
        const phase = journal[0]?.phase ?? '';
        const announced = phase === 'committed' ? ['a', 'b', 'c'] : ['a', 'b', 'c'].slice(0, 'abc'.indexOf(phase.at(-1) ?? '') + 1);
        assert.deepEqual(things.filter((thing) => !announced.includes(thing)), [], point);
      }
    }
  });
});
