/** What becomes of VEs when the host goes down, and when it has booted again. */
import { toVeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { OperationRecord, VeRecord } from '../store/types.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { resumeVe } from './resume.ts';
import { readRunState } from './run-folder.ts';
import { startVe } from './start.ts';
import { suspendVe } from './suspend.ts';

/** How many VEs are suspended at a time when the host goes down: more would wait for the same disk. */
const AT_ONCE = 4;

/** Begins an operation on a VE. */
type Begin = (kind: string, ve: VeRecord, requestId: null, work: (task: Task) => Promise<unknown>) => OperationRecord;

export interface WithHost {
  /** The host goes down: suspend the VEs that want that. @returns how many these are */
  suspendAtShutdown(): Promise<number>;
  /**
   * Bring back what was suspended with the host, and, at the first start of a daemon after a boot of the host, start what is to run; in one order. What does not succeed is said in the
   * VE's record (`notStarted`) and by the event `ve.not-started`. Settles when all have been tried.
   */
  bringUp(first: boolean): Promise<void>;
}

/** Why an operation did not succeed. */
type Failure = Pick<NonNullable<OperationRecord['error']>, 'code' | 'message'>;

export function withHost(context: VeContext, begin: Begin): WithHost {
  const { store, operations, events, log } = context;
  const runs = (ve: VeRecord): boolean => readRunState(context.settings, ve.number).init !== undefined;

  /** Carry out an operation on a VE; what goes wrong with one is logged, and the others have their turn. @returns why it did not succeed */
  const attempt = async (kind: string, ve: VeRecord, failure: string, work: (task: Task) => Promise<unknown>): Promise<Failure | undefined> => {
    try {
      const { error } = await operations.wait(begin(kind, ve, null, work).id);
      if (error) log.error({ ve: ve.uuid, name: ve.name, error }, failure);
      return error ?? undefined;
    } catch (error) {
      log.error({ ve: ve.uuid, name: ve.name, err: error }, failure);
      return toVeldError(error);
    }
  };

  /** It should run, and does not. */
  const tell = (ve: VeRecord, { code, message }: Failure): void => {
    const now = store.veByUuid(ve.uuid);
    if (!now?.ready || runs(now)) return;
    // A suspended VE is one that keeps what it was doing: somebody may resume it.
    updateVe(store, ve.uuid, { notStarted: { at: new Date().toISOString(), reason: message }, ...now.suspended === null && { desired: 'running' as const } });
    events.emit('ve.not-started', { ve: ve.uuid, data: { name: ve.name, code, reason: message } });
  };

  /** @returns why it did not succeed */
  const bring = async (ve: VeRecord): Promise<Failure | undefined> => {
    if (!ve.suspended) return attempt('start', ve, 'a VE did not start at boot', (task) => startVe(context, ve.uuid, task));
    const failure = await attempt('resume', ve, 'a VE that was suspended with the host could not be brought back', (task) => resumeVe(context, ve.uuid, task));
    // Where there is no room there is none for a boot, either. Else: its administrator wants it to run; and without this setting there would be no state, either.
    if (!failure || failure.code === 'capacity.exceeded' || !reload(store, ve.uuid).suspended) return failure;
    return attempt('start', ve, 'a VE that was suspended with the host could not be booted, either', (task) => startVe(context, ve.uuid, task, true));
  };

  return {
    async suspendAtShutdown() {
      const wanted = store.listVes().filter((ve) => ve.ready && resolveProperties(ve.properties)['shutdown.action'] === 'suspend' && runs(ve));
      const waiting = wanted.values();
      await Promise.all(Array.from({ length: AT_ONCE }, async () => {
        for (const ve of waiting) {
          await attempt('suspend', ve, 'a VE could not be suspended for the shutdown of the host: it will be stopped', (task) => suspendVe(context, ve.uuid, task, { byHost: true }));
        }
      }));
      return wanted.length;
    },

    async bringUp(first) {
      const wanted = store.listVes().filter((ve) => ve.ready && (ve.suspended ? ve.suspended.byHost === true : first && resolveProperties(ve.properties)['boot.start'] && !runs(ve))).sort(byBootOrder);
      for (const ve of wanted) {
        const failure = await bring(ve);
        if (failure) tell(ve, failure);
      }
    },
  };
}

/** Which VE comes first at a boot of the host. */
function byBootOrder(a: VeRecord, b: VeRecord): number {
  return resolveProperties(b.properties)['boot.order'] - resolveProperties(a.properties)['boot.order'] || a.number - b.number;
}
