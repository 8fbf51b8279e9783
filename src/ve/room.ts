/**
 * Whether there is room on this node for what a VE is promised by its `memory.limit` (`overcommit.memory` of the settings), and by its `memory.guarantee` (never more than there is).
 *
 * Everything by which a VE comes to run goes through bootVe (boot.ts), bringBack (resume.ts) or nameSpare (name-spare.ts), and these ask here: a new verb cannot forget to. A verb that makes or
 * ends something before it gets there asks earlier, too, for its own sake: what an operation was granted once it is not asked for again.
 */
import { totalmem } from 'node:os';
import { VeldError } from '../lib/errors.ts';
import type { OperationManager } from '../ops/operations.ts';
import type { Task } from '../ops/types.ts';
import { judgeGuarantee, judgeMemory, type Verdict } from '../resources/capacity.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { readRunState } from './run-folder.ts';

/** Who is asked about. A VE that is not there yet has no uuid. */
export type Asking = Pick<VeRecord, 'name' | 'properties'> & { uuid?: string };

/** What a VE is promised, in bytes. */
interface Promised {
  /** Null: no limit, which promises nothing that could be counted. */
  limit: number | null;
  guarantee: number;
}

/** What operations under way have been granted, by the UUID of the VE that is to run. */
const granted = new WeakMap<OperationManager, Map<string, Promised>>();

/**
 * Ask for the room that a VE is to have from now on, because it is about to run, or its limit or guarantee grows. It is kept for it until the operation ends; from then on the VE itself tells.
 * @param before its properties until now, where they change: whoever takes less is never in the way
 * @throws VeldError `capacity.exceeded`, where the settings refuse it, or more would be guaranteed than there is
 */
export function askRoom(context: VeContext, ve: Asking, task: Task, before?: VeRecord['properties']): void {
  const wanted = promisedBy(ve);
  if (isNothing(wanted)) return;
  const had = ve.uuid === undefined ? undefined : grantedBy(context).get(ve.uuid);
  if (had?.limit === wanted.limit && had.guarantee === wanted.guarantee) return;
  warnOf(context, ve, judge(context, ve, before), task);
  grant(context, ve, wanted, task);
}

/** The same for a VE that had its room before, and is only away for a moment, or was when the daemon ended: it is not refused. */
export function keepRoom(context: VeContext, ve: Asking, task: Task): void {
  const wanted = promisedBy(ve);
  if (!isNothing(wanted)) grant(context, ve, wanted, task);
}

/**
 * Refuse beforehand what would be refused later: nothing is granted by it, and nothing is said in the log.
 * @returns what a person should be told; undefined when all is well
 * @throws VeldError `capacity.exceeded`
 */
export function checkRoom(context: VeContext, ve: Asking, before?: VeRecord['properties']): string | undefined {
  return judge(context, ve, before)?.text;
}

interface Excess extends Verdict {
  text: string;
}

/** @returns undefined when all is well */
function judge(context: VeContext, ve: Asking, properties?: VeRecord['properties']): Excess | undefined {
  const { ratio, action } = context.settings.overcommit.memory;
  const wanted = promisedBy(ve);
  if (isNothing(wanted)) return undefined;
  const before = properties && promisedBy({ properties });
  const others = promisedTo(context, ve.uuid);
  const total = totalmem();
  const guaranteed = judgeGuarantee(total, others.map(({ guarantee }) => guarantee), wanted.guarantee, before?.guarantee);
  if (guaranteed.exceeded) {
    throw new VeldError('capacity.exceeded', `With ${ve.name} running VEs are guaranteed ${mebibytes(guaranteed.promised)}, and of what this node has ${mebibytes(guaranteed.allowed)} can be: a tenth is its own.`,
      { hint: 'Lower memory.guarantee of some of them.', details: { promised: guaranteed.promised, allowed: guaranteed.allowed, total } });
  }
  if (action === 'allow' || wanted.limit === null) return undefined;
  const verdict = judgeMemory(total, others.map(({ limit }) => limit), wanted.limit, { ratio }, before?.limit);
  if (!verdict.exceeded) return undefined;
  const { promised, allowed } = verdict;
  const text = `With ${ve.name} the memory limits of running VEs are ${mebibytes(promised)}: ${(promised / total).toFixed(2)} times what this node has; overcommit.memory.ratio is ${ratio}.`;
  if (action === 'refuse') throw new VeldError('capacity.exceeded', text, { details: { promised, allowed, total } });
  return { ...verdict, text };
}

/** @param but of this VE @returns what all others have that run, that are about to, and that would be started again */
function promisedTo(context: VeContext, but: string | undefined): Promised[] {
  const coming = grantedBy(context);
  return context.store.listVes().filter(({ uuid }) => uuid !== but).flatMap((ve) => {
    const asked = coming.get(ve.uuid);
    if (asked !== undefined) return [asked];
    return ve.ready && runs(context, ve) ? [promisedBy(ve)] : [];
  });
}

/** Whether it runs, or will without anybody's asking: it boots anew, is away for the moment of a snapshot, or has failed and its restart policy brings it back. */
function runs(context: VeContext, ve: VeRecord): boolean {
  const { init, between } = readRunState(context.settings, ve.number);
  if (init !== undefined || between) return true;
  if (ve.desired !== 'running' || ve.suspended || ve.notStarted) return false;
  if (context.operations.isBusy(ve.uuid)) return true;
  const bootedAt = Date.now() - Number(process.hrtime.bigint() / 1_000_000n);
  return resolveProperties(ve.properties)['restart.policy'] !== 'never' && ve.lastExit !== null && Date.parse(ve.lastExit.at) > bootedAt;
}

function grant(context: VeContext, { uuid }: Asking, wanted: Promised, task: Task): void {
  if (uuid === undefined) return;
  const all = grantedBy(context);
  if (all.has(uuid)) {
    all.set(uuid, wanted);
    return;
  }
  all.set(uuid, wanted);
  context.operations.watch(task.id, ({ endedAt }) => { if (endedAt !== null) all.delete(uuid); });
}

function grantedBy({ operations }: VeContext): Map<string, Promised> {
  let all = granted.get(operations);
  if (!all) granted.set(operations, all = new Map());
  return all;
}

function warnOf(context: VeContext, ve: Asking, excess: Excess | undefined, task: Task): void {
  if (!excess) return;
  const { promised, allowed, text } = excess;
  task.warn(text);
  context.log.warn({ ve: ve.uuid, name: ve.name, promised, allowed }, 'more memory is promised than overcommit.memory.ratio says');
  context.events.emit('capacity.exceeded', { ...ve.uuid !== undefined && { ve: ve.uuid }, data: { name: ve.name, promisedBytes: promised, allowedBytes: allowed } });
}

function promisedBy({ properties }: Pick<VeRecord, 'properties'>): Promised {
  const { 'memory.limit': limit, 'memory.guarantee': guarantee } = resolveProperties(properties);
  return { limit, guarantee };
}

function isNothing({ limit, guarantee }: Promised): boolean {
  return limit === null && guarantee === 0;
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
