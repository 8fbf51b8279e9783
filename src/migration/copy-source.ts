/**
 * A copy of a VE for another node. The VE is here whatever happens: it stands only until its state is written, as for a snapshot, and goes on before anything of that is sent. So nobody
 * need ask afterwards whose it is.
 */
import { randomUUID } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import type { SnapshotRecord } from '../store/types.ts';
import { settled } from '../ve/clean-up.ts';
import { reload, type VeContext } from '../ve/context.ts';
import { checkKeepable, createSnapshot, deleteSnapshot } from '../ve/snapshot.ts';
import { sendTree, type DiskTask } from './disk-rounds.ts';
import { checkAccept, readArrived } from './forms.ts';
import { FrameStream, PATIENCE } from './frames.ts';
import { checkDeparture } from './preflight.ts';
import { refusal } from './refusal.ts';
import { mib, offerOf, prepared } from './source.ts';
import { sendState } from './state-files.ts';
import type { Accept, Arrived, MigrateRequest, MigrateResult, Owned, Peers, Refuse } from './types.ts';

/** Make a copy of a VE on another node. @throws VeldError why there is none; `migration.link` also when the connection broke in the moment in which it was to be there */
export async function copyAway(context: VeContext, peers: Peers, uuid: string, request: MigrateRequest, task: Task): Promise<MigrateResult> {
  const began = performance.now();
  const { store, states, volumes } = context;
  await settled(context, reload(store, uuid).number);
  const ve = reload(store, uuid);
  const template = store.findTemplate(ve.template);
  if (!template) throw new VeldError('template.not_found', `The template of ${ve.name} is gone: there is nothing that a copy could stand on elsewhere.`);
  task.progress(1, 'looking whether it can be copied');
  const peer = peers.find(request.node);
  const kind = await checkDeparture(context, ve, true);
  checkKeepable(context, ve, kind !== 'stopped');
  const link = new FrameStream(await peers.open(peer));
  const close = (): void => link.close();
  task.signal.addEventListener('abort', close);
  const rate = request.bandwidth ?? context.settings.migration.bandwidth;
  if (rate !== null) link.limit(rate);
  let snapshot: SnapshotRecord | undefined;
  try {
    const offer = await offerOf(context, ve, template, { snapshots: [], layers: [] }, kind, request.dryRun === true);
    const name = request.as ?? ve.name;
    link.send({ ...offer, copy: true, ve: { ...offer.ve, name } } as typeof offer);
    const reply = await link.receive<Accept | Refuse>('accept', 'refuse');
    if (reply.type === 'refuse') throw refusal(reply);
    const accept = checkAccept(reply);
    if (accept.compress) link.compress();
    const result = { node: peer.name, number: null, kind, copy: name, notes: accept.notes, bytes: 0, uncompressed: 0, took: 0, stood: null, expected: null, memoryRounds: 0, phases: null, trouble: null };
    if (request.dryRun) return result;

    const disk = (what: string, from: number, to: number): DiskTask => ({
      signal: task.signal, progress: (sent, total) => task.progress(from + (to - from) * Math.min(1, sent / Math.max(total, 1)), `${what}: ${mib(sent)} of ${mib(total)}`),
    });
    if (accept.template) await sendTree(link, 'template', volumes.layerPath(template.layers[0]!.id), disk('its template', 2, 20));
    for (const { id } of ve.layers.slice(template.layers.length)) await sendTree(link, 'layer', volumes.layerPath(id), disk('its layers', 20, 35));
    // The name is that of snapshots on which clones stand: a daemon that finds one of another removes it.
    snapshot = await createSnapshot(context, uuid, `clone-${randomUUID()}`, kind !== 'stopped', whole(task));
    faultPoint('migrate.kept');
    task.signal.throwIfAborted();
    const top = snapshot.layers.at(-1)!;
    if (top.uidBase !== offer.diskBase) throw new VeldError('internal', `The disk of ${ve.name} has other owners than it had.`);
    await sendTree(link, 'round', volumes.layerPath(top.id), disk('its disk', 40, 70));
    if (snapshot.engine !== null) await sendState(link, states.snapshot(snapshot.id).dir, (sent, total) => disk('its processes', 70, 95).progress(sent, total, 1));
    await prepared(link);
    task.commit();
    link.send({ type: 'grant' });
    link.hurry(PATIENCE.dead);
    const owned = await link.receive<Owned | Refuse>('owned', 'refuse').catch((error: unknown) => {
      throw new VeldError('migration.link', `The connection to ${peer.name} broke in the moment in which it had all of the copy: ${name} may be there, or not. ${ve.name} is as it was.`, { hint: 'Look there: `veld list`.', cause: error });
    });
    if (owned.type === 'refuse') throw refusal(owned);
    link.hurry(PATIENCE.idle);
    const arrived = await link.receive<Arrived>('arrived').then(readArrived).catch((error: unknown) => ({ number: 0, trouble: `It was not heard of again: ${(error as Error).message}` }));
    context.events.emit('ve.copied', { ve: uuid, data: { name: ve.name, copy: name, node: peer.name } });
    return { ...result, number: arrived.number || null, bytes: link.sent, uncompressed: link.given, took: performance.now() - began, trouble: arrived.trouble };
  } finally {
    task.signal.removeEventListener('abort', close);
    link.close();
    if (snapshot) await deleteSnapshot(context, snapshot);
  }
}

/** The task of a part that is done as a whole, and after which a cancel may come all the same: the VE goes on by then. */
function whole(task: Task): Task {
  return { id: task.id, signal: new AbortController().signal, progress: (percent, message) => task.progress(35 + percent / 20, message), undo() {}, phase: (phase, data) => task.phase(phase, data), commit() {} };
}
