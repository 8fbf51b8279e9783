/** The side that a VE leaves. Until it is granted everything can be undone here, and the VE runs on where it was. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PARENT } from '../checkpoint/parent.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import type { Handover, TemplateRecord, VeRecord } from '../store/types.ts';
import { updateVe, type VeContext } from '../ve/context.ts';
import { finishSuspend, goOn, pause, paused, type Paused } from '../ve/suspend.ts';
import { agree, depart, noResult, offerOf, prepared } from './departure.ts';
import { mib } from '../lib/mib.ts';
import { upperOf } from '../ve/disk.ts';
import { treeOf } from '../ve/layers.ts';
import { sendRounds, sendTree, type DiskTask } from './disk-rounds.ts';
import { EarlyImages } from './early-images.ts';
import { readArrived } from './forms.ts';
import { PATIENCE, type FrameStream } from './frames.ts';
import { LastDisk } from './last-disk.ts';
import { MEMORY_ROUNDS, sendMemory, type MemorySent } from './memory-rounds.ts';
import { checkMaxFreeze, expected, learn, Speed } from './prediction.ts';
import { sendSnapshots, snapshotsOf, type Along } from './snapshots-away.ts';
import { sendState, type SentFiles } from './state-files.ts';
import { askOutcome, departed } from './settle.ts';
import type { Accept, Answer, Arrived, Grant, MigrateRequest, MigrateResult, Offer, Owned, Peer, Peers, Refuse, StandingPhases } from './types.ts';

/** How long the target is asked, within the operation, what has become of a VE that was granted; milliseconds. */
const ASKED = 20_000;

/** How long packets wait for a VE of which it is not known whose it is, in milliseconds: as long as TCP waits at most until it asks again. */
const HELD = 120_000;

/** How long a VE that stands is let wait for a target that says nothing but that it lives, in milliseconds, and how much longer for each MiB of its memory. */
const STANDING = 60_000;
const STANDING_MIB = 20;

/** Move a VE to another node. @throws VeldError why it stays here; `migration.undecided` when it is not known whose it is */
export async function migrateAway(context: VeContext, peers: Peers, uuid: string, request: MigrateRequest, task: Task): Promise<MigrateResult> {
  const began = performance.now();
  const alone = request.dropSnapshots === true;
  const departure = await depart(context, peers, uuid, request, alone, task);
  const { ve, template, peer, link } = departure;
  try {
    const along: Along = alone ? { snapshots: [], layers: [] } : await snapshotsOf(context, ve, template);
    const offer = await offerOf(context, departure, along, request.dryRun === true);
    faultPoint('migrate.offer');
    const accept = await agree(link, offer);
    const result = noResult(departure, accept);
    if (request.dryRun) return result;
    const stood = await carry({ context, peers, link, ve, template, along, offer, accept, peer, task, maxFreeze: request.maxFreeze ?? null });
    link.hurry(PATIENCE.idle);
    const arrived = await link.receive<Arrived>('arrived').then(readArrived).catch((error: unknown) => ({ number: 0, notes: [], trouble: `It was not heard of again: ${(error as Error).message}` }));
    const running = stood && performance.now() - stood.since;
    if (stood) learn(stood.speed, stood.left, running!);
    task.progress(97, 'removing it here');
    await departed(context, ve, offer.id);
    context.events.emit('ve.departed', { ve: uuid, data: { name: ve.name, node: peer.name } });
    return { ...result, notes: [...result.notes, ...arrived.notes], number: arrived.number || null, bytes: link.sent, uncompressed: link.given, took: performance.now() - began, stood: running, ...stood && { expected: stood.expected, memoryRounds: stood.memoryRounds, phases: stood.phases }, trouble: arrived.trouble };
  } finally {
    link.close();
  }
}

interface Journey {
  context: VeContext;
  peers: Peers;
  link: FrameStream;
  ve: VeRecord;
  template: TemplateRecord;
  along: Along;
  offer: Offer;
  accept: Accept;
  peer: Peer;
  task: Task;
  maxFreeze: number | null;
}

/** A VE that stands. */
interface Stood {
  /** By performance.now(). */
  since: number;
  /** For how long it was expected to, in milliseconds. */
  expected: number;
  /** Bytes that were sent meanwhile. */
  left: number;
  speed: Speed;
  memoryRounds: number;
  phases: StandingPhases;
}

/** Everything up to the moment in which it is the other node's. */
async function carry(journey: Journey): Promise<Stood | null> {
  const { context, link, ve, template, along, offer, accept, task } = journey;
  const { volumes } = context;
  const disk = (what: string, from: number, to: number): DiskTask => ({
    signal: task.signal,
    progress: (sent, total, round) => task.progress(from + (to - from) * Math.min(1, sent / Math.max(total, 1)), `${what}${round > 1 ? `, round ${round}` : ''}: ${mib(sent)} of ${mib(total)}`),
  });
  if (accept.template) await sendTree(link, 'template', treeOf(context, template), disk('its template', 2, 20));
  for (const { id } of [...ve.layers.slice(template.layers.length), ...along.layers]) await sendTree(link, 'layer', volumes.layerPath(id), disk('its layers', 20, 30));
  const sent = await sendSnapshots(link, context, along.snapshots, (bytes, total) => disk('its snapshots', 30, 35).progress(bytes, total, 1));
  const { path } = upperOf(volumes, ve);
  if (offer.kind !== 'running') {
    await sendTree(link, 'round', path, disk('its disk', 35, 60));
    if (offer.kind === 'suspended') await sendState(link, context.states.folder(ve.uuid).dir, (bytes, total) => disk('its processes', 60, 90).progress(bytes, total, 1), { sent });
    await prepared(link);
    await give(journey, await context.network.accounting.carried(ve), undefined);
    return null;
  }
  const copies = join(context.settings.stateDir, 'outgoing', offer.id);
  task.undo('copies', () => rm(copies, { recursive: true, force: true }));
  try {
    return await carryRunning(journey, path, copies, sent, disk);
  } finally {
    await rm(copies, { recursive: true, force: true });
  }
}

/** @param path its upper @param copies folder for copies of its memory @param sent files of states that have gone */
async function carryRunning(journey: Journey, path: string, copies: string, sent: SentFiles, disk: (what: string, from: number, to: number) => DiskTask): Promise<Stood> {
  const { context, link, ve, offer, task, maxFreeze } = journey;
  const speed = new Speed();
  checkMaxFreeze(ve, expected(speed, 0), maxFreeze, null);
  let have = await speed.measure(link, () => sendRounds(link, path, disk('its disk', 35, 50)));
  const memory = await sendMemory(context, link, ve, copies, {
    task, speed, maxFreeze,
    progress: (bytes, total, round, changing) => task.progress(50 + 8 * Math.min(1, round / MEMORY_ROUNDS), `its memory, round ${round}: ${mib(bytes)} of ${mib(total)}${changing === null ? '' : `, of which ${mib(changing)} change in a second`}`),
  });
  if (memory.rounds > 0) have = await sendRounds(link, path, disk('its disk', 58, 60), have);
  const standing = expected(speed, memory.left);
  checkMaxFreeze(ve, standing, maxFreeze, memory.changing);
  // Begun now, or the VE would wait for it.
  const last = new LastDisk(path, have);
  const before = link.given;
  const { dir } = context.states.folder(ve.uuid);
  const early = new EarlyImages(link, dir, () => last.standing(link));
  const phases: StandingPhases = { dump: 0, disk: 0, state: 0, restore: 0 };
  const took = (phase: keyof StandingPhases): void => {
    phases[phase] = performance.now() - away!.since - Object.values(phases).reduce((sum, one) => sum + one, 0);
  };
  link.hurry(STANDING + STANDING_MIB * (offer.needs!.memory / 2 ** 20));
  const dumping = async (): Promise<void> => {
    await early.end();
    last.begin();
    await early.begin();
  };
  let away: Paused | undefined;
  try {
    away = await pause(context, ve, task, `${ve.name} is being moved to another node.`, { dumping, ...memory.images !== undefined && { memory: memory.images } });
    // What was its processes cannot do anything any more: nobody waits until the kernel has put them away.
    const dead = paused(context, ve, away);
    // Nothing passes any more; beside what is sent, since the VE stands.
    const traffic = context.network.accounting.carried(ve);
    traffic.catch(() => {});
    dead.catch(() => {}); // whoever waits hears of it
    try {
      faultPoint('migrate.paused');
      // A cancel has come too late from here on: to take it back would take no less than to let it go.
      took('dump');
      await early.end();
      await last.finish(link, join(dir, 'images'));
      took('disk');
      faultPoint('migrate.state');
      await sendState(link, dir, undefined, { sent, memory: standsOn(dir, memory), early: early.sent });
      took('state');
      await dead;
      await prepared(link);
      took('restore');
    } catch (error) {
      await dead.catch(() => {});
      await goOn(context, ve.uuid, task);
      throw error;
    }
    await give(journey, await traffic, away);
    return { since: away.since, expected: standing, left: link.given - before, speed, memoryRounds: memory.rounds, phases };
  } finally {
    await early.end().catch(() => {});
    last.cancel();
    void away?.done().catch(() => {}); // nobody need wait for it
  }
}

/** On how many rounds of memory a state stands: criu may have been tried again, and have written all. */
function standsOn(dir: string, { rounds }: MemorySent): number {
  return existsSync(join(dir, 'images', PARENT)) ? rounds : 0;
}

/** Grant it, and hear whether it was taken. On return it is the other node's. @param traffic what it has sent and received */
async function give({ context, peers, link, ve, offer, peer, task }: Journey, traffic: unknown, away: Paused | undefined): Promise<void> {
  const { store, states } = context;
  const handover: Handover = { id: offer.id, role: 'source', ve: ve.uuid, node: peer.id, epoch: offer.epoch, kind: offer.kind, at: new Date().toISOString() };
  store.transaction(() => {
    store.setHandover(handover);
    if (away) updateVe(store, ve.uuid, { suspended: { at: handover.at, engine: states.manifest(ve.uuid).engine } });
  });
  faultPoint('migrate.granted');
  const grant: Grant = { type: 'grant', traffic };
  link.send(grant);
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
    // Whoever has asked it something hears of it at once when that is settled.
    setTimeout(() => { if (store.listHandovers().some(({ id, role }) => id === handover.id && role === 'source')) context.network.release(ve); }, HELD).unref();
    await finishSuspend(context, ve, {});
    await away.done();
  }
  throw new VeldError('migration.undecided', `${peer.name} was about to take ${ve.name} when it was lost: it may run there. Here it stands still, and all of it is kept.`);
}
