/** VEs that were granted to a node which was lost in that moment: asks it, until it answers, whose they are. */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { Handover, OperationRecord, VeRecord } from '../store/types.ts';
import { reload, updateVe, type VeContext } from '../ve/context.ts';
import { removeVe } from '../ve/destroy.ts';
import { resumeVe } from '../ve/resume.ts';
import { keepRoom } from '../ve/room.ts';
import { readRunState } from '../ve/run-folder.ts';
import { startVe } from '../ve/start.ts';
import { FrameStream } from './frames.ts';
import { sourceAfterAnswer } from './handover.ts';
import type { Answer, Peers } from './types.ts';

/** Waiting time between two questions, in milliseconds: doubled each time. */
const FIRST = 250, LONGEST = 15_000;

/**
 * Ask what has become of a handover.
 * @param limit milliseconds; null: until it answers, or `signal` says stop
 * @returns undefined when there was no answer in that time
 */
export async function askOutcome(peers: Peers, { id, node }: Handover, limit: number | null, signal?: AbortSignal): Promise<Answer['outcome'] | undefined> {
  const end = limit === null ? Infinity : performance.now() + limit;
  const stopped = (): boolean => signal?.aborted === true;
  for (let wait = FIRST; performance.now() < end && !stopped(); wait = Math.min(LONGEST, wait * 2)) {
    const outcome = await ask(peers, node, id).catch(() => undefined);
    if (outcome) return outcome;
    await sleep(Math.min(wait + randomInt(wait), Math.max(0, end - performance.now())), undefined, { ref: false, ...signal && { signal } }).catch(() => {});
  }
  return undefined;
}

async function ask(peers: Peers, node: string, id: string): Promise<Answer['outcome']> {
  const link = new FrameStream(await peers.open(peers.find(node)));
  try {
    link.send({ type: 'ask', id } as { type: 'ask' });
    const { outcome } = await link.receive<Answer>('answer');
    if (outcome !== 'owned' && outcome !== 'nothing') throw new VeldError('migration.stream', 'The other node has answered with what is no answer.');
    return outcome;
  } finally {
    link.close();
  }
}

/** It is the other node's: nothing of it stays here. May be repeated. */
export async function departed(context: VeContext, ve: VeRecord, id: string): Promise<void> {
  faultPoint('migrate.departed');
  if (context.store.veByUuid(ve.uuid)) {
    await context.network.sendOn(ve);
    updateVe(context.store, ve.uuid, { ready: false, desired: 'stopped' });
    await removeVe(context, ve);
  }
  context.store.deleteHandover(id, 'source');
}

/** It is ours after all: it goes on as what it was. */
export async function takeBack(context: VeContext, { id, ve, kind }: Handover, task: Task): Promise<void> {
  context.store.deleteHandover(id, 'source');
  if (kind !== 'running') return;
  const record = reload(context.store, ve);
  const { suspended, number, properties } = record;
  if (suspended) {
    keepRoom(context, record, task); // it ran here
    await resumeVe(context, ve, task);
  }
  // Its memory went with the power of this host, and when that booted it was not known whether it may start.
  else if (!readRunState(context.settings, number).init && resolveProperties(properties)['boot.start']) await startVe(context, ve, task);
}

export interface Settler {
  /** Go on asking for all that is undecided. */
  look(): void;
  close(): void;
}

/** Make what asks. @param begin begins an operation on a VE */
export function createSettler(context: VeContext, peers: Peers, begin: (kind: string, ve: VeRecord, work: (task: Task) => Promise<unknown>) => OperationRecord): Settler {
  const { store, log, operations } = context;
  const asking = new Set<string>();
  const closing = new AbortController();

  const settle = async (handover: Handover): Promise<void> => {
    log.warn({ ve: handover.ve, node: handover.node, migration: handover.id }, 'it is not known whose a VE is: asking');
    const outcome = await askOutcome(peers, handover, null, closing.signal);
    const ve = store.veByUuid(handover.ve);
    if (!outcome || closing.signal.aborted || !store.listHandovers().some(({ id, role }) => id === handover.id && role === 'source')) return;
    log.info({ ve: handover.ve, node: handover.node, migration: handover.id, outcome }, 'it is known whose a VE is');
    if (!ve) return store.deleteHandover(handover.id, 'source');
    while (operations.isBusy(ve.uuid)) await operations.whenFree(ve.uuid);
    const { id } = begin('migrate-settle', ve, (task) => (sourceAfterAnswer(outcome) === 'gone' ? departed(context, ve, handover.id) : takeBack(context, handover, task)));
    await operations.wait(id);
  };

  return {
    look() {
      for (const handover of store.listHandovers()) {
        if (handover.role !== 'source' || asking.has(handover.id)) continue;
        asking.add(handover.id);
        void settle(handover).catch((error: unknown) => log.error({ ve: handover.ve, err: error }, 'a VE could not be settled')).finally(() => asking.delete(handover.id));
      }
    },
    close: () => closing.abort(),
  };
}
