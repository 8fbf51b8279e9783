/**
 * Snapshots of a VE that is not taken away for it: it stands while criu writes its processes and its upper is copied, and goes on by itself. Nothing of it
 * can be lost by that, and nothing has to be brought back. That pays for an upper whose copy takes less time than a restore does.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasSoftDirty } from '../kernel/memory-tracking.ts';
import { faultPoint, isSkipped } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import type { SnapshotRecord, VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { runFolder } from './run-folder.ts';
import { isUncopied, writeStanding } from './suspend.ts';

/** What is copied while a VE stands, at most: names in its upper, and bytes where files cannot share blocks. Some 50 ms on a small server. */
const MOST = { names: 4000, bytes: 64 << 20 };

/** Whether the upper of a running VE is one that is copied quickly. */
export async function canStand({ volumes }: VeContext, ve: VeRecord): Promise<boolean> {
  if (isSkipped('snapshot.standing')) return false;
  const [size, shares] = await Promise.all([volumes.upperSize(ve.uuid, MOST.names), volumes.sharesBlocks(ve.uuid)]);
  return size !== undefined && (shares || size.bytes <= MOST.bytes);
}

/**
 * Take one; the VE runs on in any case.
 * @param lasting it is to stay: the next one may stand on it
 * @returns the record, which is in the store; undefined when its upper could not be copied
 */
export async function snapshotStanding(context: VeContext, ve: VeRecord, told: Pick<SnapshotRecord, 'name' | 'description' | 'parent'>, lasting: boolean, task: Task): Promise<SnapshotRecord | undefined> {
  const { states, store, volumes } = context;
  const id = randomBytes(16).toString('hex');
  const state = states.snapshot(id);
  const copy = volumes.stageCopy(ve.uuid);
  const drop = async (): Promise<void> => {
    await states.removeSnapshot(id);
    await volumes.dropStaged(copy.id);
    await volumes.dropLayer(copy.id);
  };
  const track = lasting && hasSoftDirty();
  try {
    await writeStanding(context, ve, task, `A snapshot of ${ve.name} is being taken.`, { state, copy, track });
  } catch (error) {
    await drop();
    if (!isUncopied(context, ve)) throw error;
    context.log.warn({ ve: ve.uuid, name: ve.name, err: error }, 'the disk of a VE could not be copied while it stands: it is taken away for its snapshot');
    return undefined;
  }
  try {
    task.progress(90, 'bringing it to the disk');
    faultPoint('snapshot.state');
    // Neither is left alone when the other fails.
    const [committed, secured] = await Promise.allSettled([volumes.commitCopy(copy.id, ve.uuid, ve.uidBase), states.secure(state)]);
    if (committed.status === 'rejected') throw committed.reason;
    if (secured.status === 'rejected') throw secured.reason;
    const layer = committed.value;
    const layers = [...ve.layers, { id: layer.id, uidBase: layer.uidBase }];
    const snapshot: SnapshotRecord = { id, ve: ve.uuid, ...told, createdAt: new Date().toISOString(), layers, properties: ve.properties, engine: states.read(state).engine };
    store.transaction(() => {
      store.insertLayer(layer);
      store.insertSnapshot(snapshot);
    });
    // (Of which process it had the memory, criu knows by the time at which it was written.)
    if (track) writeFileSync(join(runFolder(context.settings, ve.number), 'tracked'), id);
    return snapshot;
  } catch (error) {
    await drop();
    throw error;
  }
}
