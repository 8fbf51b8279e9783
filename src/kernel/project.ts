/** The project of a folder: whose account in a project quota counts what lies in it. Source: linux/fs.h (struct fsxattr), ioctl_fs(2). */
import { closeSync, constants, openSync } from 'node:fs';
import { checked, native } from './native.ts';

/** FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR: _IOR('X', 31, struct fsxattr), _IOW('X', 32, struct fsxattr). */
const GET = 0x801c581f, SET = 0x401c5820;
/** struct fsxattr: flags, size of extents, number of extents, project, and 12 more bytes. */
const SIZE = 28;
const FLAGS = 0, PROJECT = 12;
/** What is made in the folder belongs to its project, too. */
const FS_XFLAG_PROJINHERIT = 0x200;

/**
 * Give a folder, and all that will be made in it, to a project. What is in it already stays what it was.
 * @param project 32 bits; 0 is nobody's
 * @throws EOPNOTSUPP, EINVAL or ENOTTY where the file system knows no projects
 */
export function setProject(folder: string, project: number): void {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const attributes = Buffer.alloc(SIZE);
    // Safe: the kernel reads or writes as many bytes as the number of the request says, 28, which the buffer has.
    checked('ioctl', native().c.ioctl(fd, GET, attributes));
    const flags = attributes.readUInt32LE(FLAGS);
    attributes.writeUInt32LE((project === 0 ? flags & ~FS_XFLAG_PROJINHERIT : flags | FS_XFLAG_PROJINHERIT) >>> 0, FLAGS);
    attributes.writeUInt32LE(project, PROJECT);
    checked('ioctl', native().c.ioctl(fd, SET, attributes));
  } finally {
    closeSync(fd);
  }
}

/** The project of a folder; 0 where it has none, or its file system knows none. */
export function projectOf(folder: string): number {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const attributes = Buffer.alloc(SIZE);
    // Safe: as above.
    if (Number(native().c.ioctl(fd, GET, attributes)) !== 0) return 0;
    return attributes.readUInt32LE(PROJECT);
  } finally {
    closeSync(fd);
  }
}

/** As {@link setProject}, where there are projects; elsewhere, and for project 0, nothing is done. */
export function giveTo(folder: string, project: number): void {
  if (project === 0) return;
  try {
    setProject(folder, project);
  } catch (error) {
    if (!['EOPNOTSUPP', 'ENOTSUP', 'EINVAL', 'ENOTTY'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}
