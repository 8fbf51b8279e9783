/** Operations: long work with a record, progress, cancel, a lock per VE, an undo stack and a journal row. */
import { randomBytes } from 'node:crypto';
import { VeldError, toVeldError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { OperationRecord, Store } from '../store/types.ts';
import type { EventBus } from './events.ts';
import { createVeLocks } from './locks.ts';
import { createTask, type TaskState } from './task.ts';
import type { Task } from './types.ts';
import { createUndoStack, type UndoFailure } from './undo.ts';

/** Ended operations kept in the store. */
const KEPT = 1000;
/** Least time between two writes of an operation's progress, and between two of its events, in milliseconds. */
const PROGRESS_INTERVAL = 250;
/** How long {@link OperationManager.close} waits, in milliseconds. */
const CLOSE_TIMEOUT = 10_000;

/** What to start. */
export interface OperationRequest {
  /** Verb, e.g. `create`; part of the names of fault points. */
  kind: string;
  /** UUID of the VE that is worked on, and locked; null locks nothing. */
  ve: string | null;
  requestId: string | null;
  /** False: phases are fault points only, and nothing is left for a new daemon when this one dies. Default true. */
  journal?: boolean;
}

/** Starts and keeps operations. Records handed out are copies. */
export interface OperationManager {
  /**
   * Begin an operation. Returns at once; the work begins in the next turn of the event loop. What it returns (JSON) becomes the result.
   * When it throws, or is cancelled before `task.commit()`, its undo steps run in reverse, not bound to `task.signal`.
   * @throws VeldError `ve.busy` naming the operation under way; `daemon.unreachable` while the daemon stops
   */
  start<T>(request: OperationRequest, work: (task: Task) => Promise<T>): OperationRecord;
  /** @throws VeldError `operation.not_found` */
  get(id: string): OperationRecord;
  /** Newest first. */
  list(limit: number): OperationRecord[];
  /**
   * Ask a running operation to stop and undo; one that has ended stays as it is.
   * @returns the record as it is now: wait for its end
   * @throws VeldError `operation.not_found`; `operation.committed` when it can only be finished
   */
  cancel(id: string): OperationRecord;
  /** The record once it has ended. @param signal ends the waiting (rejects with its reason), not the operation */
  wait(id: string, signal?: AbortSignal): Promise<OperationRecord>;
  /**
   * Hear of an operation: its record now (before this returns), and at each change; the last one has ended.
   * @returns the way to stop listening
   * @throws VeldError `operation.not_found`
   */
  watch(id: string, listener: (record: OperationRecord) => void): () => void;
  /** What holds the VE's lock; for the daemon's own work a record with the id ''. */
  isBusy(ve: string): OperationRecord | undefined;
  /** Lock a VE for short work that is no operation; operations that come meanwhile begin when it is done. @returns the way to unlock it @throws VeldError `ve.busy` */
  lockVe(ve: string, kind: string): () => void;
  /** Settles when nobody holds the VE's lock (take it in the same turn). */
  whenFree(ve: string): Promise<void>;
  /** Settles when no operation runs. */
  idle(): Promise<void>;
  /** On start of the daemon: operations that an earlier one left `running` become `interrupted`. Journal rows stay. @returns them */
  markInterrupted(): OperationRecord[];
  /** Refuse new operations, roll back those that are not committed, and wait at most `timeout` ms. What still runs then stays in the journal. */
  close(timeout?: number): Promise<void>;
}

interface Running {
  record: OperationRecord;
  state: TaskState;
  controller: AbortController;
  listeners: Set<{ call: (record: OperationRecord) => void }>;
  unlock: () => void;
  timer: NodeJS.Timeout | undefined;
  writtenAt: number;
}

type Outcome = Pick<OperationRecord, 'state' | 'result' | 'error'> & { keepJournal: boolean };

/** Make the manager. @param parts where records go, who is told, and where failures are logged */
export function createOperations(parts: { store: Store; events: EventBus; log: Pick<Logger, 'debug' | 'info' | 'warn' | 'error'> }): OperationManager {
  const { store, events, log } = parts;
  const locks = createVeLocks();
  const running = new Map<string, Running>();
  /** Journal rows that an ended operation had to leave, by VE: void once a later operation on it succeeds. */
  const left = new Map<string, Set<string>>();
  let idlers: (() => void)[] = [];
  let closing = false;

  const about = (record: OperationRecord): object => ({ operation: record.id, kind: record.kind, ve: record.ve, requestId: record.requestId });

  /** Writes that must not break an operation: its work counts, not its record. */
  const attempt = (record: OperationRecord, what: string, write: () => void): void => {
    try {
      write();
    } catch (error) {
      log.error({ ...about(record), err: error }, `${what} failed`);
    }
  };

  const tell = (entry: Running, event: 'created' | 'updated' | 'ended' | null): void => {
    const { record } = entry;
    for (const listener of entry.listeners) attempt(record, 'a listener of the operation', () => listener.call({ ...record }));
    if (event !== null) events.emit(`operation.${event}`, { ...(record.ve !== null && { ve: record.ve }), data: { operation: { ...record } } });
  };

  const writeProgress = (entry: Running): void => {
    clearTimeout(entry.timer);
    entry.timer = undefined;
    entry.writtenAt = performance.now();
    attempt(entry.record, 'writing the progress', () => store.saveOperation(entry.record));
    events.emit('operation.updated', { ...(entry.record.ve !== null && { ve: entry.record.ve }), data: { operation: { ...entry.record } } });
  };

  const onProgress = (entry: Running, percent: number, message: string): void => {
    const { record } = entry;
    if (percent <= record.percent && message === record.message) return;
    entry.record = { ...record, percent: Math.max(record.percent, percent), message };
    tell(entry, null);
    const wait = entry.writtenAt + PROGRESS_INTERVAL - performance.now();
    if (wait <= 0) writeProgress(entry);
    else entry.timer ??= setTimeout(writeProgress, wait, entry).unref();
  };

  /** The work with all that can come of it; never throws. */
  const carryOut = async (entry: Running, work: (task: Task) => Promise<unknown>): Promise<Outcome> => {
    const { state, record } = entry;
    const { signal, undo } = state;
    try {
      signal.throwIfAborted();
      const task = createTask(state, {
        progress: (percent, message) => onProgress(entry, percent, message),
        journal: (row) => store.writeJournal(row),
      });
      const result = await work(task);
      // Cancelled in the last moment: what can be undone is. Where there is nothing to undo the work is simply done.
      if (undo.size > 0) signal.throwIfAborted();
      undo.drop();
      return { state: 'succeeded', result: state.warnings.length > 0 ? { ...result as object | undefined, warnings: [...state.warnings] } : result ?? null, error: null, keepJournal: false };
    } catch (thrown) {
      const cancelled = signal.aborted && !state.committed;
      const failures = await undo.run((failure, again) => logUndo(entry, failure, again));
      const error = cancelled ? toVeldError(signal.reason) : toVeldError(thrown);
      if (cancelled) log.debug({ ...about(record), err: thrown }, 'the operation was cancelled');
      else if (error.code === 'internal') log.error({ ...about(record), err: thrown }, 'the operation failed unexpectedly');
      else log.warn({ ...about(record), code: error.code, err: thrown }, 'the operation failed');
      const body = error.toBody();
      if (failures.length > 0) {
        body.details = { ...body.details, notUndone: failures.map((failure) => failure.name) };
        body.hint = 'Not all of it could be undone: see the daemon log. The next start of the daemon tries again.';
      }
      const end = !cancelled ? 'failed' : error.code === 'operation.interrupted' ? 'interrupted' : 'cancelled';
      return { state: end, result: null, error: body, keepJournal: state.journaled && (state.committed || failures.length > 0) };
    }
  };

  const logUndo = ({ record }: Running, failure: UndoFailure, again: boolean): void => {
    const fields = { ...about(record), step: failure.name, err: failure.error };
    if (again) log.warn(fields, 'an undo step failed and is tried again');
    else log.error(fields, 'an undo step failed; what it should have taken back is left behind');
  };

  const finish = (entry: Running, outcome: Outcome): void => {
    const { keepJournal, ...end } = outcome;
    entry.state.ended = true;
    clearTimeout(entry.timer);
    const { id, ve } = entry.record;
    entry.record = { ...entry.record, ...end, percent: end.state === 'succeeded' ? 100 : entry.record.percent, endedAt: new Date().toISOString() };
    const { record } = entry;
    attempt(record, 'writing the end of the operation', () => store.transaction(() => {
      store.saveOperation(record);
      if (!keepJournal) store.clearJournal(id);
      if (end.state === 'succeeded' && ve !== null) for (const old of left.get(ve) ?? []) store.clearJournal(old);
      store.pruneOperations(KEPT);
    }));
    if (ve !== null && end.state === 'succeeded') left.delete(ve);
    if (ve !== null && keepJournal) left.set(ve, (left.get(ve) ?? new Set()).add(id));
    running.delete(id);
    entry.unlock(); // before anybody hears of the end: the next operation may follow at once
    log.info({ ...about(record), state: record.state }, 'operation ended');
    tell(entry, 'ended');
    if (running.size > 0) return;
    for (const idler of idlers) idler();
    idlers = [];
  };

  const idle = (): Promise<void> => running.size === 0 ? Promise.resolve() : new Promise((resolve) => { idlers.push(resolve); });

  const get = (id: string): OperationRecord => {
    const record = running.get(id)?.record ?? store.operation(id);
    if (record === undefined) throw new VeldError('operation.not_found', `There is no operation ${JSON.stringify(id.slice(0, 100))}.`);
    return { ...record };
  };

  const watch = (id: string, call: (record: OperationRecord) => void): (() => void) => {
    const record = get(id);
    const entry = running.get(id);
    const listener = { call };
    entry?.listeners.add(listener);
    call(record);
    return () => void entry?.listeners.delete(listener);
  };

  return {
    start(request, work) {
      if (closing) throw new VeldError('daemon.unreachable', 'The daemon is stopping.');
      const record = newRecord(request);
      const { unlock, turn } = record.ve === null ? { unlock: (): void => {}, turn: Promise.resolve() } : locks.take(record.ve, record);
      const controller = new AbortController();
      const state: TaskState = {
        id: record.id, kind: record.kind, ve: record.ve, signal: controller.signal, undo: createUndoStack(), warnings: [],
        journal: request.journal ?? true, committed: false, journaled: false, ended: false,
      };
      const entry: Running = { record, state, controller, listeners: new Set(), unlock, timer: undefined, writtenAt: performance.now() };
      try {
        store.saveOperation(record);
      } catch (error) {
        unlock();
        throw error;
      }
      running.set(record.id, entry);
      log.info(about(record), 'operation began');
      tell(entry, 'created');
      setImmediate(() => void turn.then(() => carryOut(entry, work)).then((outcome) => finish(entry, outcome)));
      return { ...record };
    },
    get,
    list(limit) {
      return store.listOperations(limit).map((record) => ({ ...(running.get(record.id)?.record ?? record) }));
    },
    cancel(id) {
      const record = get(id);
      const entry = running.get(id);
      if (entry === undefined) return record;
      if (entry.state.committed) throw new VeldError('operation.committed', `Operation ${id} (${record.kind}) can no longer be cancelled.`);
      log.info(about(record), 'cancel was asked for');
      entry.controller.abort(new VeldError('operation.cancelled', `The operation ${record.kind} was cancelled.`));
      return record;
    },
    wait(id, signal) {
      return new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        let unwatch = (): void => {};
        const onAbort = (): void => {
          unwatch();
          reject(signal?.reason as Error);
        };
        signal?.addEventListener('abort', onAbort, { once: true });
        unwatch = watch(id, (record) => {
          if (record.endedAt === null) return;
          signal?.removeEventListener('abort', onAbort);
          resolve(record);
        });
      });
    },
    watch,
    isBusy(ve) {
      const holder = locks.holder(ve);
      return holder === undefined ? undefined : { ...(running.get(holder.id)?.record ?? holder) };
    },
    lockVe: (ve, kind) => locks.take(ve, { ...newRecord({ kind, ve, requestId: null }), id: '' }).unlock,
    whenFree: (ve) => locks.whenFree(ve),
    idle,
    markInterrupted() {
      const orphans = store.listOperations(Number.MAX_SAFE_INTEGER).filter((record) => record.state === 'running' && !running.has(record.id));
      const error = new VeldError('operation.interrupted', 'The daemon was stopped while the operation ran.').toBody();
      const ended = orphans.map((record) => ({ ...record, state: 'interrupted' as const, error, endedAt: new Date().toISOString() }));
      store.transaction(() => {
        for (const record of ended) store.saveOperation(record);
        store.pruneOperations(KEPT);
      });
      for (const record of ended) log.warn(about(record), 'an earlier daemon did not end this operation');
      return ended;
    },
    async close(timeout = CLOSE_TIMEOUT) {
      closing = true;
      for (const { state, controller, record } of running.values()) {
        if (!state.committed) controller.abort(new VeldError('operation.interrupted', `The daemon stopped while the operation ${record.kind} ran.`));
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, timeout);
      await Promise.race([idle(), promise]);
      clearTimeout(timer);
      for (const { record } of running.values()) log.warn(about(record), 'the operation still runs while the daemon stops; the next one takes it up');
    },
  };
}

function newRecord(request: OperationRequest): OperationRecord {
  return {
    id: randomBytes(6).toString('hex'), kind: request.kind, ve: request.ve, state: 'running', percent: 0, message: '', result: null, error: null,
    createdAt: new Date().toISOString(), endedAt: null, requestId: request.requestId,
  };
}
