/**
 * A state for another VE: the same images, without a copy, but for the few that say which host uids the VE has.
 *
 * Images of criu (criu.org, "Images"): two magic numbers of 32 bits, then messages, each behind its length in 32 bits, little endian. Which fields
 * hold ids of the host: images/userns.proto and images/cgroup.proto of criu; everything else counts as the VE itself does.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { linkImages } from './parent.ts';
import { changeMessage, type Changes } from './protobuf.ts';
import type { StateFolder } from './types.ts';

/** Ids in a VE's range. */
const RANGE = 65_536;

/** What of the network is the first VE's alone: its addresses, and the connections of its firewall. */
const LEFT_OUT = /^net\.(batch[46]|flows)$/;

/**
 * Fill an empty state folder. Images that change are written anew, all others are the same files.
 * @param uids the first host uid of either range
 * @param moved it is the same VE, in another place: its network stays what it was
 */
export function deriveImages(from: StateFolder, to: StateFolder, uids: { from: number; to: number }, moved = false): void {
  const shift = (id: number): number => (id >= uids.from && id < uids.from + RANGE ? id - uids.from + uids.to : id);
  const changed = uids.from === uids.to ? [] : readdirSync(from.images).flatMap((name) => {
    const changes = changesOf(name, shift);
    return changes === undefined ? [] : [{ name, changes }];
  });
  const anew = new Set(changed.map(({ name }) => name));
  linkImages(from.images, to.images, (name) => (moved || !LEFT_OUT.test(name)) && !name.endsWith('.log') && !anew.has(name));
  for (const { name, changes } of changed) writeFileSync(join(to.images, name), changeImage(readFileSync(join(from.images, name)), changes, name), { mode: 0o644 });
  linkImages(from.runtime, to.runtime);
}

function changesOf(name: string, shift: (id: number) => number): Changes | undefined {
  if (/^userns-\d+\.img$/.test(name)) {
    // userns_entry: uid_map = 1, gid_map = 2; uid_gid_extent: lower_first = 2
    const extent: Changes = { 2: { number: shift } };
    return { 1: { message: extent }, 2: { message: extent } };
  }
  if (name === 'cgroup.img') {
    // cgroup_entry: controllers = 2; cg_controller_entry: dirs = 2; cgroup_dir_entry: children = 2, properties = 3, dir_perms = 4;
    // cgroup_prop_entry: perms = 3; cgroup_perms: uid = 2, gid = 3
    const perms: Changes = { 2: { number: shift }, 3: { number: shift } };
    const property: Changes = { 3: { message: perms } };
    const folder: Record<number, Changes[number]> = { 3: { message: property }, 4: { message: perms } };
    folder[2] = { message: folder }; // folders in folders
    return { 2: { message: { 2: { message: folder } } } };
  }
  return undefined;
}

/** Change each message of an image. @throws VeldError `checkpoint.unusable` for what is no image */
export function changeImage(image: Buffer, changes: Changes, name: string): Buffer {
  try {
    const parts: Buffer[] = [image.subarray(0, 8)];
    for (let at = 8; at < image.length;) {
      const length = image.readUInt32LE(at);
      if (at + 4 + length > image.length) throw new RangeError('a message is cut off');
      const changed = changeMessage(image.subarray(at + 4, at + 4 + length), changes);
      const head = Buffer.alloc(4);
      head.writeUInt32LE(changed.length);
      parts.push(head, changed);
      at += 4 + length;
    }
    return Buffer.concat(parts);
  } catch (error) {
    throw new VeldError('checkpoint.unusable', `The image ${name} cannot be read: ${(error as Error).message}.`, { cause: error });
  }
}
