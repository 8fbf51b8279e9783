/** What btrfs tells of itself. Source: linux/btrfs.h. */
import { closeSync, lstatSync, openSync } from 'node:fs';
import { checked, native } from './native.ts';

/** BTRFS_IOC_FS_INFO: _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args), 1024 bytes; the id is at 16. */
const FS_INFO = 0x8400941f;
/** BTRFS_IOC_INO_LOOKUP: _IOWR(0x94, 18, struct btrfs_ioctl_ino_lookup_args), 4096 bytes: the tree, and an inode of it. */
const INO_LOOKUP = 0xd0009412;
/** The root of a subvolume has the first number of its inodes (BTRFS_FIRST_FREE_OBJECTID). */
const FIRST_INODE = 256;

/** UUID of the btrfs that holds a path, as its folder below /sys/fs/btrfs is called. @throws ENOTTY for another file system */
export function fileSystemId(path: string): string {
  const fd = openSync(path, 'r');
  try {
    const info = Buffer.alloc(1024);
    // Safe: the kernel writes as many bytes as the number of the request says, 1024, which the buffer has.
    checked('ioctl', native().c.ioctl(fd, FS_INFO, info));
    return info.toString('hex', 16, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  } finally {
    closeSync(fd);
  }
}

/** Number of the subvolume that holds a folder. @throws ENOTTY on another file system */
export function subvolumeId(path: string): bigint {
  const fd = openSync(path, 'r');
  try {
    const lookup = Buffer.alloc(4096);
    lookup.writeBigUInt64LE(BigInt(FIRST_INODE), 8);
    // Safe: the kernel reads and writes as many bytes as the number of the request says, 4096, which the buffer has.
    checked('ioctl', native().c.ioctl(fd, INO_LOOKUP, lookup));
    return lookup.readBigUInt64LE(0);
  } finally {
    closeSync(fd);
  }
}

/** Whether a folder of btrfs is the root of a subvolume. */
export function isSubvolume(path: string): boolean {
  return lstatSync(path).ino === FIRST_INODE;
}
