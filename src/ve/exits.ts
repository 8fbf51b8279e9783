/**
 * What happens when a VE's init ends, or boots again, without an operation of ours: veld-exit leaves a note, this file draws the
 * consequences. The scripts in libexec/ have already carried out a reboot; a crash is answered by the restart policy, with back-off.
 */
import { mkdirSync, watch } from 'node:fs';
import { join } from 'node:path';
import { waitProcessEnd } from '../kernel/pidfd.ts';
import type { ProcessId } from '../kernel/process.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import { cleanUpRun, settled } from './clean-up.ts';
import { updateVe, type VeContext } from './context.ts';
import { bootedProperties, readRunState } from './run-folder.ts';
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
  /** Schedule anew the starts that an earlier daemon of this boot owed by restart policies. */
  resume(): void;
  /** Settles when no exit is being handled. */
  idle(): Promise<void>;
  close(): void;
}

/** Begin to watch the notes that the scripts leave in `<runDir>/events/`, and the inits themselves. */
export function watchExits(context: VeContext): ExitWatcher {
  const { settings, store, log, operations } = context;
  /** Pid and start time of the inits last seen, by VE number: another one means a reboot. */
  const seen = new Map<number, string>();
  const restarts = new Map<string, { count: number; last: number; timer?: NodeJS.Timeout }>();
  const pending = new Set<Promise<void>>();
  const closing = new AbortController();
  const closed = (): boolean => closing.signal.aborted;

  /** Callbacks of watches and timers end here: nothing that goes wrong for one VE may end the daemon. */
  const guarded = (ve: string, work: () => Promise<void>): void => {
    const running = work().catch((error: unknown) => {
      if (!closed()) log.error({ ve, err: error }, 'the end of a VE could not be handled');
    });
    pending.add(running);
    void running.finally(() => pending.delete(running));
  };

  const look = (number: number): void => {
    if (closed()) return;
    const ve = store.veByNumber(number);
    if (!ve?.ready) return;
    const run = readRunState(settings, number);
    if (run.init) noteInit(ve, run.init);
    else if (run.exited || seen.has(number) || run.between) guarded(ve.uuid, () => handle(ve));
  };

  const noteInit = (ve: VeRecord, init: ProcessId): void => {
    const id = `${init.pid} ${init.startTime}`;
    const before = seen.get(ve.number);
    if (before === id) return;
    seen.set(ve.number, id);
    // The note of its end may never come: conmon and the scripts can be killed. The kernel tells in any case.
    void waitProcessEnd(init, closing.signal).then(() => look(ve.number)).catch(() => {});
    if (before === undefined || operations.isBusy(ve.uuid)) return;
    context.events.emit('ve.rebooted', { ve: ve.uuid, data: { name: ve.name, pid: init.pid } });
    log.info({ ve: ve.uuid, name: ve.name }, 'VE rebooted itself');
  };

  const handle = async (record: VeRecord): Promise<void> => {
    const { number } = record;
    // An operation on this VE (a stop, a failing start) sees the end by itself; afterwards nothing is left to do here.
    while (operations.isBusy(record.uuid)) await operations.whenFree(record.uuid);
    await settled(context, number);
    while (operations.isBusy(record.uuid)) await operations.whenFree(record.uuid);
    const ve = store.veByUuid(record.uuid);
    if (closed() || !ve?.ready) return;
    const { init, exited, between } = readRunState(settings, number);
    if (init) return noteInit(ve, init); // a reboot
    seen.delete(number);
    if (!exited && !between) return; // an operation has cleaned up
    const unlock = operations.lockVe(ve.uuid, 'exit');
    try {
      const ended = exited ?? { code: 137, at: new Date() };
      // The status of a command is its own: 0 is its wish to be done, and no number means a poweroff.
      const command = bootedProperties(settings, number)?.['boot.command'] ?? null;
      const poweroff = ended.code === (command === null ? POWEROFF : 0);
      const policy = resolveProperties(ve.properties)['restart.policy'];
      const again = policy === 'always' || (policy === 'on-failure' && !poweroff);
      const reason = command !== null ? 'its command ended' : poweroff ? 'powered off from inside' : ended.code === 200 ? 'its reboot failed' : 'its init ended';
      // The record first: the clean-up takes the note away.
      const after = updateVe(store, ve.uuid, {
        lastExit: { code: ended.code, at: ended.at.toISOString(), reason },
        ...(poweroff && !again && { desired: 'stopped' as const }),
      });
      await cleanUpRun(context, ve);
      context.events.emit('ve.stopped', { ve: ve.uuid, data: { name: ve.name, reason, code: ended.code } });
      log.info({ ve: ve.uuid, name: ve.name, code: ended.code, reason }, 'VE ended');
      if (again) schedule(after);
    } finally {
      unlock();
    }
  };

  const schedule = (ve: VeRecord): void => {
    const now = Date.now();
    const entry = restarts.get(ve.uuid);
    clearTimeout(entry?.timer);
    const count = entry && now - entry.last < STABLE ? entry.count : 0;
    const wait = backOff(count);
    log.info({ ve: ve.uuid, name: ve.name, wait }, 'VE will be started again');
    context.events.emit('ve.restart-scheduled', { ve: ve.uuid, data: { name: ve.name, seconds: wait / 1000 } });
    const timer = setTimeout(() => guarded(ve.uuid, () => startAgain(ve, count)), wait);
    timer.unref();
    restarts.set(ve.uuid, { count, last: entry?.last ?? now, timer });
  };

  const startAgain = async ({ uuid, number }: VeRecord, count: number): Promise<void> => {
    const ve = store.veByUuid(uuid);
    const run = readRunState(settings, number);
    if (closed() || !ve?.ready || ve.desired !== 'running' || run.init || run.between || operations.isBusy(uuid)) return;
    restarts.set(uuid, { count: count + 1, last: Date.now() });
    const operation = operations.start({ kind: 'start', ve: uuid, requestId: null }, async (task) => {
      await startVe(context, uuid, task);
      look(number);
    });
    const ended = await operations.wait(operation.id, closing.signal);
    // Later each time. (A start that fails leaves `desired` as it was: running.)
    const after = store.veByUuid(uuid);
    if (ended.state === 'failed' && !closed() && after?.desired === 'running') schedule(after);
  };

  const folder = join(settings.runDir, 'events');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const watcher = watch(folder, (_event, name) => {
    if (name !== null && /^\d+$/.test(name)) look(Number(name));
  });

  return {
    look,
    resume() {
      for (const ve of store.listVes()) {
        const run = readRunState(settings, ve.number);
        const policy = resolveProperties(ve.properties)['restart.policy'];
        if (ve.ready && ve.desired === 'running' && policy !== 'never' && !run.init && !run.exited && !run.between) schedule(ve);
      }
    },
    async idle() {
      while (pending.size > 0) await Promise.all(pending);
    },
    close() {
      closing.abort();
      watcher.close();
      for (const { timer } of restarts.values()) clearTimeout(timer);
    },
  };
}
