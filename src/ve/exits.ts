/**
 * What happens when a VE's init ends, or boots again, without an operation of ours: veld-exit leaves a note, this file draws the
 * consequences. The scripts in libexec/ have already carried out a reboot; a crash is answered by the restart policy, with back-off.
 */
import { mkdirSync, watch } from 'node:fs';
import { join } from 'node:path';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import { cleanUpRun } from './boot.ts';
import { updateVe, type VeContext } from './context.ts';
import { readRunState } from './run-folder.ts';
import { startVe } from './start.ts';

/** Exit status of an init that ended its pid namespace by reboot(2), as conmon reports it: 128 + the signal of reboot(2) in a pid namespace. */
const POWEROFF = 130;

/** Waiting time before the n-th automatic restart in a row, in milliseconds: 1 s, doubled up to 1 minute. */
export function backOff(restarts: number): number {
  return Math.min(60_000, 1000 * 2 ** restarts);
}

/** A VE that stayed up this long has its count of restarts forgotten, in milliseconds. */
const STABLE = 600_000;

export interface ExitWatcher {
  /** Look at one VE now. Idempotent. */
  look(number: number): void;
  /** Settles when no exit is being handled. */
  idle(): Promise<void>;
  close(): void;
}

/** Begin to watch the notes that the scripts leave in `<runDir>/events/`. */
export function watchExits(context: VeContext): ExitWatcher {
  const { settings, store, log, operations } = context;
  /** Pid and start time of the inits last seen, by VE number: another one means a reboot. */
  const seen = new Map<number, string>();
  const restarts = new Map<string, { count: number; last: number; timer?: NodeJS.Timeout }>();
  const pending = new Set<Promise<void>>();
  let closed = false;

  const look = (number: number): void => {
    if (closed) return;
    const ve = store.veByNumber(number);
    if (!ve?.ready) return;
    const run = readRunState(settings, number);
    if (run.init) {
      const id = `${run.init.pid} ${run.init.startTime}`;
      if (seen.has(number) && seen.get(number) !== id && !operations.isBusy(ve.uuid)) {
        context.events.emit('ve.rebooted', { ve: ve.uuid, data: { name: ve.name, pid: run.init.pid } });
        log.info({ ve: ve.uuid, name: ve.name }, 'VE rebooted itself');
      }
      seen.set(number, id);
      return;
    }
    seen.delete(number);
    if (!run.exited) return;
    const work = handle(ve).catch((error: unknown) => log.error({ ve: ve.uuid, err: error }, 'the end of a VE could not be handled'));
    pending.add(work);
    void work.finally(() => pending.delete(work));
  };

  const handle = async (record: VeRecord): Promise<void> => {
    // An operation on this VE (a stop, a failing start) sees the end by itself; afterwards nothing is left to do here.
    while (operations.isBusy(record.uuid)) await operations.whenFree(record.uuid);
    const ve = store.veByUuid(record.uuid);
    if (closed || !ve?.ready) return;
    const { init, exited } = readRunState(settings, ve.number);
    if (init || !exited) return;
    const unlock = operations.lockVe(ve.uuid, 'exit');
    try {
      const poweroff = exited.code === POWEROFF;
      const policy = resolveProperties(ve.properties)['restart.policy'];
      const again = policy === 'always' || (policy === 'on-failure' && !poweroff);
      await cleanUpRun(context, ve);
      const reason = poweroff ? 'powered off from inside' : exited.code === 200 ? 'its reboot failed' : 'its init ended';
      const after = updateVe(store, ve.uuid, {
        lastExit: { code: exited.code, at: exited.at.toISOString(), reason },
        ...(poweroff && !again && { desired: 'stopped' as const }),
      });
      context.events.emit('ve.stopped', { ve: ve.uuid, data: { name: ve.name, reason, code: exited.code } });
      log.info({ ve: ve.uuid, name: ve.name, code: exited.code, reason }, 'VE ended');
      if (again) schedule(after);
    } finally {
      unlock();
    }
  };

  const schedule = (ve: VeRecord): void => {
    const now = Date.now();
    const entry = restarts.get(ve.uuid);
    const count = entry && now - entry.last < STABLE ? entry.count : 0;
    const wait = backOff(count);
    log.info({ ve: ve.uuid, name: ve.name, wait }, 'VE will be started again');
    context.events.emit('ve.restart-scheduled', { ve: ve.uuid, data: { name: ve.name, seconds: wait / 1000 } });
    const timer = setTimeout(() => {
      const current = store.veByUuid(ve.uuid);
      if (closed || !current?.ready || current.desired !== 'running' || readRunState(settings, ve.number).init || operations.isBusy(ve.uuid)) return;
      restarts.set(ve.uuid, { count: count + 1, last: Date.now() });
      const operation = operations.start({ kind: 'start', ve: ve.uuid, requestId: null }, async (task) => {
        await startVe(context, ve.uuid, task);
        look(ve.number);
      });
      // A start that fails rolls `desired` back to running only when it was: try again, later each time.
      void operations.wait(operation.id).then((ended) => {
        if (ended.state === 'failed' && !closed && store.veByUuid(ve.uuid)?.desired === 'running') schedule(ve);
      });
    }, wait);
    timer.unref();
    restarts.set(ve.uuid, { count, last: entry?.last ?? now, timer });
  };

  const folder = join(settings.runDir, 'events');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const watcher = watch(folder, (_event, name) => {
    if (name !== null && /^\d+$/.test(name)) look(Number(name));
  });

  return {
    look,
    async idle() {
      while (pending.size > 0) await Promise.all(pending);
    },
    close() {
      closed = true;
      watcher.close();
      for (const { timer } of restarts.values()) clearTimeout(timer);
    },
  };
}
