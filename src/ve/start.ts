/** `start`. */
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import type { VeRecord } from '../store/types.ts';
import { bootVe } from './boot.ts';
import { settled } from './clean-up.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { askRoom } from './room.ts';
import { readRunState } from './run-folder.ts';

/** Refuse what may be another node's. @throws VeldError `migration.undecided` */
export function checkNotGranted({ store }: Pick<VeContext, 'store'>, ve: VeRecord): void {
  if (store.listHandovers().some((handover) => handover.role === 'source' && handover.ve === ve.uuid)) throw new VeldError('migration.undecided', `${ve.name} was about to go to another node when that was lost: it may run there.`);
}

/** Refuse what cannot be started. @param discardState also a suspended VE @throws VeldError `ve.running`, `ve.suspended` */
export function checkStopped(context: VeContext, ve: VeRecord, discardState = false): void {
  if (ve.suspended && !discardState) throw new VeldError('ve.suspended', `${ve.name} is suspended: a boot would lose what it was doing.`);
  if (readRunState(context.settings, ve.number).init) throw new VeldError('ve.running', `${ve.name} is running already.`, { hint: 'Nothing to do; `veld restart` boots it anew.' });
}

/** Boot a stopped VE. @param discardState a suspended one, too: its state is thrown away when the boot has succeeded */
export async function startVe(context: VeContext, uuid: string, task: Task, discardState = false): Promise<void> {
  const ve = reload(context.store, uuid);
  context.resources.expectMoves();
  await settled(context, ve.number); // it may be rebooting itself just now
  checkStopped(context, ve, discardState);
  checkNotGranted(context, ve); // also for what starts VEs by itself
  askRoom(context, ve, task);
  const before = ve.desired;
  task.undo('desired', () => { updateVe(context.store, uuid, { desired: before }); });
  const wanted = context.store.transaction(() => {
    task.phase('start', { desired: before });
    return updateVe(context.store, uuid, { desired: 'running', deployed: ve.deployed ?? 'cold' });
  });
  const init = await bootVe(context, wanted, task);
  task.commit();
  if (ve.suspended) {
    updateVe(context.store, uuid, { suspended: null });
    await context.states.remove(uuid);
  }
  if (ve.notStarted) updateVe(context.store, uuid, { notStarted: null });
  context.events.emit('ve.started', { ve: uuid, data: { name: ve.name, pid: init?.pid ?? null } });
}
