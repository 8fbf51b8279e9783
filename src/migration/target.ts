/** The side to which a VE comes. Until it is granted, and written down here, nothing of it runs, and whatever there is of it goes with the connection. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { putManifest, readReceived } from '../checkpoint/received.ts';
import type { StateFolder } from '../checkpoint/types.ts';
import type { Task } from '../ops/types.ts';
import type { LayerRef, OperationRecord, VeRecord } from '../store/types.ts';
import { bringUserQuotas } from '../ve/disk.ts';
import { reload, updateVe, type VeContext } from '../ve/context.ts';
import { forgetRecord, insertNew } from '../ve/create.ts';
import { removeVe } from '../ve/destroy.ts';
import { bringCopy } from '../ve/arrive-copy.ts';
import { dropUnusedLayers } from '../ve/layers.ts';
import { bringBack } from '../ve/resume.ts';
import { unheldIn } from '../ve/run-folder.ts';
import { isId } from './forms.ts';
import { PATIENCE, type FrameStream } from './frames.ts';
import { mayTake, targetAnswer } from './handover.ts';
import { ZSTD } from './packing.ts';
import { checkOffer } from './preflight.ts';
import { refuse } from './refusal.ts';
import { MemoryReceived } from './memory-received.ts';
import { receiveSnapshots } from './snapshots-here.ts';
import { MORE, receiveDisk, receiveLayer, receiveTemplate } from './trees-here.ts';
import type { Accept, Answer, Arrived, Ask, Grant, Kind, Offer, Peer } from './types.ts';

/** VEs that one node may be bringing at a time, and connections for it that it may have open for that, and for questions. */
const SESSIONS = 8;
const STREAMS = 32;

/** How long one who does not say what it wants is waited for, and one whose connection is not wanted, in milliseconds. */
const FIRST = 30_000;
const UNWANTED = 1000;
/** And one who does not say whether it gives a VE that is ready: it stands meanwhile. */
const GRANTING = 60_000;

/** A migration that is under way here. */
interface Session {
  /** Id of the node. */
  node: string;
  ve: string;
  epoch: number;
  link: FrameStream;
  /** Settles when nothing of it can happen any more. */
  ended: Promise<unknown>;
}

/** What has become of it, as the result of the operation. */
interface Arrival extends Pick<Arrived, 'number' | 'addresses' | 'trouble' | 'notes'> {
  node: string;
  kind: Kind;
}

export interface Receiver {
  /** Deal with a stream that a paired node has opened; settles at its end, and never rejects. */
  receive(link: FrameStream, peer: Peer): Promise<void>;
}

/** @param begin begins an operation on a VE */
export function createReceiver(context: VeContext, begin: (kind: string, ve: VeRecord, work: (task: Task) => Promise<unknown>) => OperationRecord): Receiver {
  const { store, operations, log } = context;
  /** By the ids of their migrations. */
  const sessions = new Map<string, Session>();
  /** How many connections each node has open. */
  const streams = new Map<string, number>();

  const answer = async (id: unknown, peer: Peer): Promise<Answer['outcome']> => {
    if (!isId(id)) throw new VeldError('migration.stream', 'The other node has asked for what is no migration.');
    for (;;) {
      const owned = store.listHandovers().some((one) => one.id === id && one.role === 'target' && one.node === peer.id);
      // Of what another node does nobody hears, nor can anybody end it.
      const known = sessions.get(id);
      const session = known?.node === peer.id ? known : undefined;
      const { outcome, endSession } = targetAnswer(owned ? 'owned' : 'none', session !== undefined);
      if (!endSession) return outcome;
      session?.link.close();
      await session?.ended; // it may have taken it just before
    }
  };

  /** Whoever offers a VE anew has given up what it had begun with it, also where nothing was heard of that: a link may be dead for long before that is seen. */
  const giveUpEarlier = async ({ id, ve, epoch, dryRun }: Offer, peer: Peer): Promise<void> => {
    for (const [earlier, session] of dryRun ? [] : [...sessions]) {
      if (earlier === id || session.node !== peer.id || session.ve !== ve?.uuid || !(epoch >= session.epoch)) continue;
      session.link.close();
      await session.ended; // it may have taken it just before
    }
  };

  const take = async (link: FrameStream, offer: Offer, peer: Peer): Promise<void> => {
    await giveUpEarlier(offer, peer);
    const { ve, template, notes } = checkOffer(context, offer);
    const accept: Accept = { type: 'accept', template, notes, compress: offer.compress?.includes(ZSTD) ? ZSTD : null };
    if (offer.dryRun) return link.send(accept);
    if ([...sessions.values()].filter(({ node }) => node === peer.id).length >= SESSIONS) {
      throw new VeldError('daemon.overloaded', `That node takes ${SESSIONS} VEs at a time from this one.`, { hint: 'Wait until some of them are there, then try again.' });
    }
    if (sessions.has(offer.id) || store.listHandovers().some(({ id }) => id === offer.id)) throw new VeldError('migration.stream', 'The other node has used the number of a migration twice.');
    insertNew(store, ve);
    let operation: OperationRecord;
    try {
      operation = begin('migrate-in', ve, (task) => arrive(context, link, offer, accept, ve, peer, task));
    } catch (error) {
      forgetRecord(context, ve.uuid);
      throw error;
    }
    const ended = operations.wait(operation.id);
    sessions.set(offer.id, { node: peer.id, ve: ve.uuid, epoch: offer.epoch, link, ended });
    const { error, result } = await ended.finally(() => sessions.delete(offer.id));
    if (link.failure) return;
    if (error) return link.send(refuse(new VeldError('migration.refused', error.message, { hint: error.hint })));
    // Not before it is free for what whoever hears of it wants next.
    const there = result as Arrival;
    link.send({ type: 'arrived', number: there.number, addresses: there.addresses, trouble: there.trouble, notes: there.notes } as Arrived);
  };

  return {
    async receive(link, peer) {
      const open = (streams.get(peer.id) ?? 0) + 1;
      if (open > STREAMS) {
        link.send(refuse(new VeldError('daemon.overloaded', `That node has ${STREAMS} connections of this one open for migrations already.`)));
        return link.finish(UNWANTED);
      }
      streams.set(peer.id, open);
      try {
        link.hurry(FIRST);
        const first = await link.receive<Offer | Ask>('offer', 'ask');
        link.hurry(PATIENCE.idle);
        if (first.type === 'ask') link.send({ type: 'answer', outcome: await answer(first.id, peer) } as Answer);
        else await take(link, first, peer);
      } catch (error) {
        log.info({ node: peer.name, err: error }, 'a VE was not taken from another node');
        if (!link.failure) link.send(refuse(error));
      } finally {
        await link.finish();
        const left = streams.get(peer.id)! - 1;
        if (left > 0) streams.set(peer.id, left);
        else streams.delete(peer.id);
      }
    },
  };
}

async function arrive(context: VeContext, link: FrameStream, offer: Offer, accept: Accept, reserved: VeRecord, peer: Peer, task: Task): Promise<Arrival> {
  const { store, network, events, settings } = context;
  const { uuid } = reserved;
  const incoming = join(settings.stateDir, 'incoming', offer.id);
  const earlier = join(incoming, 'snapshots');
  const made: LayerRef[] = [];
  task.undo('layers', () => dropUnusedLayers(context, made));
  task.undo('ve', () => (store.veByUuid(uuid) ? removeVe(context, reload(store, uuid)) : undefined));
  task.undo('incoming', () => rm(incoming, { recursive: true, force: true }));
  task.phase('arrive', { kind: offer.kind });
  task.progress(2, `coming from ${peer.name}`);
  let taken = false;
  /** The one moment in which it becomes ours. */
  const own = async (state: Partial<VeRecord>): Promise<void> => {
    link.send({ type: 'prepared' });
    link.hurry(GRANTING);
    faultPoint('migrate-in.prepared');
    const grant = await link.receive<Grant>('grant');
    faultPoint('migrate-in.grant');
    if (!mayTake(grant.type === 'grant', link.failure === undefined)) throw new VeldError('migration.link', 'The connection to the other node broke.');
    if (!offer.copy) network.accounting.bring(reserved, grant.traffic);
    store.transaction(() => {
      if (!offer.copy) store.setHandover({ id: offer.id, role: 'target', ve: uuid, node: peer.id, epoch: offer.epoch, kind: offer.kind, at: new Date().toISOString() });
      updateVe(store, uuid, { ready: true, ...state });
    });
    taken = true;
    task.commit();
    faultPoint('migrate-in.owned');
    link.send({ type: 'owned' });
  };
  let trouble: string | null = null;
  try {
    link.send(accept);
    if (accept.compress) link.compress();
    const template = accept.template ? await receiveTemplate(context, link, offer, task) : store.findTemplate(offer.ve.template);
    if (!template) throw new VeldError('template.not_found', 'The template was deleted meanwhile.');
    for (const { uidBase } of [...offer.layers, ...offer.snapshotLayers]) made.push(await receiveLayer(context, link, uidBase, offer.disk, task));
    updateVe(store, uuid, { layers: [...template.layers, ...made.slice(0, offer.layers.length)] });
    await receiveSnapshots(context, link, offer, reserved, { folder: earlier, layers: template.layers, own: [...made], more: MORE }, task);
    const memory = offer.kind === 'stopped' ? undefined : new MemoryReceived(join(incoming, 'processes'), 2 * offer.needs!.memory + MORE, earlier);
    const { synced } = await receiveDisk(context, link, offer, reload(store, uuid), made, offer.kind === 'running' ? memory : undefined, task);
    bringUserQuotas(context, reload(store, uuid), offer.quotas);
    const state = memory && await checkState(offer, await memory.takeState(link));
    const ve = reload(store, uuid);
    if (state && !offer.copy) context.states.derive(state, ve, { closeTcp: false, moved: true, flush: offer.kind === 'suspended' });
    const suspended = state ? { at: new Date().toISOString(), engine: offer.needs!.engine } : null;
    updateVe(store, uuid, { suspended });
    if (offer.copy) {
      await bringCopy(context, reload(store, uuid), state, offer.kind === 'running', task);
      await own({});
    } else if (offer.kind === 'running') {
      await bringBack(context, uuid, task, {
        part: true,
        gate: async () => {
          await synced;
          await own({ desired: 'running' });
          await network.admit(ve);
        },
      });
    } else {
      await synced;
      await own({ suspended });
    }
  } catch (error) {
    if (!taken) throw error;
    trouble = (error as Error).message;
    context.log.error({ ve: uuid, name: reserved.name, err: error }, 'a VE has come from another node, and not all is well');
  }
  const ve = reload(store, uuid);
  faultPoint('migrate-in.arrived');
  if (offer.kind === 'running') void announce(context, ve);
  events.emit(offer.copy ? 've.created' : 've.arrived', { ve: uuid, data: { name: ve.name, number: ve.number, node: peer.name } });
  await rm(incoming, { recursive: true, force: true });
  const unheld = offer.kind === 'running' ? unheldIn(settings, ve.number) : undefined;
  return { node: peer.name, number: ve.number, addresses: ve.addresses, kind: offer.kind, trouble, notes: unheld === undefined ? [] : [`Not held there, because that node has the controllers on cgroup v1: ${unheld}.`] };
}

/** How often, and after what time in milliseconds, the neighbours are told where it is: one word may be lost (RFC 5227, 2.3: two, apart by 2 s). */
const ANNOUNCE = [0, 200, 2000];

async function announce({ network, log }: VeContext, ve: VeRecord): Promise<void> {
  for (const wait of ANNOUNCE) {
    await sleep(wait, undefined, { ref: false });
    try {
      network.announce(ve);
    } catch (error) {
      log.warn({ ve: ve.uuid, err: error }, 'the neighbours could not be told where a VE is now');
    }
  }
}

/** @param dir of a state that has come @throws VeldError `migration.stream` */
async function checkState({ needs, ve }: Offer, dir: string): Promise<StateFolder> {
  const state: StateFolder = { dir, images: join(dir, 'images'), runtime: join(dir, 'runtime'), config: join(dir, 'config.json') };
  const manifest = await readReceived(state);
  if (manifest.ve !== ve.uuid || manifest.engine !== needs!.engine || manifest.uidBase !== ve.uidBase) throw new VeldError('migration.stream', 'The processes that came are not those of the VE that was offered.');
  putManifest(state, manifest);
  return state;
}
