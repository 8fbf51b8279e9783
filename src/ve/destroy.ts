/** `destroy`: the VE, its disk and its record. Once begun it is always finished, by the next daemon if need be. */
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import type { VeRecord } from '../store/types.ts';
import { forgetMark } from './backup/mark.ts';
import { cleanUpRun, settled } from './clean-up.ts';
import { forgetRecord } from './create.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { dropUnusedLayers } from './layers.ts';
import { readRunState } from './run-folder.ts';
import { forgetHead } from './snapshot.ts';

/** @throws VeldError `ve.running` unless forced */
export function checkDestroyable(context: VeContext, ve: VeRecord, force: boolean): void {
  const { init, between } = readRunState(context.settings, ve.number);
  if (!force && (init || between)) {
    throw new VeldError('ve.running', `${ve.name} is running.`, { hint: 'Stop it first, or use --force.' });
  }
}

/** Kill the VE if it runs and remove all that it is. */
export async function destroyVe(context: VeContext, uuid: string, force: boolean, task: Task): Promise<void> {
  const ve = reload(context.store, uuid);
  await settled(context, ve.number); // it may be rebooting itself just now
  checkDestroyable(context, ve, force);
  task.phase('destroy');
  task.commit();
  updateVe(context.store, uuid, { desired: 'stopped', ready: false });
  await removeVe(context, ve, task);
  context.events.emit('ve.destroyed', { ve: uuid, data: { name: ve.name } });
}

/** Remove whatever is there of a VE, whole or in part. Idempotent: recovery calls it too. */
export async function removeVe(context: VeContext, ve: VeRecord, task?: Task): Promise<void> {
  task?.progress(10, 'ending its processes');
  await cleanUpRun(context, ve);
  task?.progress(50, 'removing its disk');
  await context.network.accounting.forget(ve);
  await context.volumes.destroyVolume(ve.uuid);
  await context.states.remove(ve.uuid);
  const snapshots = context.store.listSnapshots(ve.uuid);
  forgetHead(context, ve.uuid);
  forgetMark(context, ve.uuid);
  forgetRecord(context, ve.uuid);
  for (const { id } of snapshots) await context.states.removeSnapshot(id);
  await dropUnusedLayers(context, [...ve.layers, ...snapshots.flatMap(({ layers }) => layers)]);
}
