/** `suspend`: the processes of a VE go from memory to disk. Until criu has written everything they can go on as if nothing had been. */
import { existsSync, rmSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import { isSkipped } from '../lib/faults.ts';
import { readIfExists } from '../lib/files.ts';
import { run } from '../lib/run.ts';
import { criuErrors } from '../kernel/criu.ts';
import { endCriu } from '../kernel/criu-watch.ts';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import { waitProcessEnd } from '../kernel/pidfd.ts';
import { endRepairOf } from '../kernel/repaired-sockets.ts';
import type { ProcessId } from '../kernel/process.ts';
import { adoptParent, PARENT } from '../checkpoint/parent.ts';
import { findQueued } from '../checkpoint/queues.ts';
import { findObstacles, frozenGroups, strangeLinks } from '../checkpoint/obstacles.ts';
import type { Manifest, Obstacle, StateFolder } from '../checkpoint/types.ts';
import type { Task } from '../ops/types.ts';
import type { VeRecord } from '../store/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import { pastOf } from './beancounters.ts';
import { cleanUpRun, settled } from './clean-up.ts';
import { canKeepConsole, endKeepers, keepConsole } from './console-keeper.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { superviseCriu } from './criu-supervision.ts';
import { manifestOf, mountsOf, writeDumpFiles, type Standing } from './criu-files.ts';
import { endVisitors, visitors } from './end-sessions.ts';
import { dropLinkRemaps } from './link-remaps.ts';
import { monitorOf } from './monitor.ts';
import { recallWatched } from './recall.ts';
import { holdAgain, letThrough } from './program-limits.ts';
import { bringBack, whenOpened } from './resume.ts';
import { findWatched, watchObstacles, type Watched } from './watched.ts';
import { HOLD, putFile, readRunState, runFolder, takeTrackedSince } from './run-folder.ts';

/** What passes by itself, most often, and how long that is waited for, in milliseconds. */
const PASSING: Readonly<Record<string, number>> = { landlock: 20_000, watch: 3000, queue: 2000 };
/** Of these: what may be in the way whenever one looks, in a VE that has much to do, and not when its processes stand. criu will see. */
const UNSTEADY = 'queue';

/**
 * Errors of criu about what passes by itself: a watched file that it has not found where these mostly are, or that is of a unit which has just ended; a
 * message with credentials that nobody has read yet, as services send them to init; a connection that nobody has accepted yet.
 */
const PASSING_ERRORS = /irmap|fsnotify|inotify|handle|control messages in queue|in-flight/i;
/** How long a dump is tried again for their sake, in milliseconds. */
const RETRIES = 10_000;

/** How long the VE's kernel gets for answering for its addresses, in milliseconds: it takes it less than one, most often. */
const ANSWER = 100;

/** Statuses of libexec/veld-dump: the processes go on; or, for its `unlock`, they have been suspended all the same. */
export const FAILED = 1;
const SUSPENDED = 4;

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
  return (await lookAt(context, ve)).obstacles;
}

async function lookAt(context: VeContext, ve: VeRecord): Promise<{ obstacles: Obstacle[]; watched: Watched }> {
  const init = checkSuspendable(context, ve);
  const { mounts } = manifestOf(context, ve, init);
  const ends = new Set(visitors(context, ve, init).map(({ pid }) => pid));
  const pids = context.resources.pids(ve.number).filter((pid) => !ends.has(pid));
  const table = mountsOf(init);
  const [found, watched, queued] = await Promise.all([
    findObstacles(init.pid, pids, table, new Set(mounts.map(({ inside }) => inside)), () => canKeepConsole(context, ve)),
    findWatched(init, pids, table),
    findQueued(init.pid, pids),
  ]);
  return {
    watched,
    obstacles: [
      ...found, ...watchObstacles(watched), ...queued,
      ...frozenGroups(context.resources.groups(ve.number).unified),
      ...strangeLinks(init.pid, context.network.plan(ve).links.map(({ name }) => name)),
    ],
  };
}

/** Suspend a running VE. On failure it runs on, its connections intact. @param options `byHost`: because the host goes down */
export async function suspendVe(context: VeContext, uuid: string, task: Task, options: { byHost?: boolean } = {}): Promise<void> {
  const ve = reload(context.store, uuid);
  await settled(context, ve.number); // it may be rebooting itself just now
  const { init } = await dumpNow(context, ve, task, `${ve.name} is being suspended.`, options);
  await finishSuspend(context, ve, options, init);
  context.events.emit('ve.suspended', { ve: uuid, data: { name: ve.name } });
}

/** The same as a part of another operation; the caller has seen that no script is at work. @param why told to whoever has a command in it */
export async function suspendNow(context: VeContext, ve: VeRecord, task: Task, why: string): Promise<void> {
  const { init } = await dumpNow(context, ve, task, why, {});
  await finishSuspend(context, ve, {}, init);
}

/** How a VE goes that goes on elsewhere: see {@link pause}. */
export interface Leaving {
  memory?: string;
  dumping?: () => Promise<void>;
}

/** A VE that is away for a moment. */
export interface Paused {
  /** What was its init. */
  init: ProcessId;
  /** Since when it stands, by performance.now(). */
  since: number;
  /** Nobody waits any more: put away what was its root. */
  done(): Promise<void>;
}

/**
 * The same for a VE that goes on in a moment, in any case by {@link goOn}: what a boot makes and an end takes away stays, its record too, and its state is
 * whole only for as long as the host runs. Its root is kept until it has gone on: the kernel brings a file system to the disk when an overlay on it is unmounted, all that
 * was just written of the VE's memory included, and whoever unmounts it waits for that.
 * @param leaving it goes on elsewhere, most likely: nothing is made ready for it here; `memory`: images of the copy of its memory on which the state may stand; `dumping`: called before criu begins to write, also when it does so once more
 */
export async function pause(context: VeContext, ve: VeRecord, task: Task, why: string, leaving?: Leaving): Promise<Paused> {
  const { init } = readRunState(context.settings, ve.number);
  const root = init && await openGuestRoot(init).catch(() => undefined);
  const done = async (): Promise<void> => root?.closeAside();
  try {
    return { ...await dumpNow(context, ve, task, why, { brief: true, ...leaving && { leaving } }), done };
  } catch (error) {
    await done();
    throw error;
  }
}

/** Wait until of a paused VE nothing is there any more that must not be there when it goes on. */
export async function paused(context: VeContext, ve: VeRecord, { init }: Paused): Promise<void> {
  if (existsSync(join(runFolder(context.settings, ve.number), 'old-init'))) return; // libexec/veld-criu-hook will look whether it has died
  await waitProcessEnd(init, AbortSignal.timeout(10_000));
  // libexec/veld-dump has ended, and its hook has ended conmon, most often.
  if (monitorOf(context.settings, ve.number)) await settled(context, ve.number);
  if (context.resources.pids(ve.number).length > 0) await context.resources.kill(ve.number);
}

/**
 * Bring a paused VE back. When that fails it is suspended, as if it had been asked for.
 * @param track id of the snapshot on which its next state may stand
 */
export async function goOn(context: VeContext, uuid: string, task: Task, track?: string): Promise<void> {
  try {
    await bringBack(context, uuid, task, { paused: true, ...track !== undefined && { track } });
  } catch (error) {
    const { init } = readRunState(context.settings, reload(context.store, uuid).number);
    if (!init && context.states.isWhole(uuid)) await noteSuspended(context, uuid, {});
    throw error;
  }
}

/**
 * Write the processes of a running VE, which stands for it, and goes on, whatever becomes of this. Its state is not brought to the disk yet.
 * @param standing where to, and of what a copy is made meanwhile
 */
export async function writeStanding(context: VeContext, ve: VeRecord, task: Task, why: string, standing: Standing): Promise<void> {
  const folder = runFolder(context.settings, ve.number);
  for (const name of ['opened', UNCOPIED]) rmSync(join(folder, name), { force: true });
  const opening = whenOpened(folder, () => context.network.release(ve));
  try {
    await dumpNow(context, ve, task, why, { brief: true, standing });
  } finally {
    opening.close();
    context.network.release(ve); // whatever became of the watch
    holdAgain(context, ve);
    endKeepers(context, ve);
  }
}

/** Whether it was the copy of its upper on which {@link writeStanding} failed. */
export function isUncopied(context: VeContext, ve: VeRecord): boolean {
  return existsSync(join(runFolder(context.settings, ve.number), UNCOPIED));
}

/** Left by libexec/veld-criu-hook. */
const UNCOPIED = 'uncopied';

interface DumpOptions {
  brief?: boolean;
  leaving?: Leaving;
  byHost?: boolean;
  standing?: Standing;
}

/** @returns what was its init, and since when it has stood */
async function dumpNow(context: VeContext, ve: VeRecord, task: Task, why: string, { brief = false, leaving, byHost = false, standing }: DumpOptions): Promise<{ init: ProcessId; since: number }> {
  const { uuid } = ve;
  const init = checkSuspendable(context, ve);
  task.progress(5, 'looking for what cannot be kept');
  const watched = await untilNothingIsInTheWay(context, ve, task);
  await recallWatched(context, ve);

  task.progress(10, 'ending commands from outside');
  await endVisitors(context, ve, init, why);
  const left = await dropLinkRemaps(init, context.resources.pids(ve.number));
  if (left > 0) context.log.info({ ve: ve.uuid, name: ve.name, left }, 'links that an earlier dump had left were taken away');
  let since: number;
  try {
    const [consoleKeeper, answering] = await Promise.all([keepConsole(context, ve), context.network.answering(ve, ANSWER)]);
    const manifest = { ...manifestOf(context, ve, init, consoleKeeper), answering, beancounters: pastOf(context, ve) };
    const state = context.states.begin(standing?.state ?? context.states.folder(uuid), manifest);
    // From here on criu alone decides: the processes end in the moment in which all of them are on the disk.
    task.phase('suspend', { byHost });
    task.commit();
    task.progress(20, 'writing its processes to the disk');
    if (brief) {
      if (!standing) context.resources.expectMoves(1000); // in milliseconds: they come back soon
      putFile(runFolder(context.settings, ve.number), HOLD, await context.network.hold(ve));
    }
    since = performance.now();
    letThrough(context, ve);
    await dump(context, ve, init, { state, manifest, watched, brief, leaving, standing });
  } catch (error) {
    holdAgain(context, ve);
    context.network.release(ve);
    endKeepers(context, ve);
    if (!standing) await context.states.remove(uuid);
    context.store.clearJournal(task.id);
    throw error;
  }
  task.progress(80, 'cleaning up');
  return { init, since };
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

interface Dump {
  state: StateFolder;
  manifest: Manifest;
  watched: Watched;
  brief: boolean;
  leaving: Leaving | undefined;
  standing: Standing | undefined;
}

async function dump(context: VeContext, ve: VeRecord, init: ProcessId, { state, manifest, watched, brief, leaving, standing }: Dump): Promise<void> {
  const end = performance.now() + RETRIES;
  for (let attempt = 0; ; attempt++) {
    const everywhere = attempt > 0;
    const parent = attempt === 0 && (leaving?.memory === undefined ? standOnEarlier(context, ve, state) : adoptParent(leaving.memory, state.images));
    if (attempt === 1) rmSync(join(state.images, PARENT), { recursive: true, force: true });
    await writeDumpFiles(context, ve, init, state, manifest, { watched, everywhere, parent, brief, standing, early: brief && !leaving && !standing && hasRoomForTwo(context, ve) });
    await leaving?.dumping?.();
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
    if (parent || (attempt === 0 || performance.now() < end) && errors.some((line) => PASSING_ERRORS.test(line))) {
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

/** Whether a VE may have its processes and its memory twice for a moment: while those that it had are dying. */
function hasRoomForTwo({ resources }: VeContext, ve: VeRecord): boolean {
  const { 'memory.limit': memory, 'pids.limit': pids } = resolveProperties(ve.properties);
  const now = resources.usage(ve.number);
  return now !== undefined && 2 * now.memoryBytes + SPARE.memory <= (memory ?? Infinity) && now.memoryBytes + SPARE.host <= freemem() && 2 * now.tasks + SPARE.pids <= (pids ?? Infinity);
}

/** What is to be left beside them: bytes of the VE's limit and of the host's memory, and processes. */
const SPARE = { memory: 32 << 20, host: 256 << 20, pids: 32 };

/** Let the state have of memory only what was changed since an earlier one, where the kernel can tell. */
function standOnEarlier({ settings, states }: VeContext, ve: VeRecord, state: StateFolder): boolean {
  const tracked = takeTrackedSince(settings, ve.number);
  if (!tracked || !states.isWholeSnapshot(tracked.snapshot)) return false;
  const earlier = states.snapshot(tracked.snapshot);
  return states.read(earlier).engine === states.read(state).engine && adoptParent(earlier.images, state.images, tracked.since);
}

/** Wait until no dump of the VE is under way, and see to it that none begins any more; what it had begun is undone, unless the VE is suspended. */
export async function dumpEnded(context: VeContext, ve: VeRecord): Promise<void> {
  if (!existsSync(join(runFolder(context.settings, ve.number), 'env'))) return;
  await letGo(context, ve);
  endKeepers(context, ve);
}

/** What a dump had closed or held is open and moves again, when criu is dead or works no more. @returns whether the VE is suspended all the same */
export async function letGo(context: VeContext, ve: VeRecord): Promise<boolean> {
  const script = (what: string) => run(join(context.settings.libexecDir, 'veld-dump'), [runFolder(context.settings, ve.number), what], { allow: true });
  const watch = superviseCriu(context, ve); // of an earlier daemon, perhaps
  await script('end').finally(() => watch.close());
  const connections = endRepairOf(context.resources.pids(ve.number));
  if (connections > 0) context.log.warn({ ve: ve.uuid, name: ve.name, connections }, 'connections were put in order after a dump that broke off');
  return (await script('unlock')).code === SUSPENDED;
}

/** @throws VeldError `checkpoint.refused` */
async function untilNothingIsInTheWay(context: VeContext, ve: VeRecord, task: Task): Promise<Watched> {
  for (const since = performance.now(); ; await sleep(50, undefined, { signal: task.signal })) {
    const { obstacles, watched } = await lookAt(context, ve);
    if (obstacles.length === 0 || isSkipped('suspend.obstacles')) return watched;
    const waited = performance.now() - since;
    const late = obstacles.filter(({ kind }) => waited > (PASSING[kind] ?? -1));
    if (late.some(({ kind }) => kind !== UNSTEADY)) throw refused(ve, obstacles);
    if (late.length === obstacles.length) return watched;
    task.progress(5, 'waiting for the end of what is in the way');
  }
}

function refused(ve: VeRecord, obstacles: readonly Obstacle[]): VeldError {
  const more = obstacles.length > 1 ? ` (and ${obstacles.length - 1} more: \`veld checkpoint --check ${ve.name}\`)` : '';
  return new VeldError('checkpoint.refused', `${ve.name} cannot be suspended now. ${obstacles[0]!.text}${more}`, { hint: obstacles[0]!.remedy, details: { obstacles } });
}
