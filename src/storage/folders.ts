/** The folders of storage, and what makes them trustworthy. */
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, realpathSync, statfsSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { toVeldError, VeldError } from '../lib/errors.ts';

/** Ids in one VE's range. */
export const RANGE = 65536;

/**
 * Make sure that a folder is there, is a real one, belongs to root and is closed to everybody else.
 * It must be closed: a setuid file made by a VE's root is owned by an ordinary host user, one of a layer by the host's root.
 * @throws VeldError `storage.failed`, `disk.full`
 */
export function ensureFolder(path: string): void {
  storing(path, () => {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    requireFolder(path);
    if ((lstatSync(path).mode & 0o777) !== 0o700) chmodSync(path, 0o700);
  });
}

/** Refuse what is not a real folder of root's. @returns what lstat says */
export function requireFolder(path: string): Stats {
  const stat = lstatIfThere(path);
  if (!stat?.isDirectory()) throw new VeldError('storage.failed', `${path} is not a folder.`);
  if (stat.uid !== 0) throw new VeldError('storage.failed', `${path} belongs to uid ${stat.uid}, not to root.`);
  return stat;
}

/** lstat, or undefined when the name does not exist. */
export function lstatIfThere(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** Whether a folder has no entry; one that is missing counts as empty. */
export function isEmptyFolder(path: string): boolean {
  return lstatIfThere(path) === undefined || readdirSync(path).length === 0;
}

/** The path without links, refused if overlayfs or mount(8) would read something else in it. */
export function mountablePath(path: string): string {
  const real = storing(path, () => realpathSync(path));
  // Colon and comma separate overlay's folders and options, a backslash escapes; blanks and quotes mean something to mount(8) and in fstab syntax.
  if (/[:,\\"'\s\p{Cc}]/u.test(real)) {
    throw new VeldError('storage.failed', `The path ${JSON.stringify(real)} holds a character that overlay mounts treat specially.`,
      { hint: 'Choose a state folder whose path has no colon, comma, backslash, quote or blank.' });
  }
  return real;
}

/** statfs(2). */
const XFS_SUPER_MAGIC = 0x58465342;

/**
 * Whether uppers on the file system of `path` must have their owners written from 0, as their template has, and not in the VE's range.
 * So it is on XFS: it shows an ACL to root under a second name (`trusted.SGI_ACL_FILE`), and overlayfs copies what is there from a layer to the
 * upper as it is, over the ACL that it has just translated. The ids in it are right only where layer and upper count from the same number.
 */
export function needsOwnersFromZero(path: string): boolean {
  return storing(path, () => statfsSync(path).type === XFS_SUPER_MAGIC);
}

/**
 * The idmap of a volume whose owners are written from 0, for the VE of a range. Overlayfs makes files as the host's root, and gives them away then: so that
 * one must be somebody on the disk, too. It is the first id that no VE has.
 */
export function mapFromZero(uidBase: number): string {
  return `b:0:${uidBase}:${RANGE} b:${RANGE}:0:1`;
}

/**
 * The idmap of a mount through which a tree is written whose owners are counted from `from`, so that on the disk they are counted from `to`. Who writes is the host's root, who makes files
 * before he gives them away, and whom names that overlayfs has marked as deleted belong to (see `mapFromZero`).
 * @returns undefined where both are the same
 */
export function mapInto(from: number, to: number): string | undefined {
  if (from === to) return undefined;
  if (to === 0) return mapFromZero(from);
  return from === 0 ? `b:${to}:0:${RANGE} b:0:${RANGE}:1` : `b:${to}:${from}:${RANGE} b:0:0:1`;
}

/** Make an empty folder with an owner and mode of its own. Throws EEXIST. */
export function makeOwned(path: string, owner: { uid: number; gid: number; mode: number }): void {
  mkdirSync(path, { mode: 0o700 });
  chownSync(path, owner.uid, owner.gid);
  chmodSync(path, owner.mode & 0o7777);
}

/** Run file work; what the system refuses becomes `disk.full` or `storage.failed`. */
export function storing<T>(subject: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw storageError(subject, error);
  }
}

/** The same for work that takes a while. */
export async function storingLong<T>(subject: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw storageError(subject, error);
  }
}

/** Any error of storage as the user meets it. */
export function storageError(subject: string, error: unknown): VeldError {
  const known = toVeldError(error);
  if (known.code !== 'internal') return known;
  return new VeldError('storage.failed', `${subject}: ${known.message}`, { cause: error });
}
