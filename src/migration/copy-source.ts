/**
 * A copy of a VE for another node. The VE is here whatever happens: it stands only until its state is written, as for a snapshot, and goes on before anything of that is sent. So nobody
 * need ask afterwards whose it is.
 */
import { randomUUID } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import type { SnapshotRecord } from '../store/types.ts';
import type { VeContext } from '../ve/context.ts';
import { treeOf } from '../ve/layers.ts';
import { checkKeepable, createSnapshot, deleteSnapshot } from '../ve/snapshot.ts';
import { agree, depart, noResult, offerOf, prepared } from './departure.ts';
import { mib } from '../lib/mib.ts';
import { sendTree, type DiskTask } from './disk-rounds.ts';
import { readArrived } from './forms.ts';
import { PATIENCE } from './frames.ts';
import { refusal } from './refusal.ts';
import { sendState } from './state-files.ts';
import type { Arrived, MigrateRequest, MigrateResult, Owned, Peers, Refuse } from './types.ts';

/** Make a copy of a VE on another node. @throws VeldError why there is none; `migration.link` also when the connection broke in the moment in which it was to be there */
export async function copyAway(context: VeContext, peers: Peers, uuid: string, request: MigrateRequest, task: Task): Promise<MigrateResult> {
  const began = performance.now();
  const { states, volumes } = context;
  const departure = await depart(context, peers, uuid, request, true, task);
  const { ve, template, peer, kind, link } = departure;
  const close = (): void => link.close();
  task.signal.addEventListener('abort', close);
  let snapshot: SnapshotRecord | undefined;
  try {
    checkKeepable(context, ve, kind !== 'stopped');
    const offer = await offerOf(context, departure, { snapshots: [], layers: [] }, request.dryRun === true);
    const name = request.as ?? ve.name;
    const accept = await agree(link, { ...offer, copy: true, ve: { ...offer.ve, name } });
    const result = { ...noResult(departure, accept), copy: name };
    if (request.dryRun) return result;

    const disk = (what: string, from: number, to: number): DiskTask => ({
      signal: task.signal, progress: (sent, total) => task.progress(from + (to - from) * Math.min(1, sent / Math.max(total, 1)), `${what}: ${mib(sent)} of ${mib(total)}`),
    });
    if (accept.template) await sendTree(link, 'template', treeOf(context, template), disk('its template', 2, 20));
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
    const arrived = await link.receive<Arrived>('arrived').then(readArrived).catch((error: unknown) => ({ number: 0, notes: [], trouble: `It was not heard of again: ${(error as Error).message}` }));
    context.events.emit('ve.copied', { ve: uuid, data: { name: ve.name, copy: name, node: peer.name } });
    return { ...result, notes: [...result.notes, ...arrived.notes], number: arrived.number || null, bytes: link.sent, uncompressed: link.given, took: performance.now() - began, trouble: arrived.trouble };
  } finally {
    task.signal.removeEventListener('abort', close);
    link.close();
    if (snapshot) await deleteSnapshot(context, snapshot);
  }
}

/** The task of a part that is done as a whole, and after which a cancel may come all the same: the VE goes on by then. */
function whole(task: Task): Task {
  return { id: task.id, signal: new AbortController().signal, progress: (percent, message) => task.progress(35 + percent / 20, message), undo() {}, warn: (text) => task.warn(text), phase: (phase, data) => task.phase(phase, data), commit() {} };
}
