/** What a new daemon does about suspends, resumes and snapshots that an earlier one did not finish. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ProcessId } from '../kernel/process.ts';
import type { JournalRecord, SnapshotRecord, VeRecord } from '../store/types.ts';
import { removeTransfers } from './archive.ts';
import { cleanUpRun, cleanUpTorso } from './clean-up.ts';
import { reload, type VeContext } from './context.ts';
import { finishResume } from './resume.ts';
import { runFolder } from './run-folder.ts';
import { deleteSnapshot } from './snapshot.ts';
import { finishSuspend } from './suspend.ts';

/** Left to do by ordinary operations, once the daemon serves. */
export interface UnfinishedCheckpoints {
  resume: VeRecord[];
  rollBack: { ve: VeRecord; snapshot: SnapshotRecord }[];
}

/** Operations in which a running VE is suspended for a moment, and runs on in any case. */
const MOMENTARY = ['snapshot', 'clone', 'checkpoint', 'migrate'];

/** Whether the operation may have a dump under way. */
export function mayDump({ kind, phase }: JournalRecord): boolean {
  return kind === 'suspend' || (MOMENTARY.includes(kind) && (phase === 'suspend' || phase === 'memory'));
}

/**
 * @param init of the VE, while it lives
 * @returns whether the VE is dealt with: what there was of it has been cleaned up
 */
export async function recoverCheckpoint(context: VeContext, ve: VeRecord, entry: JournalRecord, init: ProcessId | undefined, unfinished: UnfinishedCheckpoints): Promise<boolean> {
  const { settings, states, log, store } = context;
  const about = { ve: ve.uuid, name: ve.name, kind: entry.kind, phase: entry.phase };
  if (entry.kind === 'roll-back') {
    const snapshot = store.listSnapshots(ve.uuid).find(({ id }) => id === entry.data.snapshot);
    if (!snapshot) return false;
    log.info(about, 'finishing an interrupted roll-back');
    await cleanUpRun(context, ve);
    unfinished.rollBack.push({ ve, snapshot });
    return true;
  }
  const momentary = MOMENTARY.includes(entry.kind);
  const arrived = entry.kind === 'migrate-in';
  if (entry.kind !== 'suspend' && entry.kind !== 'resume' && !arrived && !(momentary && entry.phase === 'suspend')) return false;

  // `restore` is there until the processes of a resume run: what there is of them before is a torso.
  const torso = existsSync(join(runFolder(settings, ve.number), 'restore'));
  const runs = torso ? await cleanUpTorso(context, ve) : init;
  if (runs) {
    log.info(about, ve.suspended ? 'the VE runs again' : 'the VE runs on');
    if (ve.suspended) finishResume(context, ve);
    return false;
  }
  if (!states.isWhole(ve.uuid)) {
    // It died, and that was not us; or it has run again since, and has ended.
    if (ve.suspended) finishResume(context, ve);
    return false;
  }
  log.info(about, 'the VE is suspended');
  if (ve.suspended) await cleanUpRun(context, ve);
  else await finishSuspend(context, ve, { byHost: entry.data.byHost === true });
  // One that was given away is perhaps another node's: src/migration/settle.ts will ask.
  const given = store.listHandovers().some((handover) => handover.role === 'source' && handover.ve === ve.uuid);
  if (momentary ? !given : arrived && entry.data.kind === 'running') unfinished.resume.push(reload(store, ve.uuid));
  return true;
}

/** States, of VEs, snapshots and warm images, that no record names, and the snapshots on which clones stood while they were made. */
export async function removeStrayStates(context: VeContext): Promise<void> {
  const { store, states } = context;
  for (const uuid of states.list()) {
    if (store.veByUuid(uuid)?.suspended) continue;
    // Nobody's, so nothing depends on it being gone now.
    await states.remove(uuid).catch((error: unknown) => context.log.error({ ve: uuid, err: error }, 'a state that belongs to nobody could not be removed'));
  }
  for (const snapshot of store.listSnapshots()) if (/^(clone-[0-9a-f-]{36}|archive-[0-9a-f]{12})$/.test(snapshot.name)) await deleteSnapshot(context, snapshot);
  removeTransfers(context);
  const known = new Set([...store.listSnapshots(), ...store.listWarmImages()].map(({ id }) => id));
  for (const id of states.listSnapshots()) if (!known.has(id)) await states.removeSnapshot(id);
}
