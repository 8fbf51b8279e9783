/** What becomes of VEs when the host goes down, and when it has booted again. */
import type { Task } from '../ops/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { OperationRecord, VeRecord } from '../store/types.ts';
import { reload, type VeContext } from './context.ts';
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
  /** And bring them back, in their order. */
  resumeAtBoot(): Promise<void>;
  /** Start the VEs that shall run after a boot of the host, in their order. Settles when all have been tried. */
  startAtBoot(): Promise<void>;
}

export function withHost(context: VeContext, begin: Begin): WithHost {
  const { store, operations, log } = context;
  const runs = (ve: VeRecord): boolean => readRunState(context.settings, ve.number).init !== undefined;

  /** Carry out an operation on a VE; what goes wrong with one is logged, and the others have their turn. @returns whether it succeeded */
  const attempt = async (kind: string, ve: VeRecord, failure: string, work: (task: Task) => Promise<unknown>): Promise<boolean> => {
    try {
      const { state, error } = await operations.wait(begin(kind, ve, null, work).id);
      if (state !== 'succeeded') log.error({ ve: ve.uuid, name: ve.name, error }, failure);
      return state === 'succeeded';
    } catch (error) {
      log.error({ ve: ve.uuid, name: ve.name, err: error }, failure);
      return false;
    }
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

    async resumeAtBoot() {
      for (const ve of store.listVes().filter(({ suspended }) => suspended?.byHost).sort(byBootOrder)) {
        if (await attempt('resume', ve, 'a VE that was suspended with the host could not be brought back', (task) => resumeVe(context, ve.uuid, task))) continue;
        // Its administrator wants it to run; and without this setting there would be no state, either.
        if (!reload(store, ve.uuid).suspended) continue;
        await attempt('start', ve, 'a VE that was suspended with the host could not be booted, either', (task) => startVe(context, ve.uuid, task, true));
      }
    },

    async startAtBoot() {
      const wanted = store.listVes().filter((ve) => ve.ready && !ve.suspended && resolveProperties(ve.properties)['boot.start'] && !runs(ve)).sort(byBootOrder);
      for (const ve of wanted) await attempt('start', ve, 'a VE did not start at boot', (task) => startVe(context, ve.uuid, task));
    },
  };
}

/** Which VE comes first at a boot of the host. */
function byBootOrder(a: VeRecord, b: VeRecord): number {
  return resolveProperties(b.properties)['boot.order'] - resolveProperties(a.properties)['boot.order'] || a.number - b.number;
}
