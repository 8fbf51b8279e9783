/** Beancounters of a running VE: what its control groups count, and what only a look at its processes tells. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { limitPtys, readPtys } from '../kernel/devpts.ts';
import type { ProcessId } from '../kernel/process.ts';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import type { Past } from '../resources/beancounters/elsewhere.ts';
import type { Beancounters } from '../spec/beancounters/table.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { Properties } from '../spec/types.ts';
import type { VeRecord } from '../store/types.ts';
import { reload, type VeContext } from './context.ts';
import { hasInsideFile, writeInsideFile } from './inside-beancounters.ts';
import { putFile, readRunState, runFolder } from './run-folder.ts';

/** File in the run folder with what was counted before a checkpoint. */
const PAST = 'beancounters';

/** @throws VeldError `ve.not_running` */
export async function veBeancounters(context: VeContext, ve: VeRecord): Promise<Beancounters> {
  const { init } = readRunState(context.settings, ve.number);
  if (!init) throw new VeldError('ve.not_running', `${ve.name} is not running.`);
  // A VE that has mounted something else there, or is just ending, has none that could be told.
  const ptys = await readPtys(init).catch(() => undefined);
  const locks = countLocks(new Set(context.resources.pids(ve.number)));
  return { number: ve.number, rows: context.resources.beancounters(ve.number, { ptys, locks, oomGuarantee: resolveProperties(ve.properties)['memory.oom_guarantee'], before: readPast(context, ve) }) };
}

/** Lines of /proc/locks (proc_locks(5)) of locks that processes hold; those that wait for one have an arrow. */
export function countLocks(pids: ReadonlySet<number>, table = readFileSync('/proc/locks', 'utf8')): number {
  return table.split('\n').filter((line) => pids.has(Number(/^\d+: (?!->)\S+\s+\S+\s+\S+\s+(\d+) /.exec(line)?.[1]))).length;
}

/** Let the VE's /dev/pts have as many terminals as its properties say. A VE that has none any more has nothing to be limited. */
export async function applyPtys(init: ProcessId, properties: Properties): Promise<void> {
  const limit = properties['ubc.numpty']?.limit ?? null;
  await limitPtys(init, limit).catch((error: unknown) => {
    // An init that is just ending: others will tell.
    if (limit !== null) throw error;
  });
}

/** Peaks and refusals, for a checkpoint: groups forget them with the VE's processes. */
export function pastOf(context: VeContext, ve: VeRecord): Past {
  const rows = context.resources.beancounters(ve.number, { before: readPast(context, ve) });
  return Object.fromEntries(rows.filter(({ maxheld, failcnt, kept }) => kept.length > 1 && maxheld + failcnt > 0).map(({ name, maxheld, failcnt }) => [name, { maxheld, failcnt }]));
}

/** The VE comes back, in new groups. */
export function putPast({ settings }: VeContext, ve: VeRecord, past: Past): void {
  putFile(runFolder(settings, ve.number), PAST, JSON.stringify(past));
}

function readPast({ settings }: VeContext, ve: VeRecord): Past {
  return JSON.parse(readIfExists(join(runFolder(settings, ve.number), PAST)) ?? '{}') as Past;
}

/** VEs that read their own beancounters inside, running or not. */
export function readersInside({ settings, store }: Pick<VeContext, 'settings' | 'store'>): VeRecord[] {
  return store.listVes().filter((ve) => ve.ready && hasInsideFile(runFolder(settings, ve.number)));
}

/** Let a VE read what is counted now. @throws VeldError `ve.not_found`, `ve.not_running` */
export async function writeInside(context: VeContext, uuid: string): Promise<void> {
  const ve = reload(context.store, uuid);
  writeInsideFile(runFolder(context.settings, ve.number), await veBeancounters(context, ve));
}
