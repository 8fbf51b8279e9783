import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VeldError } from '../lib/errors.ts';
import type { OperationRecord } from '../store/types.ts';
import { openStore } from '../store/sqlite.ts';
import { createBackups, type ScheduledVe } from './backups.ts';

/** A job whose clock stands where the test puts it, and whose operations end as it says. */
function bench() {
  const store = openStore(':memory:');
  const made: string[] = [];
  const failed: string[] = [];
  const state = { now: new Date('2026-11-27T10:30:00'), end: 'succeeded' as OperationRecord['state'], busy: false, ves: [] as ScheduledVe[] };
  const make = () => createBackups({
    ves: () => state.ves, store, now: () => state.now,
    backUp(uuid) {
      if (state.busy) throw new VeldError('ve.busy', 'busy');
      made.push(uuid);
      return { id: uuid } as OperationRecord;
    },
    watch: (id, listener) => setImmediate(() => listener({ id, state: state.end, endedAt: 'now', error: state.end === 'failed' ? { message: 'no disk' } : null } as OperationRecord)),
    events: { emit: (type: string, { data }: { data?: unknown }) => void failed.push(`${type} ${(data as { message: string }).message}`) } as never,
    log: { warn() {}, info() {} },
  });
  return { state, made, failed, make };
}

const at = (text: string): Date => new Date(`2026-11-27T${text}`);
const VE: ScheduledVe = { uuid: 'u', name: 'web', repository: 'nas', schedule: 'hourly' };

test('a VE is backed up when its schedule is due, once, also by the next daemon', async () => {
  const { state, made, make } = bench();
  state.ves = [VE];
  let job = make();
  await job.tick();
  assert.deepEqual(made, [], 'what was due before the schedule was set is none of its own');
  for (const [now, count] of [['10:59:00', 0], ['11:00:00', 1], ['11:01:00', 1], ['11:59:00', 1]] as const) {
    state.now = at(now);
    await job.tick();
    assert.equal(made.length, count, now);
  }
  // The daemon was away for some hours: one is made up for.
  job = make();
  state.now = at('15:20:00');
  await job.tick();
  await job.tick();
  assert.equal(made.length, 2);
});

test('one that fails is told of, and tried again in an hour; a busy VE at the next look', async () => {
  const { state, made, failed, make } = bench();
  state.ves = [{ ...VE, schedule: 'daily@11:00' }];
  const job = make();
  await job.tick();
  [state.now, state.end] = [at('11:00:00'), 'failed'];
  await job.tick();
  assert.deepEqual(failed, ['backup.failed no disk']);
  state.now = at('11:59:00');
  await job.tick();
  assert.equal(made.length, 1);
  [state.now, state.end, state.busy] = [at('12:01:00'), 'succeeded', true];
  await job.tick();
  assert.equal(failed.length, 1, 'busy is no failure');
  [state.now, state.busy] = [at('12:02:00'), false];
  await job.tick();
  assert.equal(made.length, 2);
  state.now = at('14:00:00');
  await job.tick();
  assert.equal(made.length, 2);
});

test('a VE that has no schedule any more is forgotten, and begins anew with another', async () => {
  const { state, made, make } = bench();
  state.ves = [VE];
  const job = make();
  await job.tick();
  state.ves = [];
  state.now = at('13:00:00');
  await job.tick();
  state.ves = [VE];
  await job.tick();
  assert.deepEqual(made, []);
});
