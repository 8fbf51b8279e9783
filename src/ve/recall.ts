/**
 * Puts in order what a dump is to find of watches: those of groups that have gone are ended, and the names of watched files are looked up again. What an
 * inotify watches is told by the kernel (`fhandle` in /proc/PID/fdinfo, by which criu finds the file) only as long as one of the file's names is in the
 * kernel's cache, and when memory is short that is emptied.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { endGoneWatches } from '../checkpoint/gone-watches.ts';
import { watchesOf } from '../checkpoint/watches.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { runInVe } from './run-in-ve.ts';

/** Seconds after which a look at all files of a VE is given up. */
const PATIENCE = 30;

/** How long a watch may stay that no name brings back, in milliseconds: the group of a unit that has ended, until systemd lets go of it. */
const LEAVE = 3000;

/** End what leads nowhere; find out whether anything that is watched in a VE has been forgotten, and have its own find(1) look at all files then. */
export async function recallWatched(context: VeContext, ve: VeRecord): Promise<void> {
  const watches = await watchesOf(context.resources.pids(ve.number));
  const ended = endGoneWatches(watches, context.resources.groups(ve.number).unified);
  if (ended > 0) context.log.info({ ve: ve.uuid, name: ve.name, ended }, 'watches of control groups that have gone were ended');
  if (watches.every(({ handle }) => handle !== undefined)) return;
  const started = performance.now();
  // The test of a size makes find look at each file; the groups are watched by systemd. On other file systems names are never forgotten.
  const look = ['timeout', String(PATIENCE), 'find', '/', '/sys/fs/cgroup', '-xdev', '-size', '+1000000G'];
  const code = await runInVe(context, ve, look, { patience: (PATIENCE + 10) * 1000 }).then((result) => result.code, (error: Error) => error.message);
  let left = await hasForgotten(context.resources.pids(ve.number));
  for (const end = performance.now() + LEAVE; left && performance.now() < end; left = await hasForgotten(context.resources.pids(ve.number))) await sleep(100);
  context.log.info({ ve: ve.uuid, name: ve.name, code, left, ms: Math.round(performance.now() - started) }, 'names of watched files were looked up again');
}

async function hasForgotten(pids: readonly number[]): Promise<boolean> {
  return (await watchesOf(pids)).some(({ handle }) => handle === undefined);
}
