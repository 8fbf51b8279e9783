/**
 * Folders of a tree that a VE fills, by descriptors: each path is resolved once, by openat2(2), through no link, and never out of the tree.
 *
 * What overlayfs notes on files and folders of an upper, as `trusted.overlay.*` (Linux, Documentation/filesystems/overlayfs.rst), and what of it goes along:
 * - `opaque` on a folder: nothing of the layers shows through it. It goes along, here: a program in a box has not the might to read it.
 * - `origin`, `impure`, `nlink`, `uuid`: which inodes and file handles of this very disk stand behind. They mean nothing on another disk, and overlayfs does without.
 * - `redirect`, `metacopy`: a folder or content that is still in a layer under another name. Only with the mount options redirect_dir and metacopy, which are off
 *   unless somebody has set these parameters of the module. A folder with the former is refused.
 * A VE can write none of these: they need CAP_SYS_ADMIN of the host. Deleted names are character devices 0:0, which tar carries.
 */
import { closeSync, constants, fchownSync, fstatSync, openSync } from 'node:fs';
import { VeldError } from '../lib/errors.ts';
import { getXattr, listXattrs, O_PATH, openat2, removeXattr, RESOLVE, setXattr } from '../kernel/syscalls.ts';
import { RANGE } from './folders.ts';

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
const OPAQUE = 'trusted.overlay.opaque';
const REDIRECT = 'trusted.overlay.redirect';
const INSIDE = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS | RESOLVE.NO_XDEV;

/** Errors that say that a path leads to no folder; EAGAIN: it is being moved. */
const NO_FOLDER = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV', 'EAGAIN']);

/** Folders after which others have their turn. */
const BATCH = 256;

/** Open the root of a tree. @param root a folder of Veld's own */
export function openRoot(root: string): number {
  return openSync(root, O_PATH | O_DIRECTORY | O_NOFOLLOW);
}

/** A descriptor of a folder below the root; undefined where there is none. @param path each character is one byte */
export function openFolder(root: number, path: string, flags: number = O_RDONLY): number | undefined {
  try {
    return openat2(root, Buffer.from(path, 'latin1'), { flags: flags | O_DIRECTORY | O_NOFOLLOW, resolve: INSIDE });
  } catch (error) {
    if (NO_FOLDER.has((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/**
 * Which of these folders are opaque. Those that are gone are none: the next round has what came in their place.
 * @throws VeldError `storage.failed` for a folder that was renamed without its content
 */
export async function opaqueFolders(root: number, paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  await eachFolder(root, paths, (fd, path) => {
    if (fd === undefined) return;
    const names = listXattrs(fd);
    if (names.includes(OPAQUE) && getXattr(fd, OPAQUE)?.toString('latin1') === 'y') found.push(path);
    if (names.includes(REDIRECT)) {
      throw new VeldError('storage.failed', `The folder ${JSON.stringify(path.slice(0, 100))} was renamed by an overlay that leaves what is in it in a layer (redirect_dir).`,
        { hint: 'Turn the parameter redirect_dir of the module overlay off, and copy the folder within the VE.' });
    }
  });
  return found;
}

/** A folder as a stream has it. */
export interface FolderMarks {
  opaque: boolean;
  /** Names of its `user.*` attributes. */
  attributes: ReadonlySet<string>;
}

/**
 * Make folders opaque, or not, and take away the `user.*` attributes that they no longer have: tar only adds.
 * @returns how many of them are not there
 */
export async function markFolders(root: number, folders: ReadonlyMap<string, FolderMarks>): Promise<number> {
  let missing = 0;
  await eachFolder(root, [...folders.keys()], (fd, path) => {
    const marks = folders.get(path);
    if (fd === undefined || !marks) {
      missing += 1;
      return;
    }
    const names = listXattrs(fd);
    for (const name of names) if (name.startsWith('user.') && !marks.attributes.has(name)) removeXattr(fd, name);
    if (marks.opaque) setXattr(fd, OPAQUE, Buffer.from('y'));
    else if (names.includes(OPAQUE)) removeXattr(fd, OPAQUE);
  });
  return missing;
}

/**
 * Give folders that tar has made up on its way, for an entry whose folder did not come, to the VE's root.
 * @returns how many there were
 */
export async function adoptFolders(root: number, paths: readonly string[], uidBase: number): Promise<number> {
  let adopted = 0;
  const own = (id: number): boolean => id >= uidBase && id < uidBase + RANGE;
  await eachFolder(root, paths, (fd) => {
    if (fd === undefined) return;
    const { uid, gid } = fstatSync(fd);
    if (own(uid) && own(gid)) return;
    fchownSync(fd, uidBase, uidBase);
    adopted += 1;
  });
  return adopted;
}

async function eachFolder(root: number, paths: readonly string[], work: (fd: number | undefined, path: string) => void): Promise<void> {
  for (const [i, path] of paths.entries()) {
    if (i % BATCH === BATCH - 1) await new Promise(setImmediate);
    const fd = openFolder(root, path);
    try {
      work(fd, path);
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }
}
