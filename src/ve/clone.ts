/** `clone`: another VE that begins where this one is: with its disk, and, when it runs, with its processes. */
import type { Task } from '../ops/types.ts';
import type { SnapshotRecord, VeRecord } from '../store/types.ts';
import { cleanUpRun } from './clean-up.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { forgetRecord } from './create.ts';
import { bringUserQuotas, spaceOf, userQuotas } from './disk.ts';
import { newHostKeys } from './host-keys.ts';
import { personalise } from './personalise.ts';
import { bringBack } from './resume.ts';
import { askRoom } from './room.ts';
import { createSnapshot, deleteSnapshot } from './snapshot.ts';

/** Properties that only one VE can have. */
const OWN = ['hostname', 'network.addresses', 'network.prefixes', 'network.mac', 'network.publish', 'network.interfaces'];

/** What a clone takes over of its model's properties. */
export function inherited(properties: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(properties).filter(([name]) => !OWN.includes(name)));
}

/**
 * Carry out the cloning of a VE into a reserved one.
 * @param live with its processes: both run afterwards, the model after a pause. Connections go on with the model only
 * @param from begin where it was at this snapshot instead; the model is not touched then
 */
export async function cloneVe(context: VeContext, uuid: string, clone: VeRecord, live: boolean, task: Task, from?: SnapshotRecord): Promise<void> {
  const { network, store, states, volumes } = context;
  // Removed by the next daemon, too: it is not ready.
  const forget = async (): Promise<void> => {
    await volumes.destroyVolume(clone.uuid);
    await states.remove(clone.uuid);
    await network.accounting.forget(clone);
    forgetRecord(context, clone.uuid);
  };
  task.undo('record', forget);
  askRoom(context, clone, task); // before the model stands
  const snapshot = from ?? await createSnapshot(context, uuid, `clone-${clone.uuid}`, live, task);
  const processes = snapshot.engine !== null && (live || from === undefined);
  try {
    task.progress(50, 'making the clone');
    await volumes.createVolume(clone.uuid, clone.uidBase, clone.number, snapshot.layers, spaceOf(clone));
    // Of one with processes these are exchanged when it runs (personalise.ts).
    const keys = processes ? [] : await newHostKeys(context, clone, snapshot.layers);
    await volumes.seedVolume(clone.uuid, clone.uidBase, [{ path: '/etc/machine-id', content: `${clone.uuid.replaceAll('-', '')}\n`, mode: 0o444 }, ...keys]);
    bringUserQuotas(context, clone, userQuotas(context, reload(store, uuid)));
    if (processes) states.derive(states.snapshot(snapshot.id), clone, { closeTcp: true });
    updateVe(store, clone.uuid, {
      layers: snapshot.layers, guestDirty: true, ready: true, ...(processes && { suspended: { at: snapshot.createdAt, engine: snapshot.engine! } }),
    });
    if (processes) {
      task.progress(60, 'bringing its processes to life');
      await bringBack(context, clone.uuid, task, { part: true });
      await personalise(context, reload(store, clone.uuid));
    }
  } catch (error) {
    await destroyHalf(context, clone, forget);
    throw error;
  } finally {
    if (!from) await deleteSnapshot(context, snapshot);
  }
  context.events.emit('ve.created', { ve: clone.uuid, data: { name: clone.name, number: clone.number, model: uuid } });
}

async function destroyHalf(context: VeContext, clone: VeRecord, forget: () => Promise<void>): Promise<void> {
  updateVe(context.store, clone.uuid, { ready: false });
  await cleanUpRun(context, clone);
  await forget();
}
