/** What guest-tree.ts does with descriptors of names and folders: no path of a VE is looked up here. */
import { closeSync, fstatSync, lchownSync, opendirSync, symlinkSync } from 'node:fs';
import { readLink, renameat, unlinkat } from './syscalls.ts';

/** A name below a VE's root. */
export interface GuestName {
  kind: 'file' | 'folder' | 'link' | 'whiteout' | 'other';
  /** Permission bits. */
  mode: number;
  /** As the host sees it. */
  uid: number;
  gid: number;
  /** In bytes. */
  size: number;
  /** Where a link leads, as it says; else empty. */
  target: string;
}

/** What a descriptor (O_PATH, O_NOFOLLOW) is of. */
export function foundAt(fd: number): GuestName {
  const stat = fstatSync(fd);
  // A character device 0:0 in a layer is overlayfs's word for a name that is deleted.
  const whiteout = stat.isCharacterDevice() && stat.rdev === 0;
  const kind = stat.isFile() ? 'file' : stat.isDirectory() ? 'folder' : stat.isSymbolicLink() ? 'link' : whiteout ? 'whiteout' : 'other';
  return { kind, mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid, size: stat.size, target: kind === 'link' ? readLink(fd) : '' };
}

/** Names in the folder behind a descriptor, sorted: so many at most. */
export function namesIn(fd: number, most: number): string[] {
  const folder = opendirSync(`/proc/self/fd/${fd}`);
  try {
    const names: string[] = [];
    for (let entry = folder.readSync(); entry !== null && names.length < most; entry = folder.readSync()) names.push(entry.name);
    return names.toSorted();
  } finally {
    folder.closeSync();
  }
}

/** Make a link in the folder behind a descriptor under a name that nobody knows, and rename it. @param owner host ids */
export function makeLink(dir: number, temporary: string, name: string, target: string, owner: { uid: number; gid: number }): void {
  symlinkSync(target, `/proc/self/fd/${dir}/${temporary}`);
  try {
    lchownSync(`/proc/self/fd/${dir}/${temporary}`, owner.uid, owner.gid);
    renameat(dir, temporary, name);
  } catch (error) {
    unlinkat(dir, temporary);
    throw error;
  }
}

/** Do something with a descriptor, and close it. */
export function within<T>(fd: number, work: (fd: number) => T): T {
  try {
    return work(fd);
  } finally {
    closeSync(fd);
  }
}
