/** The side that a VE leaves. Until it is granted everything can be undone here, and the VE runs on where it was. */
import { randomBytes } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import type { Handover, TemplateRecord, VeRecord } from '../store/types.ts';
import { settled } from '../ve/clean-up.ts';
import { reload, updateVe, type VeContext } from '../ve/context.ts';
import { finishSuspend, goOn, pause, paused, type Paused } from '../ve/suspend.ts';
import { prepareLastRound, sendLastRound, sendRounds, sendTree, upperOf, type DiskTask } from './disk-rounds.ts';
import { checkAccept, readArrived } from './forms.ts';
import { FrameStream, PATIENCE } from './frames.ts';
import { ZSTD } from './packing.ts';
import { checkDeparture, needsOf } from './preflight.ts';
import { refusal } from './refusal.ts';
import { sendState } from './state-files.ts';
import { askOutcome, departed } from './settle.ts';
import { PROTOCOL, type Accept, type Answer, type Arrived, type Kind, type MigrateRequest, type MigrateResult, type Offer, type Owned, type Peer, type Peers, type Prepared, type Refuse } from './types.ts';

/** How long the target is asked, within the operation, what has become of a VE that was granted; milliseconds. */
const ASKED = 20_000;

/** How long a VE that stands is let wait for a target that says nothing but that it lives, in milliseconds, and how much longer for each MiB of its memory. */
const STANDING = 60_000;
const STANDING_MIB = 20;

/** Move a VE to another node. @throws VeldError why it stays here; `migration.undecided` when it is not known whose it is */
export async function migrateAway(context: VeContext, peers: Peers, uuid: string, request: MigrateRequest, task: Task): Promise<MigrateResult> {
  const began = performance.now();
  await settled(context, reload(context.store, uuid).number);
  const ve = reload(context.store, uuid);
  const template = context.store.findTemplate(ve.template);
  if (!template) throw new VeldError('template.not_found', `The template of ${ve.name} is gone: there is nothing that it could stand on elsewhere.`);
  task.progress(1, 'looking whether it can go');
  const peer = peers.find(request.node);
  const kind = await checkDeparture(context, ve, request.dropSnapshots === true);
  const link = new FrameStream(await peers.open(peer));
  const rate = request.bandwidth ?? context.settings.migration.bandwidth;
  if (rate !== null) link.limit(rate);
  try {
    const offer = await offerOf(context, ve, template, kind, request.dryRun === true);
    link.send(offer);
    const reply = await link.receive<Accept | Refuse>('accept', 'refuse');
    if (reply.type === 'refuse') throw refusal(reply);
    const accept = checkAccept(reply);
    if (accept.compress) link.compress();
    const result = { node: peer.name, number: null, kind, copy: null, notes: accept.notes, bytes: 0, uncompressed: 0, took: 0, stood: null, trouble: null };
    if (request.dryRun) return result;
    const stood = await carry({ context, peers, link, ve, template, offer, accept, peer, task });
    link.hurry(PATIENCE.idle);
    const arrived = await link.receive<Arrived>('arrived').then(readArrived).catch((error: unknown) => ({ number: 0, trouble: `It was not heard of again: ${(error as Error).message}` }));
    const running = kind === 'running' ? performance.now() - stood : null;
    task.progress(97, 'removing it here');
    await departed(context, ve, offer.id);
    context.events.emit('ve.departed', { ve: uuid, data: { name: ve.name, node: peer.name } });
    return { ...result, number: arrived.number || null, bytes: link.sent, uncompressed: link.given, took: performance.now() - began, stood: running, trouble: arrived.trouble };
  } finally {
    link.close();
  }
}

export async function offerOf(context: VeContext, ve: VeRecord, { layers, ...template }: TemplateRecord, kind: Kind, dryRun: boolean): Promise<Offer> {
  const { store, volumes } = context;
  const own = ve.layers.slice(layers.length);
  const sizes = own.map(({ id }) => store.layer(id)?.size ?? 0);
  const { uuid, name, properties, addresses, mac, uidBase, createdAt } = ve;
  return {
    type: 'offer', protocol: PROTOCOL, id: randomBytes(16).toString('hex'), epoch: epochOf(store.listHandovers(), uuid) + 1, dryRun, kind,
    ve: { uuid, name, template: ve.template, properties, addresses, mac, uidBase, createdAt },
    needs: needsOf(context, ve, kind), template, templateLayers: layers.length, layers: own.map((layer) => ({ uidBase: layer.uidBase })),
    diskBase: upperOf(volumes, ve).base, disk: await volumes.usage(uuid) + sizes.reduce((sum, size) => sum + size, 0), compress: [ZSTD],
  };
}

/** How often the VE has moved, as far as is known here. */
function epochOf(handovers: readonly Handover[], uuid: string): number {
  return handovers.filter(({ ve, role }) => ve === uuid && role === 'target').reduce((most, { epoch }) => Math.max(most, epoch), 0);
}

interface Journey {
  context: VeContext;
  peers: Peers;
  link: FrameStream;
  ve: VeRecord;
  template: TemplateRecord;
  offer: Offer;
  accept: Accept;
  peer: Peer;
  task: Task;
}

/** Everything up to the moment in which it is the other node's. @returns since when it has stood, by performance.now() */
async function carry(journey: Journey): Promise<number> {
  const { context, link, ve, template, offer, accept, task } = journey;
  const { volumes } = context;
  const disk = (what: string, from: number, to: number): DiskTask => ({
    signal: task.signal,
    progress: (sent, total, round) => task.progress(from + (to - from) * Math.min(1, sent / Math.max(total, 1)), `${what}${round > 1 ? `, round ${round}` : ''}: ${mib(sent)} of ${mib(total)}`),
  });
  if (accept.template) await sendTree(link, 'template', volumes.layerPath(template.layers[0]!.id), disk('its template', 2, 20));
  for (const { id } of ve.layers.slice(template.layers.length)) await sendTree(link, 'layer', volumes.layerPath(id), disk('its layers', 20, 35));
  const { path } = upperOf(volumes, ve);
  if (offer.kind !== 'running') {
    await sendTree(link, 'round', path, disk('its disk', 35, 60));
    if (offer.kind === 'suspended') await sendState(link, context.states.folder(ve.uuid).dir, (sent, total) => disk('its processes', 60, 90).progress(sent, total, 1));
    await prepared(link);
    await give(journey, undefined);
    return performance.now();
  }
  const have = await sendRounds(link, path, disk('its disk', 35, 60));
  // Begun now, or the VE would wait for it.
  const last = prepareLastRound(path);
  const stood = performance.now();
  link.hurry(STANDING + STANDING_MIB * (offer.needs!.memory / 2 ** 20));
  let away: Paused | undefined;
  try {
    away = await pause(context, ve, task, `${ve.name} is being moved to another node.`, true);
    // What was its processes cannot do anything any more: nobody waits until the kernel has put them away.
    const dead = paused(context, ve, away);
    dead.catch(() => {}); // whoever waits hears of it
    try {
      faultPoint('migrate.paused');
      // A cancel has come too late from here on: to take it back would take no less than to let it go.
      await sendLastRound(link, have, last);
      await sendState(link, context.states.folder(ve.uuid).dir);
      await dead;
      await prepared(link);
    } catch (error) {
      await dead.catch(() => {});
      await goOn(context, ve.uuid, task);
      throw error;
    }
    await give(journey, away);
    return stood;
  } finally {
    last.cancel();
    void away?.done().catch(() => {}); // nobody need wait for it
  }
}

export async function prepared(link: FrameStream): Promise<void> {
  const reply = await link.receive<Prepared | Refuse>('prepared', 'refuse');
  if (reply.type === 'refuse') throw refusal(reply);
}

/** Grant it, and hear whether it was taken. On return it is the other node's. */
async function give({ context, peers, link, ve, offer, peer, task }: Journey, away: Paused | undefined): Promise<void> {
  const { store, states } = context;
  const handover: Handover = { id: offer.id, role: 'source', ve: ve.uuid, node: peer.id, epoch: offer.epoch, kind: offer.kind, at: new Date().toISOString() };
  store.transaction(() => {
    store.setHandover(handover);
    if (away) updateVe(store, ve.uuid, { suspended: { at: handover.at, engine: states.manifest(ve.uuid).engine } });
  });
  faultPoint('migrate.granted');
  link.send({ type: 'grant' });
  link.hurry(PATIENCE.dead);
  const outcome = await link.receive<Owned | Answer | Refuse>('owned', 'refuse').then(({ type }) => (type === 'owned' ? 'owned' as const : undefined), () => undefined) ?? await askOutcome(peers, handover, ASKED);
  faultPoint('migrate.answered');
  if (outcome === 'owned') return;
  if (outcome === 'nothing') {
    store.transaction(() => {
      store.deleteHandover(handover.id, 'source');
      if (away) updateVe(store, ve.uuid, { suspended: null });
    });
    if (away) await goOn(context, ve.uuid, task);
    throw new VeldError('migration.refused', `${peer.name} did not take ${ve.name} after all: it ${away ? 'runs on' : 'is'} here.`, { hint: `The log of ${peer.name} tells why.` });
  }
  if (away) {
    context.network.release(ve);
    await finishSuspend(context, ve, {});
    await away.done();
  }
  throw new VeldError('migration.undecided', `${peer.name} was about to take ${ve.name} when it was lost: it may run there. Here it stands still, and all of it is kept.`);
}

export function mib(bytes: number): string {
  return `${(bytes / (1 << 20)).toFixed(bytes < 10 << 20 ? 1 : 0)} MiB`;
}
