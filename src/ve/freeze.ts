/** `freeze` and `thaw`: every process of the VE stands still, and goes on. */
import { VeldError } from '../lib/errors.ts';
import type { VeRecord } from '../store/types.ts';
import { reload, type VeContext } from './context.ts';
import { readRunState } from './run-folder.ts';

/** @throws VeldError `ve.not_running` */
export function checkRunning(context: VeContext, ve: VeRecord): void {
  if (!readRunState(context.settings, ve.number).init) throw new VeldError('ve.not_running', `${ve.name} is not running.`);
}

/** Stop all processes of a running VE where they are. A frozen VE stays frozen. */
export async function freezeVe(context: VeContext, uuid: string): Promise<void> {
  const ve = reload(context.store, uuid);
  checkRunning(context, ve);
  await context.resources.freeze(ve.number);
  context.events.emit('ve.frozen', { ve: uuid, data: { name: ve.name } });
}

/** Let a frozen VE go on. */
export async function thawVe(context: VeContext, uuid: string): Promise<void> {
  const ve = reload(context.store, uuid);
  checkRunning(context, ve);
  await context.resources.thaw(ve.number);
  context.events.emit('ve.thawed', { ve: uuid, data: { name: ve.name } });
}
