/**
 * Copies of the memory of a VE that runs on: before it moves, so that only what has changed since is left for the moment in which it stands. Its processes stand for
 * a few milliseconds each time.
 */
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { adoptParent } from '../checkpoint/parent.ts';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import { run } from '../lib/run.ts';
import { criuErrors } from '../kernel/criu.ts';
import { endCriu } from '../kernel/criu-watch.ts';
import type { Task } from '../ops/types.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { writeMemoryFiles } from './criu-files.ts';
import { superviseCriu } from './criu-supervision.ts';
import { runFolder, takeTrackedSince } from './run-folder.ts';
import { checkSuspendable, FAILED, letGo } from './suspend.ts';

export interface MemoryCopy {
  /** Folder with the images. */
  images: string;
  /** Of memory in it, what is in the copies on which it stands not counted. */
  bytes: number;
}

/**
 * What criu says when it had everything of the memory, and has not found then, for its own later use, where files are that are watched: a dump is told of these by
 * checkpoint/watches.ts. Last it says that it failed.
 */
const AFTERWARDS = /^(irmap|fsnotify): |^Pre-dumping FAILED\.$/;

/**
 * Copy the memory of a running VE. From then on the kernel notes what changes (it must be able to: src/kernel/memory-tracking.ts).
 * @param dir folder for the copy, made anew @param earlier images of the copy before, on which this one stands
 * @throws VeldError `checkpoint.failed`: the VE runs on, and there is no copy; `disk.full`
 */
export async function copyMemory(context: VeContext, ve: VeRecord, dir: string, earlier: string | undefined, task: Task): Promise<MemoryCopy> {
  const { settings } = context;
  const init = checkSuspendable(context, ve);
  const images = join(dir, 'images');
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(images, { recursive: true, mode: 0o700 });
  // Bits that told what has changed since a snapshot are gone: the next one has all.
  takeTrackedSince(settings, ve.number);
  const parent = earlier !== undefined && adoptParent(earlier, images);
  task.phase('memory');
  await writeMemoryFiles(context, ve, init, dir, images, parent);
  const watch = superviseCriu(context, ve);
  const { code, stderr } = await run(join(settings.libexecDir, 'veld-dump'), [runFolder(settings, ve.number)], { allow: true });
  watch.close();
  const errors = code === 0 ? [] : criuErrors(readIfExists(join(images, 'dump.log')) ?? '');
  if (code === 0 || (code === FAILED && errors.length > 0 && errors.every((line) => AFTERWARDS.test(line)))) return { images, bytes: pagesIn(images) };
  if (code !== FAILED) {
    endCriu(runFolder(settings, ve.number));
    await letGo(context, ve);
  }
  rmSync(dir, { recursive: true, force: true });
  if (errors.some((line) => /No space left on device/.test(line))) throw new VeldError('disk.full', `There is no space for the memory of ${ve.name} in ${settings.stateDir}.`);
  throw new VeldError('checkpoint.failed', `The memory of ${ve.name} could not be copied while it runs: ${errors[0] ?? (stderr.trim() || 'criu said nothing')}.`, { details: { criu: errors.slice(0, 20) } });
}

/** Bytes of memory in images. */
function pagesIn(images: string): number {
  return readdirSync(images).filter((name) => /^pages-\d+\.img$/.test(name)).reduce((sum, name) => sum + statSync(join(images, name)).size, 0);
}
