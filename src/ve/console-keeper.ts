/**
 * Takes a VE's console along into a dump, where somebody in the VE holds it: sysvinit, busybox, the command of an application VE, a getty.
 *
 * The other end of that terminal is its monitor's (conmon), outside. criu dumps a terminal both ends of which are in the VE. So a process of the VE, the keeper,
 * gets the master as well for as long as that takes: a child of init that sleeps. When the VE is restored, libexec/veld-criu-hook hands what it holds to the new
 * monitor, and ends it before anything runs. A dump that fails leaves it behind for {@link endKeepers}.
 */
import { closeSync } from 'node:fs';
import { duplicateMaster } from '../kernel/console-master.ts';
import { signalProcess } from '../kernel/pidfd.ts';
import { readProcess, readProcessFile, readProcessFileHead } from '../kernel/process.ts';
import { holdsConsole } from '../checkpoint/obstacles.ts';
import { VeldError } from '../lib/errors.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { monitorOf } from './monitor.ts';
import { mark } from './run-folder.ts';
import { runInVe } from './run-in-ve.ts';

/** How long the VE's shell may take, in milliseconds. */
const PATIENCE = 10_000;

/** By this in its environment a keeper is known. */
const MARK = 'VELD_KEEPS_CONSOLE';

/** (A shell that is not interactive leaves its background commands in its own process group, so setsid(1) need not fork.) */
const KEEP = 'setsid sleep 1000000000 </dev/null >/dev/null 2>&1 & echo $!';

/** Whether the VE has the programs that a keeper is made of. */
export async function canKeepConsole(context: VeContext, ve: VeRecord): Promise<boolean> {
  try {
    return (await runInVe(context, ve, ['sh', '-c', 'command -v setsid && command -v sleep'], { patience: PATIENCE })).code === 0;
  } catch {
    return false; // it has no shell, or one that does not answer
  }
}

/**
 * Have a process of the VE hold the console's master, when anybody holds the console.
 * @returns that process's pid in the VE
 * @throws VeldError `checkpoint.failed`
 */
export async function keepConsole(context: VeContext, ve: VeRecord): Promise<number | undefined> {
  if (!context.resources.pids(ve.number).some(holdsConsole)) return undefined;
  const monitor = monitorOf(context.settings, ve.number);
  const master = monitor && duplicateMaster(monitor);
  if (master === undefined) throw new VeldError('checkpoint.failed', `${ve.name} cannot be suspended: nobody has the other end of its console.`, { hint: 'Restart the VE.' });
  mark(context.settings, ve.number, 'console-lent', true);
  let why: string;
  try {
    const { said } = await runInVe(context, ve, ['sh', '-c', KEEP], { env: { [MARK]: '1' }, patience: PATIENCE, descriptors: [master] });
    const keeper = /^[1-9]\d{0,9}$/.exec(said);
    if (keeper) return Number(keeper[0]);
    why = said.slice(0, 200);
  } catch (error) {
    why = (error as Error).message;
  } finally {
    closeSync(master);
  }
  endKeepers(context, ve);
  throw new VeldError('checkpoint.failed', `${ve.name} cannot be suspended: its console could not be held (${why}).`);
}

/** End the keepers of a VE that runs on. */
export function endKeepers({ resources }: Pick<VeContext, 'resources'>, ve: VeRecord): void {
  for (const pid of resources.pids(ve.number)) {
    const id = readProcess(pid);
    if (id && readProcessFile(pid, 'comm') === 'sleep\n' && (readProcessFileHead(pid, 'environ') ?? '').split('\0').includes(`${MARK}=1`)) signalProcess(id, 'SIGKILL');
  }
}

