/** `suspend`: the processes of a VE go from memory to disk. Until criu has written everything they can go on as if nothing had been. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import { run } from '../lib/run.ts';
import { criuErrors } from '../kernel/criu.ts';
import { endCriu } from '../kernel/criu-watch.ts';
import { waitProcessEnd } from '../kernel/pidfd.ts';
import { endRepairOf } from '../kernel/repaired-sockets.ts';
import type { ProcessId } from '../kernel/process.ts';
import { findObstacles, frozenGroups, strangeLinks } from '../checkpoint/obstacles.ts';
import type { Manifest, Obstacle, StateFolder } from '../checkpoint/types.ts';
import type { Task } from '../ops/types.ts';
import type { VeRecord } from '../store/types.ts';
import { cleanUpRun, settled } from './clean-up.ts';
import { canKeepConsole, endKeepers, keepConsole } from './console-keeper.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { superviseCriu } from './criu-supervision.ts';
import { manifestOf, mountsOf, writeDumpFiles } from './criu-files.ts';
import { endVisitors, visitors } from './end-sessions.ts';
import { recallWatched } from './recall.ts';
import { bringBack } from './resume.ts';
import { readRunState, runFolder } from './run-folder.ts';

/** What passes by itself, most often. */
const PASSING = ['landlock'];
/** How long that is waited for, in milliseconds. */
const PATIENCE = 20_000;

/**
 * Errors of criu about what passes by itself: a watched file that it has not found where these mostly are, or that is of a unit which has just ended; a
 * message with credentials that nobody has read yet, as services send them to init; a connection that nobody has accepted yet.
 */
const PASSING_ERRORS = /irmap|fsnotify|inotify|handle|control messages in queue|in-flight/i;
/** How long a dump is tried again for their sake, in milliseconds. */
const RETRIES = 10_000;

/** Statuses of libexec/veld-dump: the processes go on; or, for its `unlock`, they have been suspended all the same. */
const FAILED = 1, SUSPENDED = 4;

/** Refuse what cannot be suspended now. @throws VeldError `ve.suspended`, `ve.not_running`, `ve.frozen` */
export function checkSuspendable({ settings, resources }: VeContext, ve: VeRecord): ProcessId {
  if (ve.suspended) throw new VeldError('ve.suspended', `${ve.name} is suspended already.`, { hint: 'Nothing to do.' });
  const { init } = readRunState(settings, ve.number);
  if (!init) throw new VeldError('ve.not_running', `${ve.name} is not running.`);
  if (resources.isFrozen(ve.number)) throw new VeldError('ve.frozen', `${ve.name} is frozen: its processes cannot be looked into.`);
  return init;
}

/** What a dump would fail on now. */
export async function obstaclesOf(context: VeContext, ve: VeRecord): Promise<Obstacle[]> {
  const init = checkSuspendable(context, ve);
  const { mounts } = manifestOf(context, ve, init);
  const ends = new Set(visitors(context, ve, init).map(({ pid }) => pid));
  const pids = context.resources.pids(ve.number).filter((pid) => !ends.has(pid));
  return [
    ...await findObstacles(init.pid, pids, mountsOf(init), new Set(mounts.map(({ inside }) => inside)), () => canKeepConsole(context, ve)),
    ...frozenGroups(context.resources.groups(ve.number).unified),
    ...strangeLinks(init.pid, context.network.plan(ve).links.map(({ name }) => name)),
  ];
}

/** Suspend a running VE. On failure it runs on, its connections intact. @param options `byHost`: because the host goes down */
export async function suspendVe(context: VeContext, uuid: string, task: Task, options: { byHost?: boolean } = {}): Promise<void> {
  const ve = reload(context.store, uuid);
  await settled(context, ve.number); // it may be rebooting itself just now
  await finishSuspend(context, ve, options, await dumpNow(context, ve, task, `${ve.name} is being suspended.`, options));
  context.events.emit('ve.suspended', { ve: uuid, data: { name: ve.name } });
}

/** The same as a part of another operation; the caller has seen that no script is at work. @param why told to whoever has a command in it */
export async function suspendNow(context: VeContext, ve: VeRecord, task: Task, why: string): Promise<void> {
  await finishSuspend(context, ve, {}, await dumpNow(context, ve, task, why, {}));
}

/**
 * The same for a VE that goes on in a moment, in any case by {@link goOn}: what a boot makes and an end takes away stays, its record too, and its state is
 * whole only for as long as the host runs.
 * @returns what was its init
 */
export function pause(context: VeContext, ve: VeRecord, task: Task, why: string): Promise<ProcessId> {
  return dumpNow(context, ve, task, why, { brief: true });
}

/** Wait until nothing of a paused VE is there any more. */
export async function paused(context: VeContext, ve: VeRecord, init: ProcessId): Promise<void> {
  await waitProcessEnd(init, AbortSignal.timeout(10_000));
  await settled(context, ve.number);
  if (context.resources.pids(ve.number).length > 0) await context.resources.kill(ve.number);
}

/** Bring a paused VE back. When that fails it is suspended, as if it had been asked for. */
export async function goOn(context: VeContext, uuid: string, task: Task): Promise<void> {
  try {
    await bringBack(context, uuid, task, { paused: true });
  } catch (error) {
    const { init } = readRunState(context.settings, reload(context.store, uuid).number);
    if (!init && context.states.isWhole(uuid)) await noteSuspended(context, uuid, {});
    throw error;
  }
}

/** @returns what was its init */
async function dumpNow(context: VeContext, ve: VeRecord, task: Task, why: string, { brief = false, byHost = false }: { brief?: boolean; byHost?: boolean }): Promise<ProcessId> {
  const { uuid } = ve;
  const init = checkSuspendable(context, ve);
  task.progress(5, 'looking for what cannot be kept');
  await untilNothingIsInTheWay(context, ve, task);
  await recallWatched(context, ve);

  task.progress(10, 'ending commands from outside');
  await endVisitors(context, ve, init, why);
  try {
    const manifest = manifestOf(context, ve, init, await keepConsole(context, ve));
    const state = context.states.begin(uuid, manifest);
    // From here on criu alone decides: the processes end in the moment in which all of them are on the disk.
    task.phase('suspend', { byHost });
    task.commit();
    task.progress(20, 'writing its processes to the disk');
    if (brief) context.resources.expectMoves(1000); // in milliseconds: they come back soon
    await dump(context, ve, init, state, manifest, brief);
  } catch (error) {
    endKeepers(context, ve);
    await context.states.remove(uuid);
    context.store.clearJournal(task.id);
    throw error;
  }
  task.progress(80, 'cleaning up');
  return init;
}

/** The state is whole: the VE is suspended, whoever of it may still be there. Recovery calls it too. */
export async function finishSuspend(context: VeContext, ve: VeRecord, options: { byHost?: boolean }, init?: ProcessId): Promise<void> {
  await noteSuspended(context, ve.uuid, options);
  if (init) await waitProcessEnd(init, AbortSignal.timeout(10_000));
  await cleanUpRun(context, ve);
}

async function noteSuspended({ store, states }: VeContext, uuid: string, { byHost = false }: { byHost?: boolean }): Promise<void> {
  const { engine, createdAt } = states.manifest(uuid);
  if (!states.isSecure(uuid)) await states.secure(states.folder(uuid));
  updateVe(store, uuid, { desired: 'stopped', suspended: { at: createdAt, engine, ...byHost && { byHost } } });
}

async function dump(context: VeContext, ve: VeRecord, init: ProcessId, state: StateFolder, manifest: Manifest, brief: boolean): Promise<void> {
  const end = performance.now() + RETRIES;
  for (let attempt = 0; ; attempt++) {
    const everywhere = attempt > 0;
    await writeDumpFiles(context, ve, init, state, manifest, { everywhere, brief });
    const watch = superviseCriu(context, ve);
    const { code, stderr } = await run(join(context.settings.libexecDir, 'veld-dump'), [runFolder(context.settings, ve.number)], { allow: true });
    watch.close();
    if (code === 0) return;
    // Neither its own end nor criu's word: somebody has killed one of the two.
    if (code !== FAILED) {
      endCriu(runFolder(context.settings, ve.number));
      if (await letGo(context, ve)) return;
    }
    if (watch.ended() > 0) throw new VeldError('checkpoint.failed', `${ve.name} could not be suspended, and runs on: criu did nothing for ${context.settings.checkpoint.stallTimeout} s, and was ended.`);
    const errors = criuErrors(readIfExists(join(state.images, 'dump.log')) ?? '');
    context.log.warn({ ve: ve.uuid, name: ve.name, everywhere, errors, stderr }, 'criu could not dump a VE');
    // Once again in any case: the first look was not everywhere, and of a large VE it may have taken all the time.
    if ((attempt === 0 || performance.now() < end) && errors.some((line) => PASSING_ERRORS.test(line))) {
      await sleep(100);
      await recallWatched(context, ve);
      await endVisitors(context, ve, init, `${ve.name} is being suspended.`);
      continue;
    }
    if (errors.some((line) => /No space left on device/.test(line)) || /No space left on device/.test(stderr)) {
      throw new VeldError('disk.full', `${ve.name} could not be suspended, and runs on: there is no space for its memory in ${context.settings.stateDir}.`, { details: { criu: errors.slice(0, 20) } });
    }
    throw new VeldError('checkpoint.failed', `${ve.name} could not be suspended, and runs on: ${errors[0] ?? (stderr.trim() || 'criu said nothing')}.`, { details: { criu: errors.slice(0, 20) } });
  }
}

/** Wait until no dump of the VE is under way, and see to it that none begins any more; what it had begun is undone, unless the VE is suspended. */
export async function dumpEnded(context: VeContext, ve: VeRecord): Promise<void> {
  if (!existsSync(join(runFolder(context.settings, ve.number), 'env'))) return;
  await letGo(context, ve);
  endKeepers(context, ve);
}

/** What a dump had closed or held is open and moves again, when criu is dead or works no more. @returns whether the VE is suspended all the same */
async function letGo(context: VeContext, ve: VeRecord): Promise<boolean> {
  const script = (what: string) => run(join(context.settings.libexecDir, 'veld-dump'), [runFolder(context.settings, ve.number), what], { allow: true });
  const watch = superviseCriu(context, ve); // of an earlier daemon, perhaps
  await script('end').finally(() => watch.close());
  const connections = endRepairOf(context.resources.pids(ve.number));
  if (connections > 0) context.log.warn({ ve: ve.uuid, name: ve.name, connections }, 'connections were put in order after a dump that broke off');
  return (await script('unlock')).code === SUSPENDED;
}

/** @throws VeldError `checkpoint.refused` */
async function untilNothingIsInTheWay(context: VeContext, ve: VeRecord, task: Task): Promise<void> {
  for (const end = performance.now() + PATIENCE; ; await sleep(50, undefined, { signal: task.signal })) {
    const obstacles = await obstaclesOf(context, ve);
    if (obstacles.length === 0) return;
    if (performance.now() > end || !obstacles.every(({ kind }) => PASSING.includes(kind))) throw refused(ve, obstacles);
    task.progress(5, 'waiting for the end of what is in the way');
  }
}

function refused(ve: VeRecord, obstacles: readonly Obstacle[]): VeldError {
  const more = obstacles.length > 1 ? ` (and ${obstacles.length - 1} more: \`veld checkpoint --check ${ve.name}\`)` : '';
  return new VeldError('checkpoint.refused', `${ve.name} cannot be suspended now. ${obstacles[0]!.text}${more}`, { hint: obstacles[0]!.remedy, details: { obstacles } });
}
