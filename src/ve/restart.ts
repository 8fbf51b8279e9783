/** `restart`: stop and start as one operation. */
import type { Task } from '../ops/types.ts';
import { cleanUpRun, settled } from './clean-up.ts';
import { reload, type VeContext } from './context.ts';
import { keepRoom } from './room.ts';
import { readRunState } from './run-folder.ts';
import { startVe } from './start.ts';
import { endInit, type StopOptions } from './stop.ts';

/** Stop a VE when it runs, then boot it with its present configuration. */
export async function restartVe(context: VeContext, uuid: string, options: StopOptions, task: Task): Promise<void> {
  const ve = reload(context.store, uuid);
  await settled(context, ve.number); // it may be rebooting itself just now
  const { init } = readRunState(context.settings, ve.number);
  if (init) {
    keepRoom(context, ve, task); // until it boots again
    task.phase('restart', { force: options.force === true });
    await endInit(context, ve, init, options, task);
    await cleanUpRun(context, ve);
  }
  await startVe(context, uuid, task);
}
