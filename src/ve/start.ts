/** `start`. */
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import type { VeRecord } from '../store/types.ts';
import { bootVe } from './boot.ts';
import { settled } from './clean-up.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { readRunState } from './run-folder.ts';

/** Refuse what cannot be started. @throws VeldError `ve.running` */
export function checkStopped(context: VeContext, ve: VeRecord): void {
  if (readRunState(context.settings, ve.number).init) throw new VeldError('ve.running', `${ve.name} is running already.`, { hint: 'Nothing to do; `veld restart` boots it anew.' });
}

/** Boot a stopped VE. */
export async function startVe(context: VeContext, uuid: string, task: Task): Promise<void> {
  const ve = reload(context.store, uuid);
  await settled(context, ve.number); // it may be rebooting itself just now
  checkStopped(context, ve);
  const before = ve.desired;
  task.undo('desired', () => { updateVe(context.store, uuid, { desired: before }); });
  const wanted = context.store.transaction(() => {
    task.phase('start', { desired: before });
    return updateVe(context.store, uuid, { desired: 'running' });
  });
  const init = await bootVe(context, wanted, task);
  task.commit();
  context.events.emit('ve.started', { ve: uuid, data: { name: ve.name, pid: init?.pid ?? null } });
}
