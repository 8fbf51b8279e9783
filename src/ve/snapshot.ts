/**
 * Snapshots: a VE as it was at one instant. Its upper becomes a read-only layer by a rename, and gets a new, empty one on top: nothing is copied, however
 * large the disk is. Of a running VE the processes are kept, too: they are suspended for that moment, unless that can be had for less (standing-snapshot.ts).
 */
import { randomBytes } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import type { SnapshotRecord, VeRecord } from '../store/types.ts';
import { cleanUpRun, settled } from './clean-up.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { dropUnusedLayers } from './layers.ts';
import { bringBack } from './resume.ts';
import { askRoom, keepRoom } from './room.ts';
import { readRunState } from './run-folder.ts';
import { canStand, snapshotStanding } from './standing-snapshot.ts';
import { checkSuspendable, goOn, pause, paused } from './suspend.ts';

/** Layers of a disk: their names are to fit into a page of mount options. */
const MAX_LAYERS = 40;

/** @throws VeldError `name.invalid` */
export function checkSnapshotWord(name: string): void {
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/i.test(name)) {
    throw new VeldError('name.invalid', `${JSON.stringify(name.slice(0, 80))} cannot be the name of a snapshot.`, { hint: 'A name is 1 to 63 letters, digits, dots, dashes and underscores, and begins with a letter or digit.' });
  }
}

/** @throws VeldError `name.invalid`, `snapshot.name_taken` */
export function checkSnapshotName({ store }: VeContext, ve: VeRecord, name: string): void {
  checkSnapshotWord(name);
  if (store.listSnapshots(ve.uuid).some((other) => other.name === name)) throw new VeldError('snapshot.name_taken', `${ve.name} has a snapshot named ${name} already.`);
}

/** @throws VeldError `snapshot.not_found` */
export function findSnapshot({ store }: VeContext, ve: VeRecord, name: string): SnapshotRecord {
  const found = store.listSnapshots(ve.uuid).find((snapshot) => snapshot.name === name || snapshot.id === name);
  if (!found) throw new VeldError('snapshot.not_found', `${ve.name} has no snapshot ${JSON.stringify(name.slice(0, 80))}.`);
  return found;
}

/** Refuse what cannot be kept now. @param live whether its processes are to be kept */
export function checkKeepable(context: VeContext, ve: VeRecord, live: boolean): void {
  if (ve.layers.length >= MAX_LAYERS) {
    throw new VeldError('storage.failed', `${ve.name} stands on ${ve.layers.length} layers, and more are not taken.`, { hint: 'Each snapshot and clone has added one. Roll back to an earlier snapshot, or copy its files into a new VE.' });
  }
  const running = readRunState(context.settings, ve.number).init !== undefined;
  if (running && !live) throw new VeldError('ve.running', `${ve.name} is running: its files are being written.`, { hint: 'With --live its processes are kept, too; or stop it first.' });
  if (running) checkSuspendable(context, ve);
  else if (live && !ve.suspended) throw new VeldError('ve.not_running', `${ve.name} is not running: there are no processes to keep.`, { hint: 'Leave --live out.' });
}

/**
 * Make a snapshot. A VE that ran runs on after a pause.
 * @param lasting it is to stay: the next one may stand on it
 */
export async function createSnapshot(context: VeContext, uuid: string, name: string, live: boolean, task: Task, lasting = false, description = ''): Promise<SnapshotRecord> {
  await settled(context, reload(context.store, uuid).number);
  const before = reload(context.store, uuid);
  checkSnapshotName(context, before, name);
  checkKeepable(context, before, live);
  const running = readRunState(context.settings, before.number).init !== undefined;
  if (running && await canStand(context, before)) {
    const made = await snapshotStanding(context, before, { name, description, parent: lasting ? headOf(context, before) : null }, lasting, task);
    if (made) {
      if (lasting) setHead(context, uuid, made.id);
      context.events.emit('snapshot.created', { ve: uuid, data: { name, live } });
      return made;
    }
  }
  const away = running ? await pause(context, before, task, `A snapshot of ${before.name} is being taken.`) : undefined;
  if (!away) {
    task.phase('keep');
    task.commit();
  }
  const id = randomBytes(16).toString('hex');
  let snapshot: SnapshotRecord;
  try {
    try {
      if (away) await paused(context, before, away);
      snapshot = await keep(context, uuid, { id, name, description, parent: lasting ? headOf(context, before) : null, live: away !== undefined || before.suspended !== null });
    } finally {
      // Whatever became of the snapshot.
      if (away) await goOn(context, uuid, task, lasting ? id : undefined);
    }
    if (away) await context.states.secure(context.states.snapshot(id)); // not while the VE stands
    context.store.insertSnapshot(snapshot);
    if (lasting) setHead(context, uuid, id);
  } catch (error) {
    await context.states.removeSnapshot(id);
    throw error;
  } finally {
    void away?.done().catch(() => {}); // nobody need wait for it
  }
  context.events.emit('snapshot.created', { ve: uuid, data: { name, live } });
  return snapshot;
}

/** Keep a VE at rest, and its processes where there is a state of them. @returns the record, which is not in the store yet */
async function keep(context: VeContext, uuid: string, { id, live, ...told }: { id: string; name: string; description: string; parent: string | null; live: boolean }): Promise<SnapshotRecord> {
  const { store, states, volumes } = context;
  const ve = reload(store, uuid);
  const layer = randomBytes(16).toString('hex');
  if (live) states.copy(states.folder(uuid), states.snapshot(id), { flush: states.isSecure(uuid) });
  faultPoint('snapshot.state');
  const frozen = await volumes.freezeUpper(uuid, ve.uidBase, layer);
  const layers = [...ve.layers, { id: layer, uidBase: frozen.uidBase }];
  store.transaction(() => {
    store.insertLayer(frozen);
    updateVe(store, uuid, { layers });
  });
  return { id, ve: uuid, ...told, createdAt: new Date().toISOString(), layers, properties: ve.properties, engine: live ? states.manifest(uuid).engine : null };
}

/** The snapshot that a VE was made, or brought back to, last: the next one comes after it. */
export function headOf({ store }: Pick<VeContext, 'store'>, ve: Pick<VeRecord, 'uuid'>): string | null {
  const snapshots = store.listSnapshots(ve.uuid);
  const head = store.getMeta<string>(HEAD + ve.uuid);
  return snapshots.find(({ id }) => id === head)?.id ?? snapshots.at(-1)?.id ?? null;
}

const HEAD = 'snapshot.head.';

function setHead({ store }: VeContext, uuid: string, id: string | undefined): void {
  store.setMeta(HEAD + uuid, id);
}

/** A VE that is gone has none. */
export function forgetHead(context: VeContext, uuid: string): void {
  setHead(context, uuid, undefined);
}

/** Remove a snapshot, and what only it has kept. The VE is not touched. */
export async function deleteSnapshot(context: VeContext, snapshot: SnapshotRecord): Promise<void> {
  if (context.store.getMeta(HEAD + snapshot.ve) === snapshot.id) setHead(context, snapshot.ve, snapshot.parent ?? undefined);
  context.store.deleteSnapshot(snapshot.id);
  await context.states.removeSnapshot(snapshot.id);
  await dropUnusedLayers(context, snapshot.layers);
  context.events.emit('snapshot.deleted', { ve: snapshot.ve, data: { name: snapshot.name } });
}

/** Make a VE what it was: what it is now is lost. Its properties stay. Once begun it is always finished, by the next daemon if need be. @param begun by an earlier daemon */
export async function rollBack(context: VeContext, uuid: string, snapshot: SnapshotRecord, task: Task, begun = false): Promise<void> {
  const { store, states, volumes } = context;
  const ve = reload(store, uuid);
  await settled(context, ve.number);
  // One that runs gives its room to what it was. (Once begun it is finished, whoever has come meanwhile.)
  if (snapshot.engine !== null) (begun || readRunState(context.settings, ve.number).init ? keepRoom : askRoom)(context, ve, task);
  task.phase('roll-back', { snapshot: snapshot.id });
  task.commit();
  task.progress(10, 'ending what runs');
  await cleanUpRun(context, ve);
  await states.remove(uuid);
  task.progress(30, 'bringing the disk back');
  await volumes.resetUpper(uuid);
  faultPoint('roll-back.disk');
  if (snapshot.engine !== null) states.copy(states.snapshot(snapshot.id), states.folder(uuid));
  setHead(context, uuid, snapshot.id);
  updateVe(store, uuid, { layers: snapshot.layers, desired: 'stopped', suspended: snapshot.engine === null ? null : { at: snapshot.createdAt, engine: snapshot.engine } });
  await dropUnusedLayers(context, ve.layers);
  context.events.emit('ve.rolled-back', { ve: uuid, data: { name: ve.name, snapshot: snapshot.name } });
  if (snapshot.engine !== null) await bringBack(context, uuid, task, { track: snapshot.id });
}
