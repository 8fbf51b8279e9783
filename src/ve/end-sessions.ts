/**
 * Ends what runs in a VE without being a descendant of its init: commands of `exec`, shells of `enter`, and copies under way. Their streams and
 * terminals lead outside, so a dump could not take them along; whoever waits for them hears why.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { readProcess, type ProcessId } from '../kernel/process.ts';
import { signalProcess } from '../kernel/pidfd.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';

/** How long they get to end by themselves after SIGHUP, in milliseconds. */
const GRACE = 2000;

/** Processes in the VE's groups that came from outside. @param init of the VE */
export function visitors(context: Pick<VeContext, 'resources'>, ve: VeRecord, init: ProcessId): ProcessId[] {
  const processes = context.resources.pids(ve.number).flatMap((pid) => readProcess(pid) ?? []);
  const parents = new Map(processes.map(({ pid, ppid }) => [pid, ppid]));
  const belongs = (pid: number): boolean => {
    for (let at: number | undefined = pid, i = 0; at !== undefined && i <= processes.length; at = parents.get(at), i++) if (at === init.pid) return true;
    return false;
  };
  return processes.filter(({ pid, state }) => state !== 'Z' && state !== 'X' && !belongs(pid));
}

/** End them. @param why told to whoever is at the other end */
export async function endVisitors(context: VeContext, ve: VeRecord, init: ProcessId, why: string): Promise<void> {
  context.sessions.interrupt(ve.uuid, why);
  const end = performance.now() + GRACE;
  for (let asked = false; ; asked = true) {
    const left = visitors(context, ve, init);
    if (left.length === 0) return;
    if (!asked) for (const id of left) signalProcess(id, 'SIGHUP');
    else if (performance.now() > end) for (const id of left) signalProcess(id, 'SIGKILL');
    if (performance.now() > end + GRACE) return; // one that cannot be killed: criu will say what it thinks of that
    await sleep(5);
  }
}
