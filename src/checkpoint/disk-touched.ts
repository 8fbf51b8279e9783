/** Whether the disk of a VE may be another one after a dump than in the moment in which its processes were stopped. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { changeImage } from './derive.ts';

/** linux/fcntl.h, asm-generic: of x86 and arm64 (there 0o200000). */
const O_DIRECT = process.arch === 'arm64' ? 0o200000 : 0o40000;

/** criu's images/remap-file-path.proto: a name that criu has made, by link(2), for a file whose own was removed. */
const LINKED = 0;

/**
 * criu itself writes nothing to it but such names; and what a process has begun to write past the page cache goes on without it (io_submit(2)).
 * @param images of a dump that has ended
 */
export function mayHaveTouchedDisk(images: string): boolean {
  const [files, remaps] = [join(images, 'files.img'), join(images, 'remap-fpath.img')];
  let found = false;
  // file_entry: reg = 3; reg_file_entry: flags = 2
  changeImage(readFileSync(files), { 3: { message: { 2: { number: (flags) => (found ||= (flags & O_DIRECT) !== 0, flags) } } } }, 'files.img');
  // remap_file_path_entry: orig_id = 1, remap_id = 2, remap_type = 3; that is optional, and a link where it is not there
  if (existsSync(remaps)) {
    let kinds = 0;
    let ids = 0;
    changeImage(readFileSync(remaps), { 1: { number: (id) => (ids++, id) }, 3: { number: (kind) => (kinds++, found ||= kind === LINKED, kind) } }, 'remap-fpath.img');
    found ||= kinds < ids;
  }
  return found;
}
