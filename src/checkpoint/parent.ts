/**
 * States that stand on an earlier one: of memory they have only what has changed since. criu looks for the rest in the folder `parent` among its images
 * (criu.org, "Incremental dumps"), and that may have one in turn. The files are those of the earlier state, by hard links: each state is whole by itself,
 * whatever becomes of the others.
 *
 * Only private memory is taken from there. Of shared memory criu sees what changed through a mapping, and not what write(2) did to a memfd.
 */
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { changeMessage, varint } from './protobuf.ts';

/** Name of the folder, below that with the images. */
export const PARENT = 'parent';

const MEMORY = /^(pagemap-\d+|pages-\d+)\.img$/;
const INVENTORY = 'inventory.img';

/** Whether it is what of an earlier state is needed: memory, and when that was. @param name of an image */
export function isMemory(name: string): boolean {
  return MEMORY.test(name) || name === INVENTORY;
}

/** States that may stand on each other: a restore reads from all of them, and what was replaced since stays on the disk. */
export const GENERATIONS = 8;

/** Make a folder have the same images as another, earlier generations included; nothing is copied. @param to an empty folder @param wanted which */
export function linkImages(from: string, to: string, wanted: (name: string) => boolean = () => true): void {
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (entry.isFile() && wanted(entry.name)) linkSync(join(from, entry.name), join(to, entry.name));
  }
  if (!existsSync(join(from, PARENT))) return;
  mkdirSync(join(to, PARENT), { mode: 0o755 });
  linkImages(join(from, PARENT), join(to, PARENT));
}

/**
 * Let a state to be stand on an earlier one.
 * @param from images of that @param to folder for images
 * @param since time since the host's boot, in hundredths of a second, at which the processes of that state were there again and nothing of them had
 *   changed: whoever is younger is another process with the same number. Left out for one whose processes have gone on: it tells itself when it was made
 * @returns whether it does: after a certain number of generations one begins anew
 */
export function adoptParent(from: string, to: string, since?: number): boolean {
  if (generations(from) >= GENERATIONS) return false;
  const parent = join(to, PARENT);
  mkdirSync(parent, { mode: 0o755 });
  linkImages(from, parent, (name) => isMemory(name) && (name !== INVENTORY || since === undefined));
  if (since !== undefined) writeFileSync(join(parent, INVENTORY), withUptime(readFileSync(join(from, INVENTORY)), since * 10_000), { mode: 0o644, flush: true });
  return true;
}

/** 1 for a state that stands on none. */
export function generations(images: string): number {
  return existsSync(join(images, PARENT)) ? 1 + generations(join(images, PARENT)) : 1;
}

/**
 * The image with another time of the dump. Format: a magic number, then inventory_entry (images/inventory.proto) behind its length: dump_uptime = 8.
 * @param uptime microseconds since the host's boot
 */
export function withUptime(inventory: Buffer, uptime: number): Buffer {
  const length = inventory.readUInt32LE(4);
  const entry = changeMessage(inventory.subarray(8, 8 + length), { 8: 'left out' });
  const message = Buffer.concat([entry, varint(BigInt(8 << 3)), varint(BigInt(uptime))]);
  const head = Buffer.from(inventory.subarray(0, 8));
  head.writeUInt32LE(message.length, 4);
  return Buffer.concat([head, message]);
}
