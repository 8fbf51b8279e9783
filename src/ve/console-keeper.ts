/**
 * Takes a VE's console along into a dump, where somebody in the VE holds it: sysvinit, busybox, the command of an application VE, a getty.
 *
 * The other end of that terminal is its monitor's (conmon), outside. criu dumps a terminal both ends of which are in the VE. So a process of the VE, the keeper,
 * gets the master as well for as long as that takes: a child of init that sleeps. When the VE is restored, libexec/veld-criu-hook hands what it holds to the new
 * monitor, and ends it before anything runs. A dump that fails leaves it behind for {@link endKeepers}.
 */
import { closeSync, readFileSync } from 'node:fs';
import { duplicateMaster } from '../kernel/console-master.ts';
import { signalProcess } from '../kernel/pidfd.ts';
import { readProcess, readProcessFile } from '../kernel/process.ts';
import { holdsConsole } from '../checkpoint/obstacles.ts';
import { VeldError } from '../lib/errors.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { execInVe } from './exec.ts';
import { monitorOf } from './monitor.ts';
import { runInVe } from './run-in-ve.ts';

/** By this in its environment a keeper is known. */
const MARK = 'VELD_KEEPS_CONSOLE';

/** (A shell that is not interactive leaves its background commands in its own process group, so setsid(1) need not fork.) */
const KEEP = 'setsid sleep 1000000000 </dev/null >/dev/null 2>&1 & echo $!';

/** Whether the VE has the programs that a keeper is made of. */
export async function canKeepConsole(context: VeContext, ve: VeRecord): Promise<boolean> {
  try {
    return (await runInVe(context, ve, ['sh', '-c', 'command -v setsid && command -v sleep'])).code === 0;
  } catch {
    return false; // it has no shell
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
  let said = '';
  try {
    const session = await execInVe(context, ve, { command: ['sh', '-c', KEEP], env: { [MARK]: '1' } }, [master]);
    session.stdin.end();
    session.stdout.on('data', (chunk: Buffer) => { said += chunk.toString('utf8'); });
    session.stderr?.resume();
    await session.exit;
  } finally {
    closeSync(master);
  }
  const keeper = Number(said.trim());
  if (Number.isInteger(keeper) && keeper > 0) return keeper;
  endKeepers(context, ve);
  throw new VeldError('checkpoint.failed', `${ve.name} cannot be suspended: its console could not be held (${said.trim().slice(0, 200)}).`);
}

/** End the keepers of a VE that runs on. */
export function endKeepers({ resources }: Pick<VeContext, 'resources'>, ve: VeRecord): void {
  for (const pid of resources.pids(ve.number)) {
    const id = readProcess(pid);
    if (id && readProcessFile(pid, 'comm') === 'sleep\n' && environment(pid).includes(`${MARK}=1`)) signalProcess(id, 'SIGKILL');
  }
}

function environment(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return []; // it has ended
  }
}
