/**
 * Memory that the kernel may take back without a word (MAP_DROPPABLE, since Linux 6.11): glibc keeps in it what getrandom(3) of the vDSO needs, since 2.41. Under a
 * kernel that has no such mappings a process that has one cannot be brought back.
 */
import { readFile } from 'node:fs/promises';
import { probeMapping } from './syscalls.ts';

/** linux/mman.h: MAP_DROPPABLE is a type of mapping, as MAP_SHARED is, which older kernels refuse. */
export const MAP_DROPPABLE = 0x08;
/** Of the flags of a mapping those that say its type. */
export const MAP_TYPE = 0x0f;

let known: boolean | undefined;

/** Whether this kernel has such mappings. */
export function hasDroppable(): boolean {
  return known ??= probeMapping(MAP_DROPPABLE);
}

/** Whether one of these processes has such a mapping. One that ends meanwhile has none. @param pids host's */
export async function haveDroppable(pids: readonly number[]): Promise<boolean> {
  if (!hasDroppable()) return false;
  for (const pid of pids) {
    // proc_pid_smaps(5): `VmFlags: rd wr mr mw me ac dp`. Not to be had: it has just ended.
    if (/^VmFlags:.* dp\b/m.test(await readFile(`/proc/${pid}/smaps`, 'latin1').catch(() => ''))) return true;
  }
  return false;
}
