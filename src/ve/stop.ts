/** `stop`: ask init, wait, then force. */
import { VeldError } from '../lib/errors.ts';
import { waitProcessEnd } from '../kernel/pidfd.ts';
import type { ProcessId } from '../kernel/process.ts';
import type { Task } from '../ops/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import { cleanUpRun, settled } from './clean-up.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { initKind, INITS } from './inits.ts';
import { bootedProperties, mark, readRunState } from './run-folder.ts';

export interface StopOptions {
  /** Kill at once instead of asking. */
  force?: boolean;
  /** Seconds that init gets before it is killed; default `stop.timeout`. */
  timeout?: number;
}

/** Exit status of an init that ended its pid namespace by reboot(2), as conmon reports it: 128 + SIGINT. */
const POWEROFF = 130;

/** What an init gets that listens to nothing: it may be ending just now. In milliseconds. */
const UNHEARD = 200;

/** Refuse what cannot be stopped in this way. @throws VeldError `ve.not_running`, `ve.frozen` */
export function checkStoppable(context: VeContext, ve: VeRecord, options: StopOptions): ProcessId | undefined {
  const { init, between } = readRunState(context.settings, ve.number);
  if (!init && !between) throw new VeldError('ve.not_running', `${ve.name} is not running.`, { hint: 'Nothing to do.' });
  if (!options.force && context.resources.isFrozen(ve.number)) {
    throw new VeldError('ve.frozen', `${ve.name} is frozen: its init cannot hear the wish to stop.`, { hint: 'Thaw it first, or use --force.' });
  }
  return init;
}

/**
 * Stop a running VE.
 * @returns whether it had to be killed
 */
export async function stopVe(context: VeContext, uuid: string, options: StopOptions, task: Task): Promise<{ forced: boolean }> {
  const ve = reload(context.store, uuid);
  await settled(context, ve.number); // it may be rebooting itself just now
  const init = checkStoppable(context, ve, options);
  task.phase('stop', { force: options.force === true });
  updateVe(context.store, uuid, { desired: 'stopped', notStarted: null });
  const forced = init ? await endInit(context, ve, init, options, task) : true;
  task.commit();
  task.progress(80, 'cleaning up');
  const code = forced ? 137 : await exitCode(context, ve);
  await cleanUpRun(context, ve);
  updateVe(context.store, uuid, { lastExit: { code, at: new Date().toISOString(), reason: forced ? 'killed by stop' : 'stopped' } });
  context.events.emit('ve.stopped', { ve: uuid, data: { name: ve.name, reason: 'stop', forced } });
  return { forced };
}

/** How a VE that went by itself has ended: by poweroff, or as its one command did. */
async function exitCode(context: VeContext, ve: VeRecord): Promise<number> {
  if (bootedProperties(context.settings, ve.number)?.['boot.command'] == null) return POWEROFF;
  await settled(context, ve.number); // the note is written after the end
  return readRunState(context.settings, ve.number).exited?.code ?? POWEROFF;
}

/** Bring init to its end. @returns whether it had to be killed */
export async function endInit(context: VeContext, ve: VeRecord, init: ProcessId, options: StopOptions, task: Task): Promise<boolean> {
  const timeout = options.timeout ?? resolveProperties(ve.properties)['stop.timeout'];
  mark(context.settings, ve.number, 'stopping', true);
  if (!options.force) {
    task.undo('stopping', () => mark(context.settings, ve.number, 'stopping', false));
    task.progress(10, `waiting for ${ve.name} to shut down`);
    const kind = initKind(init);
    const heard = kind !== undefined && INITS[kind].powerOff(init);
    // Whom nobody could ask will not go by waiting.
    const limit = AbortSignal.timeout(heard ? timeout * 1000 : UNHEARD);
    try {
      await waitProcessEnd(init, AbortSignal.any([task.signal, limit]));
      return false;
    } catch (error) {
      if (!limit.aborted || task.signal.aborted) throw error;
    }
    task.progress(60, heard ? `${ve.name} did not shut down within ${timeout} s: killing it` : `${ve.name} listens to no wish to shut down: killing it`);
    context.log.warn({ ve: ve.uuid, name: ve.name, timeout, kind, heard }, heard ? 'VE did not shut down in time and is killed' : 'VE listens to no wish to shut down and is killed');
  }
  await context.resources.kill(ve.number);
  await waitProcessEnd(init, AbortSignal.timeout(10_000));
  return true;
}
