/** Whether images have processes with mappings that not every kernel can make: see kernel/droppable.ts. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MAP_DROPPABLE, MAP_TYPE } from '../kernel/droppable.ts';
import { changeImage } from './derive.ts';
import type { StateFolder } from './types.ts';

/** @throws VeldError `checkpoint.unusable` for what is no image */
export function stateHasDroppable({ images }: Pick<StateFolder, 'images'>): boolean {
  let found = false;
  const look = (flags: number): number => {
    found ||= (flags & MAP_TYPE) === MAP_DROPPABLE;
    return flags;
  };
  for (const name of readdirSync(images)) {
    // images/mm.proto and images/vma.proto of criu: mm_entry: vmas = 14; vma_entry: flags = 6
    if (/^mm-\d+\.img$/.test(name)) changeImage(readFileSync(join(images, name)), { 14: { message: { 6: { number: look } } } }, name);
    if (found) return true;
  }
  return false;
}
