/** `resume`: the processes of a suspended VE come back from the disk, and go on where they were. */
import { statSync, watch, type FSWatcher } from 'node:fs';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';
import { toVeldError, VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { readIfExists } from '../lib/files.ts';
import { run, type RunResult } from '../lib/run.ts';
import { criuErrors } from '../kernel/criu.ts';
import { engineByFingerprint } from '../kernel/engine.ts';
import { hasSoftDirty } from '../kernel/memory-tracking.ts';
import type { ProcessId } from '../kernel/process.ts';
import type { Manifest } from '../checkpoint/types.ts';
import type { Task } from '../ops/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import { prepareRun } from './boot.ts';
import { applyPtys, putPast } from './beancounters.ts';
import { cleanUpTorso, settled } from './clean-up.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { baselineOfState, writeRestoreFiles } from './criu-files.ts';
import { superviseCriu } from './criu-supervision.ts';
import { liftDisk } from './disk.ts';
import { proveHealth } from './health.ts';
import { updateGuestFiles } from './identity-files.ts';
import { personalise } from './personalise.ts';
import { holdAgain } from './program-limits.ts';
import { shutGate } from './restore-gate.ts';
import { askRoom, keepRoom } from './room.ts';
import { bootedBaseline, mark, readRunState, runFolder, unheldIn } from './run-folder.ts';

/** @throws VeldError `ve.not_suspended`, `ve.running`, `checkpoint.unusable`, `engine.missing` */
export function checkResumable({ settings, states }: VeContext, ve: VeRecord): void {
  if (!ve.suspended) throw new VeldError('ve.not_suspended', `${ve.name} is not suspended.`);
  if (readRunState(settings, ve.number).init) throw new VeldError('ve.running', `${ve.name} is running already.`, { hint: 'Start the daemon again: it will notice.' });
  states.manifest(ve.uuid);
  engineByFingerprint(settings.stateDir, ve.suspended.engine);
}

/** Resume a suspended VE. When it cannot be restored it stays suspended, and nothing of the attempt is left. */
export async function resumeVe(context: VeContext, uuid: string, task: Task): Promise<void> {
  const ve = reload(context.store, uuid);
  context.resources.expectMoves(EXPECTED);
  await settled(context, ve.number);
  checkResumable(context, ve);
  task.phase('resume');
  const { derived } = context.states.manifest(uuid);
  await bringBack(context, uuid, task);
  // A copy that came from another node suspended: here it becomes another VE than its model.
  if (derived && derived.moved !== true) await personalise(context, reload(context.store, uuid));
  context.events.emit('ve.resumed', { ve: uuid, data: { name: ve.name } });
}

/** For how long after a resume was asked for processes enter groups, in milliseconds, at least. */
const EXPECTED = 500;

/** Whether a VE that has come back works. @throws VeldError `restore.unhealthy` */
export type Proof = (context: VeContext, ve: VeRecord, init: ProcessId) => Promise<void>;

/**
 * The same as a part of another operation.
 * @param how `prove`: how it is seen to work; `part`: the operation may still be undone when it runs; `paused`: its network has been
 *   let in all the time, and its record says that it runs; `track`: id of the snapshot that its memory is of, for the kernel to note what changes; `gate`: asked when all
 *   of it is there and nothing runs yet: it runs when this resolves, which also lets it into the network
 */
export async function bringBack(context: VeContext, uuid: string, task: Task, { prove = proveHealth, part = false, paused = false, track, gate }: { prove?: Proof; part?: boolean; paused?: boolean; track?: string; gate?: () => Promise<void> } = {}): Promise<void> {
  const { settings, resources, network, states } = context;
  const ve = reload(context.store, uuid);
  const folder = runFolder(settings, ve.number);
  let init: ProcessId | undefined;
  let manifest: Manifest | undefined;
  let hold = async (): Promise<void> => {};
  if (paused) keepRoom(context, ve, task);
  else askRoom(context, ve, task);
  try {
    network.ready(ve);
    task.progress(60, 'preparing');
    resources.create(ve.number, ve.uidBase, resolveProperties(ve.properties), true);
    hold = await liftDisk(context, ve);
    manifest = states.manifest(uuid);
    await prepareRun(context, ve, baselineOfState(manifest));
    // One that is only away for a moment comes back into its own groups; a copy begins with nothing.
    if (!paused && (!manifest.derived || manifest.derived.moved === true)) putPast(context, ve, manifest.beancounters ?? {});
    await writeRestoreFiles(context, ve, states.folder(uuid), manifest, track !== undefined && hasSoftDirty() ? track : '');
    for (const name of ['stopping', 'hold', 'gate', 'at-gate', 'go'] as const) mark(settings, ve.number, name, false);
    faultPoint('resume.folder');
    task.progress(70, 'bringing its processes back');
    if (!part) task.commit(); // nobody can call it back from here on
    const shut = gate && shutGate(folder, gate);
    const supervision = superviseCriu(context, ve);
    const opening = paused ? whenOpened(folder, () => network.release(ve)) : undefined;
    // Neither is left alone when the other fails.
    const [boot, admitted] = await Promise.allSettled([run(join(settings.libexecDir, 'veld-boot'), [folder], { allow: [1] }), paused || gate ? undefined : network.admit(ve)]);
    supervision.close();
    shut?.close();
    opening?.close();
    await hold();
    for (const result of [boot, admitted]) if (result.status === 'rejected') throw result.reason;
    const { code, stdout } = (boot as PromiseFulfilledResult<RunResult>).value;
    ({ init } = readRunState(settings, ve.number));
    if (code !== 0 || !init) throw toVeldError(shut?.failure() ?? restoreFailed(context, ve, stdout, supervision.ended() > 0));
  } catch (error) {
    network.release(ve);
    init = await cleanUpTorso(context, ve);
    if (!init) throw error;
    context.log.error({ ve: uuid, name: ve.name, err: error }, 'the VE has come back, but not all about it: it may have no console until its next boot');
  }
  // Its processes run, and change its disk: the state is of the past.
  const running = paused ? ve : finishResume(context, reload(context.store, uuid));
  task.progress(90, 'proving that it works');
  await afterRestore(context, running, init, prove, manifest);
}

/** Have something done as soon as libexec/veld-criu-hook has said that the VE's network is open, and routes lead there. */
export function whenOpened(folder: string, work: () => void): FSWatcher {
  const watcher = watch(folder, (_event, name) => {
    if (name !== 'opened' || statSync(join(folder, 'opened'), { throwIfNoEntry: false })?.size === 0) return;
    watcher.close();
    work();
  });
  return watcher;
}

/** The VE runs again. Recovery calls it too. @returns its record */
export function finishResume(context: VeContext, ve: VeRecord): VeRecord {
  return updateVe(context.store, ve.uuid, { desired: 'running', suspended: null, notStarted: null });
}

/** The same, and then nothing is let through any more: one that is full, of open files or else, must be able to show that it works. */
async function afterRestore(context: VeContext, ve: VeRecord, init: ProcessId, prove: Proof, manifest?: Manifest): Promise<void> {
  try {
    await mendAndProve(context, ve, init, prove, manifest);
  } finally {
    holdAgain(context, ve);
  }
}

/** What criu does not bring back as it was, and what has changed meanwhile; then the proof that the VE works. */
async function mendAndProve(context: VeContext, ve: VeRecord, init: ProcessId, prove: Proof, manifest?: Manifest): Promise<void> {
  await context.states.remove(ve.uuid);
  const properties = resolveProperties(ve.properties);
  // Limits of cpusets come back wider, and files that were the VE's as the host's.
  context.resources.create(ve.number, ve.uidBase, properties, true);
  await applyPtys(init, properties);
  if (ve.guestDirty) {
    await updateGuestFiles(context, ve, properties, init);
    // What it is told of the processor changes when it boots.
    updateVe(context.store, ve.uuid, { guestDirty: (bootedBaseline(context.settings, ve.number) === null) !== (properties['cpu.baseline'] === 'host') });
  }
  const unheld = unheldIn(context.settings, ve.number);
  if (unheld !== undefined) context.log.warn({ ve: ve.uuid, name: ve.name, unheld }, 'limits that a VE has set for groups of its own are not held on this host, which has the controllers on cgroup v1');
  const folder = runFolder(context.settings, ve.number);
  // None is left alone when another fails.
  const results = await Promise.allSettled([run('flock', [join(folder, 'opening'), 'test', '-s', join(folder, 'opened')], { allow: true }), silentAddresses(context, ve, manifest), prove(context, ve, init)]);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  const [opened, silent] = results.map((result) => (result as PromiseFulfilledResult<unknown>).value) as [RunResult, string[]];
  context.network.release(ve); // whatever became of the watch
  if (opened.code !== 0) throw new VeldError('restore.unhealthy', `${ve.name} is back, but its network could not be opened again.`);
  if (silent.length > 0) throw new VeldError('restore.unhealthy', `${ve.name} is back, but its network does not answer: nobody has ${silent.join(', ')} any more.`);
}

/** How long the VE's kernel gets for answering for its addresses, in milliseconds. */
const ANSWER = 2000;

/** Addresses of the VE for which nobody answers, and somebody did before the dump: a VE may be such that nobody does. */
async function silentAddresses({ network }: VeContext, ve: VeRecord, { answering = [], derived }: Partial<Manifest> = {}): Promise<string[]> {
  if (answering.length === 0) return [];
  const expected = network.plan(ve).links.flatMap(({ setup, addresses }) => (setup === 'host' ? addresses.map((address) => address.split('/')[0]!) : [])).filter((address) => isIPv4(address) && ((derived && derived.moved !== true) || answering.includes(address)));
  const found = await network.answering(ve, ANSWER);
  return expected.filter((address) => !found.includes(address));
}

function restoreFailed({ settings, log }: VeContext, ve: VeRecord, sync: string, stalled: boolean): VeldError {
  const read = (name: string): string => (readIfExists(join(runFolder(settings, ve.number), name)) ?? '').trim();
  const [monitor, criu] = [read('conmon.log').slice(-2000), read('restore.log')];
  // The first one is the cause.
  const errors = stalled ? [`criu did nothing for ${settings.checkpoint.stallTimeout} s, and was ended`] : criuErrors(criu);
  log.warn({ ve: ve.uuid, name: ve.name, errors, sync, monitor, criu: criu.slice(0, 4000) }, 'criu could not restore a VE');
  return new VeldError('restore.failed', `${ve.name} could not be brought back, and stays suspended: ${errors[0] ?? ([sync.trim(), monitor.split('\n').at(-1)].find(Boolean) ?? 'criu said nothing')}.`, { details: { criu: errors.slice(0, 20) } });
}
