/**
 * The memory of a VE on its way while it runs, where the kernel notes what changes of it: first all of it, then what has changed since, until that is little. Each round
 * stands on the one before (checkpoint/parent.ts), and the state of the VE on the last one: so at the end only little of it is left.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { GENERATIONS, isMemory } from '../checkpoint/parent.ts';
import { hasSoftDirty, privateMemory } from '../kernel/memory-tracking.ts';
import type { Task } from '../ops/types.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from '../ve/context.ts';
import { copyMemory } from '../ve/memory-copy.ts';
import type { FrameStream } from './frames.ts';
import { expected, type Speed } from './prediction.ts';
import { sendFiles } from './state-files.ts';
import type { MemoryMessage } from './types.ts';

/** It is not worth a round, in bytes: a VE that does nothing has not more. */
const LITTLE = 16 << 20;
/** A round that is not smaller than this part of the one before helps no more. */
const SHRINKS = 0.7;
/** Most of them: the state itself is a generation, too. */
export const MEMORY_ROUNDS = GENERATIONS - 1;

export interface MemorySent {
  rounds: number;
  /** Images of the last round; undefined when there was none. */
  images: string | undefined;
  /** What will have changed by the time the VE stands, in bytes, as far as can be told. */
  left: number;
  /** Bytes of memory in which something is changed, in a second; null where that was not seen. */
  changing: number | null;
}

export interface MemoryTask {
  task: Task;
  progress: (sent: number, total: number, round: number, changing: number | null) => void;
  /** Told what was sent, and in how many milliseconds. */
  speed: Speed;
  /** For how long the VE may stand, in milliseconds: rounds go on for its sake. */
  maxFreeze: number | null;
}

/**
 * Send the memory of a running VE. What fails of it changes nothing: it goes later, as a whole.
 * @param dir folder of the migration's own, for the copies
 * @throws VeldError `migration.link`, what the target says, `operation.cancelled`
 */
export async function sendMemory(context: VeContext, link: FrameStream, ve: VeRecord, dir: string, { task, progress, speed, maxFreeze }: MemoryTask): Promise<MemorySent> {
  const all = privateMemory(context.resources.pids(ve.number));
  const none: MemorySent = { rounds: 0, images: undefined, left: all, changing: null };
  if (!hasSoftDirty() || all < LITTLE) return none;
  let sent = none;
  for (let round = 1, before = Infinity, began = 0; round <= MEMORY_ROUNDS; round++) {
    const now = performance.now();
    const copy = await copyMemory(context, ve, join(dir, String(round)), sent.images, task).catch((error: unknown) => {
      context.log.warn({ ve: ve.uuid, name: ve.name, round, err: error }, 'memory could not be copied while a VE runs');
    });
    // What it stood on is not what has changed since any more.
    if (!copy) return none;
    const { images, bytes } = copy;
    const changing = round > 1 ? bytes / (now - began) * 1000 : null;
    link.send({ type: 'memory', files: memoryFiles(images) } as MemoryMessage);
    await speed.measure(link, () => sendFiles(link, images, memoryFiles(images), (part) => progress(part, bytes, round, changing)));
    const left = Math.min(all, changing === null ? bytes : changing * (performance.now() - now) / 1000);
    sent = { rounds: round, images, left, changing };
    const enough = left < LITTLE && (maxFreeze === null || expected(speed, left) <= maxFreeze);
    if (round > 1 && (enough || bytes > SHRINKS * before)) break;
    [before, began] = [bytes, now];
  }
  return sent;
}

/** What of a copy is sent: its memory, and when it was made. */
function memoryFiles(images: string): { path: string; size: number }[] {
  return readdirSync(images).filter(isMemory).map((path) => ({ path, size: statSync(join(images, path)).size }));
}
