/** The end of a run: waits for whoever works in the run folder, and forgets a run of which nothing lives any more. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../lib/run.ts';
import { endCriu } from '../kernel/criu-watch.ts';
import { waitProcessEnd } from '../kernel/pidfd.ts';
import type { ProcessId } from '../kernel/process.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { monitorOf } from './monitor.ts';
import { mark, readRunState, removeRunFolder, runFolder } from './run-folder.ts';

/** Make sure that nothing of a VE runs, then forget its run: groups, firewall entries, link, run folder. Idempotent. */
export async function cleanUpRun(context: VeContext, ve: VeRecord): Promise<void> {
  const { settings, resources, network } = context;
  if (existsSync(runFolder(settings, ve.number))) mark(settings, ve.number, 'stopping', true);
  const { init } = readRunState(settings, ve.number);
  if (existsSync(resources.groups(ve.number).unified)) await resources.kill(ve.number);
  // It has left its groups when it waits for whoever came into the VE from outside to be gone, too.
  if (init) await waitProcessEnd(init, AbortSignal.timeout(SETTLE_TIMEOUT));
  await settled(context, ve.number);
  // A boot script that was under way may have begun processes meanwhile.
  for (let i = 0; i < 3 && resources.pids(ve.number).length > 0; i++) {
    await resources.kill(ve.number);
    await settled(context, ve.number);
  }
  if (existsSync(resources.groups(ve.number).unified)) context.beforeEnd?.(ve.number);
  await Promise.all([network.revoke(ve), resources.remove(ve.number)]);
  removeRunFolder(settings, ve.number);
}

/**
 * The same for a VE that was being brought back from a state, and has not come back as a whole: nothing of it says goodbye to those it was connected with.
 * @returns its init when it has come back after all: then its state is gone, and nothing is done
 */
export async function cleanUpTorso(context: VeContext, ve: VeRecord): Promise<ProcessId | undefined> {
  const folder = runFolder(context.settings, ve.number);
  // From here on libexec/veld-criu-hook does not let it come back any more; or it has.
  if (existsSync(folder)) await run(join(context.settings.libexecDir, 'veld-torso'), [folder], { allow: true });
  const { init } = readRunState(context.settings, ve.number);
  if (init && !existsSync(join(folder, 'restore'))) return init;
  const links = context.network.plan(ve).links.map(({ link }) => `link del ${link}\n`).join('');
  await run('ip', ['-force', '-batch', '-'], { input: links, allow: true });
  endCriu(folder);
  await cleanUpRun(context, ve);
  return undefined;
}

/** How long the scripts and conmon get to do their part, in milliseconds. */
const SETTLE_TIMEOUT = 20_000;

/**
 * Wait until what the run folder says is final: no script of libexec/ works in it (they hold its lock), and where init is dead its
 * conmon has ended too, which is after its exit command (it may be about to run it just now).
 */
export async function settled({ settings }: VeContext, number: number): Promise<void> {
  const folder = runFolder(settings, number);
  if (readRunState(settings, number).init) return;
  for (let i = 0; i < 10 && existsSync(join(folder, 'lock')); i++) {
    // Looked for before the lock is waited for: once nobody holds that, conmon may begin a boot, which takes away the file that tells of it.
    const monitor = monitorOf(settings, number);
    await run(join(settings.libexecDir, 'veld-settle'), [folder, String(SETTLE_TIMEOUT / 1000)]);
    if (readRunState(settings, number).init || !monitor) return;
    await waitProcessEnd(monitor, AbortSignal.timeout(SETTLE_TIMEOUT));
  }
}
