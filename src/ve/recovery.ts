/**
 * What a new daemon does first: it adopts what runs, finishes or rolls back what was under way, and removes what belongs to nobody.
 *
 * The truth is in the kernel (is init alive?) and in the store; the journal says what an earlier daemon was about to do.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { resolveProperties } from '../spec/properties.ts';
import type { JournalRecord, VeRecord } from '../store/types.ts';
import { prepareRun } from './boot.ts';
import { cleanUpRun, cleanUpTorso, settled } from './clean-up.ts';
import { updateVe, type VeContext } from './context.ts';
import { removeVe } from './destroy.ts';
import { holdDisk } from './disk.ts';
import type { ExitWatcher } from './exits.ts';
import { finishResume } from './resume.ts';
import { listRunFolders, makeSharedRunFolders, readRunState, removeRunFolder, runFolder } from './run-folder.ts';
import { mayDump, recoverCheckpoint, removeStrayStates, type UnfinishedCheckpoints } from './recover-checkpoints.ts';
import { dropUnusedLayers } from './layers.ts';
import { follow } from './set.ts';
import { dumpEnded } from './suspend.ts';

/** What is left to do by ordinary operations, once the daemon serves. */
export interface Unfinished extends UnfinishedCheckpoints {
  stop: { ve: VeRecord; force: boolean }[];
  restart: { ve: VeRecord; force: boolean }[];
}

/**
 * Recover. Nothing else runs meanwhile.
 * @param sameBoot false when the host has booted since: nothing under runDir means anything then
 */
export async function recover(context: VeContext, sameBoot: boolean, exits: ExitWatcher): Promise<Unfinished> {
  const { settings, store, log, network, resources } = context;
  // Not `events`: the exit watcher watches that very folder, and what lies in it are empty marks.
  if (!sameBoot) for (const name of ['ves', 'crun', 'exits', 'criu']) rmSync(join(settings.runDir, name), { recursive: true, force: true });
  makeSharedRunFolders(settings);
  const unfinished: Unfinished = { stop: [], restart: [], resume: [], rollBack: [] };
  const journal = new Map(store.listJournal().flatMap((entry) => (entry.ve === null ? [] : [[entry.ve, entry] as const])));

  for (const ve of store.listVes()) {
    try {
      await recoverVe(context, ve, journal.get(ve.uuid), sameBoot, unfinished);
    } catch (error) {
      log.error({ ve: ve.uuid, name: ve.name, err: error }, 'a VE could not be recovered; the next start of the daemon tries again');
      journal.delete(ve.uuid);
      continue;
    }
  }
  for (const entry of store.listJournal()) if (entry.ve === null || journal.has(entry.ve) || !store.veByUuid(entry.ve)) store.clearJournal(entry.operation);

  // Traces of VEs that the store does not know: their records went first, or never came.
  await network.accounting.prune().catch((error: unknown) => log.error({ err: error }, 'counters of VEs that are in no record could not be removed'));
  const known = new Set(store.listVes().map((ve) => ve.number));
  for (const number of new Set([...listRunFolders(settings), ...resources.list()])) {
    if (known.has(number)) continue;
    log.warn({ number }, 'removing what is left of a VE that is in no record');
    await settled(context, number);
    if (resources.list().includes(number)) {
      await resources.kill(number);
      await resources.remove(number);
    }
    removeRunFolder(settings, number);
  }
  await removeOrphans(context);
  await removeStrayStates(context);
  for (const ve of store.listVes()) exits.look(ve.number);
  return unfinished;
}

async function recoverVe(context: VeContext, ve: VeRecord, entry: JournalRecord | undefined, sameBoot: boolean, unfinished: Unfinished): Promise<void> {
  const { settings, log, network, resources, store } = context;
  // A dump that the old daemon began goes on without it, and only its end tells whether the VE runs on.
  if (entry && mayDump(entry)) await dumpEnded(context, ve);
  // A script may still be at work: a boot that the old daemon began, or a reboot.
  await settled(context, ve.number);
  const state = readRunState(settings, ve.number);
  const kind = entry?.kind;
  if (state.init && ve.suspended && !entry) {
    // An operation that was given up in the moment in which the VE came back.
    if (existsSync(join(runFolder(settings, ve.number), 'restore')) && !(await cleanUpTorso(context, ve))) return;
    finishResume(context, ve);
  }
  // After a boot of the host boot.start decides what runs, not what ran.
  if (!sameBoot && ve.desired === 'running' && !resolveProperties(ve.properties)['boot.start']) updateVe(store, ve.uuid, { desired: 'stopped' });

  if (!ve.ready || kind === 'create' || kind === 'destroy') {
    log.info({ ve: ve.uuid, name: ve.name, kind }, 'removing a VE whose creation or destruction was interrupted');
    await removeVe(context, ve);
    return;
  }
  if (kind === 'start') {
    log.info({ ve: ve.uuid, name: ve.name }, 'rolling back an interrupted start');
    await cleanUpRun(context, ve);
    updateVe(store, ve.uuid, { desired: entry?.data.desired === 'running' ? 'running' : 'stopped' });
    return;
  }
  if (kind === 'stop') {
    updateVe(store, ve.uuid, { desired: 'stopped' });
    if (state.init) unfinished.stop.push({ ve, force: entry?.data.force === true });
    else await cleanUpRun(context, ve);
  }
  if (kind === 'restart') {
    unfinished.restart.push({ ve, force: entry?.data.force === true });
    if (!state.init) await cleanUpRun(context, ve);
  }
  if (entry && await recoverCheckpoint(context, ve, entry, state.init, unfinished)) return;
  if (state.init) {
    log.info({ ve: ve.uuid, name: ve.name, pid: state.init.pid }, 'adopted a running VE');
    await network.admit(ve);
    if (kind === 'set' || kind === 'rename') await follow(context, entry?.data.before as VeRecord, ve, state.init, true);
    else resources.apply(ve.number, resolveProperties(ve.properties));
    // They were taken away for a moment, if the old daemon ended just then.
    await holdDisk(context, ve, false).catch((error: unknown) => log.error({ ve: ve.uuid, name: ve.name, err: error }, 'an adopted VE could not be held to the limits of its disk'));
    await renewRun(context, ve);
    return;
  }
  if (kind === 'set' || kind === 'rename') updateVe(store, ve.uuid, { guestDirty: true });
  // A note of its end, or none because whoever should have left it was killed: the exit watcher draws the consequences. Groups without a
  // run folder are what a start left behind that was cut short at its very beginning.
  if (!existsSync(runFolder(settings, ve.number)) && resources.list().includes(ve.number)) await cleanUpRun(context, ve);
}

/**
 * Bring the run folder of an adopted VE up to this daemon, which may be of another version, and lie elsewhere, than the one that booted the VE:
 * commands from now on, and the next boot of its init, use this one's scripts and find the variables that these want.
 */
async function renewRun(context: VeContext, ve: VeRecord): Promise<void> {
  try {
    await prepareRun(context, ve);
  } catch (error) {
    // It runs on with what it has; without an engine there is nothing to write.
    context.log.error({ ve: ve.uuid, name: ve.name, err: error }, 'the run folder of an adopted VE could not be renewed');
  }
}

/** Volumes and layers that no record names, and layers that nothing stands on. */
async function removeOrphans({ store, volumes, settings, log }: VeContext): Promise<void> {
  await dropUnusedLayers({ store, volumes }, store.listLayers());
  const orphans = volumes.orphans({
    volumes: new Set(store.listVes().map((ve) => ve.uuid)),
    layers: new Set(store.listLayers().map((layer) => layer.id)),
  });
  for (const { uuid, layer } of orphans.interrupted) {
    log.warn({ uuid, layer }, 'taking back a layer that a freeze was cut short in making');
    await volumes.unfreezeUpper(uuid, layer);
  }
  for (const uuid of orphans.volumes) {
    log.warn({ uuid }, 'removing a volume without a VE');
    await volumes.destroyVolume(uuid);
  }
  for (const id of orphans.layers) {
    log.warn({ id }, 'removing a layer without a record');
    await volumes.dropLayer(id);
  }
  for (const id of orphans.staged) await volumes.dropStaged(id);
  const logs = join(settings.stateDir, 'logs');
  if (!existsSync(logs)) return;
  for (const name of readdirSync(logs)) if (!store.veByUuid(name.replace(/\.console.*$/, ''))) rmSync(join(logs, name), { force: true });
}
