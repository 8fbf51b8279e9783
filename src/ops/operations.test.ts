import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { VeldError } from '../lib/errors.ts';
import { openStore } from '../store/sqlite.ts';
import type { OperationRecord, Store } from '../store/types.ts';
import { createEventBus, type EventBus } from './events.ts';
import { createOperations, type OperationManager } from './operations.ts';
import type { Task } from './types.ts';

let store: Store;
let events: EventBus;
let operations: OperationManager;
let lines: { level: string; fields: object; message: string }[];

const logger = (): Parameters<typeof createOperations>[0]['log'] => {
  const method = (level: string) => (fields: object | string, message?: string): void => {
    lines.push(typeof fields === 'string' ? { level, fields: {}, message: fields } : { level, fields, message: message ?? '' });
  };
  return { debug: method('debug'), info: method('info'), warn: method('warn'), error: method('error') };
};
const request = (kind = 'create', ve: string | null = null) => ({ kind, ve, requestId: 'r1' });
const begin = (work: (task: Task) => Promise<unknown>, ve: string | null = null, kind = 'create'): OperationRecord => operations.start(request(kind, ve), work);
const end = (record: OperationRecord): Promise<OperationRecord> => operations.wait(record.id, AbortSignal.timeout(5000));
const code = (wanted: string) => (error: unknown): boolean => {
  assert.equal((error as { code?: string }).code, wanted, String(error));
  return true;
};
const untilCancelled = (task: Task): Promise<never> => new Promise((_, reject) => {
  task.signal.addEventListener('abort', () => reject(new DOMException('stopped', 'AbortError')), { once: true });
});

/** Work that has been begun has run until it waits for something. */
const underWay = (): Promise<void> => new Promise((resolve) => { setImmediate(() => setImmediate(resolve)); });

beforeEach(() => {
  lines = [];
  store = openStore(':memory:');
  events = createEventBus();
  operations = createOperations({ store, events, log: logger() });
});
afterEach(async () => {
  await operations.close(1000);
  store.close();
});

describe('an operation', () => {
  it('returns at once, and its record tells how it went', async () => {
    let ran = false;
    const record = begin(async (task) => {
      ran = true;
      task.progress(50.4, 'half\nway');
      return { answer: 42 };
    }, 'u1');
    assert.equal(ran, false);
    assert.deepEqual([record.state, record.kind, record.ve, record.requestId, record.endedAt], ['running', 'create', 'u1', 'r1', null]);
    const ended = await end(record);
    assert.deepEqual([ended.state, ended.percent, ended.message, ended.result, ended.error], ['succeeded', 100, 'half way', { answer: 42 }, null]);
    assert.deepEqual(store.operation(record.id), ended);
    assert.deepEqual([operations.get(record.id), operations.list(5)], [ended, [ended]]);
    assert.throws(() => operations.get('nope'), code('operation.not_found'));
  });

  it('undoes its steps in reverse when it fails, and keeps the error', async () => {
    const undone: string[] = [];
    const ended = await end(begin(async (task) => {
      for (const name of ['a', 'b', 'c']) task.undo(name, () => void undone.push(name));
      throw new VeldError('address.none_free', 'No address is free.');
    }));
    assert.deepEqual(undone, ['c', 'b', 'a']);
    assert.deepEqual([ended.state, ended.error?.code, ended.error?.message], ['failed', 'address.none_free', 'No address is free.']);
  });

  it('undoes nothing when it succeeds, and nothing after commit', async () => {
    const undone: string[] = [];
    const step = (task: Task): void => task.undo('a', () => void undone.push('a'));
    await end(begin(async (task) => step(task)));
    const failed = await end(begin(async (task) => {
      step(task);
      task.commit();
      task.undo('late', () => void undone.push('late'));
      throw new Error('after commit');
    }));
    assert.deepEqual([undone, failed.state], [[], 'failed']);
  });

  it('logs an unexpected failure with its stack, and answers with the code internal', async () => {
    const boom = new TypeError('x is not a function');
    const ended = await end(begin(async () => { throw boom; }));
    assert.equal(ended.error?.code, 'internal');
    assert.ok(lines.some((line) => line.level === 'error' && (line.fields as { err?: unknown }).err === boom));
  });

  it('runs the other undo steps when one fails for good, tries that one again, and says so', async () => {
    const ran: string[] = [];
    const ended = await end(begin(async (task) => {
      task.phase('one');
      task.undo('first', () => void ran.push('first'));
      task.undo('bad', () => { ran.push('bad'); throw new Error('stuck'); });
      task.undo('twice', () => { ran.push('twice'); if (ran.length < 2) throw new Error('busy'); });
      throw new Error('why');
    }, 'u1'));
    assert.deepEqual(ran, ['twice', 'twice', 'bad', 'bad', 'bad', 'first']);
    assert.deepEqual(ended.error?.details?.notUndone, ['bad']);
    assert.equal(lines.filter((line) => line.level === 'error' && line.message.includes('left behind')).length, 1);
    assert.equal(store.listJournal().length, 1, 'a new daemon must still take it back');
    await end(begin(async () => {}, 'u1', 'destroy'));
    assert.deepEqual(store.listJournal(), [], 'a later success on the VE makes it void');
  });

  it('writes its phase before it goes on, and clears it at the end', async () => {
    await end(begin(async (task) => {
      task.phase('one', { pid: 1 });
      assert.deepEqual(store.listJournal().map((row) => [row.operation, row.kind, row.ve, row.phase, row.data]), [[task.id, 'create', 'u1', 'one', { pid: 1 }]]);
      task.phase('two');
      assert.equal(store.listJournal()[0]?.phase, 'two');
    }, 'u1'));
    assert.deepEqual(store.listJournal(), []);
    await end(operations.start({ ...request(), journal: false }, async (task) => {
      task.phase('one');
      assert.deepEqual(store.listJournal(), []);
    }));
  });

  it('keeps the journal row when it fails after commit: it can only be finished', async () => {
    const failed = await end(begin(async (task) => {
      task.phase('gone');
      task.commit();
      throw new Error('boom');
    }));
    assert.deepEqual(store.listJournal().map((row) => row.operation), [failed.id]);
  });

  it('tells watchers every change, and writes a few times a second', async () => {
    let writes = 0;
    const save = store.saveOperation.bind(store);
    store.saveOperation = (record) => { writes += 1; save(record); };
    const record = begin(async (task) => {
      for (let i = 1; i <= 100; i += 1) {
        task.progress(i, `step ${i}`);
        if (i % 20 === 0) await sleep(20);
      }
      task.progress(10, 'never back');
    });
    const seen: OperationRecord[] = [];
    operations.watch(record.id, (change) => seen.push(change));
    await end(record);
    assert.equal(seen.length, 103); // the first, 100, one with an older percent, the end
    assert.deepEqual([seen[0]?.percent, seen[50]?.message, seen[101]?.percent, seen.at(-1)?.state], [0, 'step 50', 100, 'succeeded']);
    assert.ok(writes <= 4, `${writes} writes`);
    const types = events.since(0).map((event) => event.type);
    assert.deepEqual([types[0], types.at(-1)], ['operation.created', 'operation.ended']);
    assert.ok(types.length <= 4, types.join());
  });

  it('is not hurt by a watcher that throws, nor by one that comes too late', async () => {
    const record = begin(async (task) => task.progress(1, 'x'));
    let calls = 0;
    operations.watch(record.id, () => { calls += 1; if (calls > 1) throw new Error('bad watcher'); });
    const ended = await end(record);
    const late: OperationRecord[] = [];
    operations.watch(record.id, (change) => late.push(change));
    assert.deepEqual([ended.state, late], ['succeeded', [ended]]);
  });

  it('ends although its record cannot be written', async () => {
    const record = begin(async () => 1, 'u1');
    store.saveOperation = () => { throw new VeldError('disk.full', 'No space left.'); };
    assert.equal((await end(record)).state, 'succeeded');
    assert.equal(operations.isBusy('u1'), undefined);
  });

  it('does not begin, and locks nothing, when it cannot be recorded', () => {
    const saveOperation = store.saveOperation.bind(store);
    store.saveOperation = () => { throw new VeldError('disk.full', 'No space left.'); };
    assert.throws(() => begin(async () => assert.fail(), 'u1'), code('disk.full'));
    store.saveOperation = saveOperation;
    assert.equal(operations.isBusy('u1'), undefined);
  });

  it('stops waiting when its waiter is told to', async () => {
    const record = begin(untilCancelled);
    const reason = new Error('went away');
    await assert.rejects(operations.wait(record.id, AbortSignal.abort(reason)), reason);
    const controller = new AbortController();
    const waiting = operations.wait(record.id, controller.signal);
    controller.abort(reason);
    await assert.rejects(waiting, reason);
    await assert.rejects(operations.wait('nope'), code('operation.not_found'));
    operations.cancel(record.id);
  });

  it('is forgotten when a thousand later ones have ended', async () => {
    const first = begin(async () => {});
    await end(first);
    for (let i = 0; i < 1000; i += 1) begin(async () => {});
    await operations.idle();
    assert.throws(() => operations.get(first.id), code('operation.not_found'));
    assert.equal(operations.list(5000).length, 1000);
  });
});

describe('cancel', () => {
  it('undoes and ends as cancelled', async () => {
    const undone: string[] = [];
    const record = begin(async (task) => {
      task.undo('a', () => void undone.push('a'));
      await untilCancelled(task);
    });
    await underWay();
    assert.equal(operations.cancel(record.id).state, 'running');
    const ended = await end(record);
    assert.deepEqual([ended.state, ended.error?.code, undone], ['cancelled', 'operation.cancelled', ['a']]);
    assert.equal(operations.cancel(record.id).state, 'cancelled');
    assert.throws(() => operations.cancel('nope'), code('operation.not_found'));
  });

  it('comes before the work begins: nothing is done', async () => {
    const record = begin(async () => assert.fail());
    operations.cancel(record.id);
    assert.equal((await end(record)).state, 'cancelled');
  });

  it('is refused after commit, and beats a commit that comes later', async () => {
    const gate = Promise.withResolvers<void>();
    const one = begin(async (task) => {
      task.commit();
      await gate.promise;
    });
    await underWay();
    assert.throws(() => operations.cancel(one.id), code('operation.committed'));
    gate.resolve();
    assert.equal((await end(one)).state, 'succeeded');
    const undone: string[] = [];
    for (const call of ['commit', 'phase'] as const) {
      const two = begin(async (task) => {
        task.undo(call, () => void undone.push(call));
        await untilCancelled(task).catch(() => {});
        task[call]('x');
        assert.fail();
      });
      await underWay();
      operations.cancel(two.id);
      assert.equal((await end(two)).state, 'cancelled');
    }
    assert.deepEqual(undone, ['commit', 'phase']);
    assert.deepEqual(store.listJournal(), []);
  });

  it('of work that ended meanwhile undoes what can be undone', async () => {
    const work = (undo: boolean) => async (task: Task): Promise<string> => {
      if (undo) task.undo('a', () => {});
      await untilCancelled(task).catch(() => {});
      return 'done';
    };
    for (const [undo, state] of [[true, 'cancelled'], [false, 'succeeded']] as const) {
      const record = begin(work(undo));
      await underWay();
      operations.cancel(record.id);
      assert.equal((await end(record)).state, state);
    }
  });
});

describe('the lock of a VE', () => {
  it('lets one operation at a time work on it, and names that', async () => {
    const record = begin(untilCancelled, 'u1', 'start');
    assert.throws(() => begin(async () => {}, 'u1', 'stop'), (error: VeldError) => {
      assert.equal(error.code, 've.busy');
      assert.match(error.message, new RegExp(`operation ${record.id} \\(start\\)`));
      assert.equal(error.details?.operation, record.id);
      return true;
    });
    assert.equal(operations.isBusy('u1')?.id, record.id);
    await end(begin(async () => {}, 'u2'));
    await end(begin(async () => {}, null));
    assert.equal(store.listOperations(10).length, 3, 'a refused operation leaves no record');
    operations.cancel(record.id);
    operations.watch(record.id, ({ endedAt }) => { if (endedAt !== null) assert.equal(operations.isBusy('u1'), undefined); });
    await end(record);
    await end(begin(async () => {}, 'u1'));
  });

  it('serves work that is no operation', async () => {
    const unlock = operations.lockVe('u1', 'exit');
    assert.throws(() => operations.lockVe('u1', 'exit'), code('ve.busy'));
    assert.deepEqual([operations.isBusy('u1')?.kind, operations.isBusy('u1')?.id], ['exit', '']);
    const order: string[] = [];
    const waiting = operations.whenFree('u1').then(() => order.push('free'));
    await underWay();
    order.push('unlock');
    unlock();
    unlock();
    await waiting;
    assert.deepEqual(order, ['unlock', 'free']);
    const other = operations.lockVe('u1', 'exit');
    unlock(); // an old key opens no new lock
    assert.equal(operations.isBusy('u1')?.kind, 'exit');
    other();
  });

  it('lets an operation wait for work that is none, and nobody overtake it', async () => {
    const order: string[] = [];
    const unlock = operations.lockVe('u1', 'exit');
    const record = begin(async () => { order.push('operation'); }, 'u1');
    assert.throws(() => begin(async () => {}, 'u1'), code('ve.busy'));
    assert.throws(() => operations.lockVe('u1', 'exit'), code('ve.busy'));
    await underWay();
    order.push('unlock');
    unlock();
    await end(record);
    assert.deepEqual(order, ['unlock', 'operation']);
    assert.equal(operations.isBusy('u1'), undefined);
  });

  it('never lets two in, whatever the order of starts, cancels and ends', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.record({
      ve: fc.constantFrom('a', 'b', null), steps: fc.nat(3), fails: fc.boolean(), cancel: fc.boolean(), commit: fc.boolean(),
    }), { maxLength: 12 }), async (plans) => {
      const inside = new Map<string, number>();
      const broken: string[] = [];
      for (const plan of plans) {
        const undone: number[] = [];
        const done: number[] = [];
        let record: OperationRecord;
        try {
          record = begin(async (task) => {
            if (plan.ve !== null) inside.set(plan.ve, (inside.get(plan.ve) ?? 0) + 1);
            try {
              if ((inside.get(plan.ve ?? '') ?? 0) > 1) broken.push('two inside');
              for (let i = 0; i < plan.steps; i += 1) {
                await Promise.resolve();
                task.undo(`s${i}`, () => void undone.push(i));
                done.push(i);
              }
              await sleep(0);
              if (plan.commit) task.commit();
              if (plan.fails) throw new Error('fails');
            } finally {
              if (plan.ve !== null) inside.set(plan.ve, (inside.get(plan.ve) ?? 0) - 1);
            }
          }, plan.ve);
        } catch (error) {
          assert.equal((error as VeldError).code, 've.busy');
          assert.ok(plan.ve !== null && operations.isBusy(plan.ve) !== undefined);
          await sleep(0);
          continue;
        }
        operations.watch(record.id, (now) => {
          if (now.endedAt === null) return;
          const kept = now.state === 'succeeded' || (now.state === 'failed' && plan.commit);
          const wanted = kept ? [] : done.toReversed();
          if (JSON.stringify(undone) !== JSON.stringify(wanted)) broken.push(`undone ${String(undone)}, wanted ${String(wanted)}`);
        });
        if (plan.cancel) {
          await sleep(0);
          try {
            operations.cancel(record.id);
          } catch (error) {
            assert.equal((error as VeldError).code, 'operation.committed');
          }
        }
      }
      await operations.idle();
      assert.deepEqual(broken, []);
      assert.deepEqual([operations.isBusy('a'), operations.isBusy('b'), store.listJournal()], [undefined, undefined, []]);
    }), { numRuns: 100 });
  });
});

describe('the end of the daemon', () => {
  it('rolls back what is not committed, waits for what is, and begins nothing new', async () => {
    const undone: string[] = [];
    const open = begin(async (task) => {
      task.undo('a', () => void undone.push('a'));
      await untilCancelled(task);
    });
    const committed = begin(async (task) => {
      task.commit();
      await sleep(50);
    });
    await underWay();
    await operations.close();
    assert.deepEqual([operations.get(open.id).state, operations.get(open.id).error?.code, undone], ['interrupted', 'operation.interrupted', ['a']]);
    assert.equal(operations.get(committed.id).state, 'succeeded');
    assert.throws(() => begin(async () => {}), code('daemon.unreachable'));
  });

  it('does not wait for ever', async () => {
    const gate = Promise.withResolvers<void>();
    const record = begin(() => gate.promise);
    await underWay();
    const before = performance.now();
    await operations.close(50);
    assert.ok(performance.now() - before < 500);
    assert.equal(store.operation(record.id)?.state, 'running');
    gate.resolve();
    await operations.idle();
  });

  it('that was sudden shows in the records, and leaves the journal to recovery', async () => {
    store.saveOperation({ ...begin(async () => {}), id: 'old', endedAt: null });
    store.writeJournal({ operation: 'old', kind: 'create', ve: null, phase: 'p', data: {}, updatedAt: '' });
    const running = begin(untilCancelled);
    assert.deepEqual(operations.markInterrupted().map((record) => record.id), ['old']);
    assert.deepEqual([store.operation('old')?.state, store.operation('old')?.error?.code, store.operation('old')?.endedAt === null], ['interrupted', 'operation.interrupted', false]);
    assert.equal(store.operation(running.id)?.state, 'running');
    assert.equal(store.listJournal().length, 1);
    operations.cancel(running.id);
  });
});
