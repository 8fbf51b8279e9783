/**
 * Backs VEs up by their schedules, one after the other. It looks soon after it was started, and then once a minute, at which are due: so one that was missed, because the daemon was away or the VE was busy, is made up
 * for at the next look, and one that has failed is tried again an hour later.
 */
import type { Logger } from '../lib/log.ts';
import { toVeldError } from '../lib/errors.ts';
import { lastDue } from '../spec/backup-properties.ts';
import type { EventBus } from '../ops/events.ts';
import type { OperationRecord, Store } from '../store/types.ts';

/** Time before the first look, between two, and before another try, in milliseconds. */
const FIRST = 5_000;
const INTERVAL = 60_000;
const AGAIN = 3_600_000;
/** Name in the store of when each VE was backed up last, or tried to be. */
const META = 'backup.tries';

/** A VE that is backed up by itself. */
export interface ScheduledVe {
  uuid: string;
  name: string;
  repository: string;
  schedule: string;
}

/** The last try, milliseconds since 1970. `due`: for which moment of the schedule. */
interface Try {
  at: number;
  due: number;
  done: boolean;
}

export interface BackupsOptions {
  ves: () => readonly ScheduledVe[];
  /** Begin an operation. Throws `ve.busy` among others. */
  backUp: (uuid: string) => OperationRecord;
  /** Told of an operation until it has ended. */
  watch: (id: string, listener: (record: OperationRecord) => void) => void;
  store: Pick<Store, 'getMeta' | 'setMeta'>;
  events: Pick<EventBus, 'emit'>;
  log: Pick<Logger, 'warn' | 'info'>;
  now?: () => Date;
}

export interface Backups {
  /** Look now. @returns when those that were due have been tried */
  tick(): Promise<void>;
  start(): void;
  close(): void;
}

export function createBackups({ ves, backUp, watch, store, events, log, now = () => new Date() }: BackupsOptions): Backups {
  let timer: NodeJS.Timeout | undefined;
  let first: NodeJS.Timeout | undefined;
  let closed = false;
  let under: Promise<void> | undefined;

  const ended = (id: string): Promise<OperationRecord> => new Promise((resolve) => watch(id, (record) => { if (record.endedAt !== null) resolve(record); }));

  const one = async (ve: ScheduledVe, due: number): Promise<void> => {
    const note = (done: boolean): void => store.setMeta(META, { ...store.getMeta<Record<string, Try>>(META), [ve.uuid]: { at: now().getTime(), due, done } });
    const failed = (message: string): void => {
      note(false);
      log.warn({ ve: ve.uuid, name: ve.name, repository: ve.repository, message }, 'a VE could not be backed up; it is tried again in an hour');
      events.emit('backup.failed', { ve: ve.uuid, data: { name: ve.name, repository: ve.repository, message } });
    };
    try {
      const { id } = backUp(ve.uuid);
      note(false); // should the daemon die of it, it is not tried again at once
      const record = await ended(id);
      if (record.state === 'succeeded') note(true);
      else failed(record.error?.message ?? record.state);
    } catch (error) {
      const { code, message } = toVeldError(error);
      if (code !== 've.busy' && code !== 've.not_found') failed(message); // busy: at the next look
    }
  };

  const look = async (): Promise<void> => {
    const all = ves();
    const tries = store.getMeta<Record<string, Try>>(META) ?? {};
    const known = Object.fromEntries(Object.entries(tries).filter(([uuid]) => all.some((ve) => ve.uuid === uuid)));
    // A schedule begins with the first look that sees it: what was due before is none of its own.
    for (const { uuid, schedule } of all) known[uuid] ??= { at: now().getTime(), due: lastDue(schedule, now()).getTime(), done: true };
    if (JSON.stringify(known) !== JSON.stringify(tries)) store.setMeta(META, known);
    for (const ve of all) {
      if (closed) return;
      const due = lastDue(ve.schedule, now()).getTime();
      const last = known[ve.uuid]!;
      if (due <= last.due && last.at <= now().getTime() && (last.done || now().getTime() - last.at < AGAIN)) continue;
      await one(ve, Math.max(due, last.due));
    }
  };

  const tick = (): Promise<void> => under ??= look().catch((error: unknown) => log.warn({ err: error }, 'the schedules of backups could not be looked at')).finally(() => { under = undefined; });
  return {
    tick,
    start() {
      timer = setInterval(() => void tick(), INTERVAL).unref();
      first = setTimeout(() => void tick(), FIRST).unref();
    },
    close() {
      closed = true;
      clearInterval(timer);
      clearTimeout(first);
    },
  };
}
