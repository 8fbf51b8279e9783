/**
 * Puts right what criu 4.2.1 writes and cannot read again.
 *
 * Programs: it takes the program of a process and an open file for the same one when they are the same file, and notes the flags of the open file: where
 * that was opened as a place only (O_PATH), the program cannot be set ("PR_SET_MM_MAP failed with -9"). So it is with systemd since 255, whose manager
 * holds systemd-executor that way, and whose helper (sd-pam) of each user's manager is that program.
 *
 * Sizes: it wants open files to be as large as they were ("File proc/stat has bad size"); those of lxcfs, which programs like top(1) keep open, never
 * are for long.
 */
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { changeImage } from './derive.ts';
import type { Changes } from './protobuf.ts';
import type { StateFolder } from './types.ts';

const O_PATH = 0o10000000;

/** Names of files of the kernel and of lxcfs, as the images have them. */
const WITHOUT_SIZE = /^\/?(proc|sys)\//;

/** Mend a state that is to be restored; one that is whole already is left as it is. */
export function mendImages({ images }: Pick<StateFolder, 'images'>): void {
  const file = join(images, 'files.img');
  const before = readFileSync(file);
  const places = new Set<number>();
  changeImage(before, regularFiles((id, flags) => {
    if (flags & O_PATH) places.add(id);
    return flags;
  }), 'files.img');

  const programs = new Set<number>();
  for (const name of places.size === 0 ? [] : readdirSync(images).filter((name) => /^mm-\d+\.img$/.test(name))) {
    // mm_entry: exe_file_id = 12
    changeImage(readFileSync(join(images, name)), { 12: { number: (id) => (programs.add(id), id) } }, name);
  }
  const after = changeImage(before, regularFiles((id, flags) => (programs.has(id) ? flags & ~O_PATH : flags)), 'files.img');
  if (after.equals(before)) return;
  // Anew: it may be another state's file, too.
  writeFileSync(`${file}.new`, after, { mode: 0o644, flush: true });
  renameSync(`${file}.new`, file);
}

/** file_entry: reg = 3; reg_file_entry: id = 1, flags = 2, name = 6, size = 8, in this order. */
function regularFiles(change: (id: number, flags: number) => number): Changes {
  let [current, path] = [0, ''];
  return { 3: { message: {
    1: { number: (id) => (current = id) },
    2: { number: (flags) => change(current, flags) },
    6: { text: (name) => (path = name) },
    8: { number: (size) => (WITHOUT_SIZE.test(path) ? undefined : size) },
  } } };
}
