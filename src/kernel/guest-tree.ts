/**
 * Files below the root of a VE, touched from the host. The ONLY module that may.
 *
 * The VE controls every name below its root, and may change it at any moment. So nothing here is looked up twice: each name is resolved once,
 * by openat2(2) with the VE's root as the root of the lookup, and everything after that happens through the descriptor.
 * - RESOLVE_IN_ROOT: absolute links and `..` stay inside. RESOLVE_NO_MAGICLINKS: no way out through /proc. RESOLVE_NO_XDEV: no mount (and
 *   thus no FUSE that never answers) is entered.
 * - A new file is made under a random name and renamed over the old one: what was there (link, FIFO, device) is replaced, never opened.
 * - A file to be read is first opened as a mere name (O_PATH, which runs no driver and no FIFO), looked at, and only then opened.
 */
import { randomBytes } from 'node:crypto';
import { close, closeSync, constants, fchmodSync, fchownSync, fstatSync, fsync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { foundAt, makeLink, namesIn, within, type GuestName } from './guest-names.ts';
import { toVeldError, VeldError } from '../lib/errors.ts';
import { run } from '../lib/run.ts';
import { openStack } from './mounts.ts';
import { isAlive, readProcess } from './process.ts';
import { mkdirat, O_CLOEXEC, O_PATH, openat2, renameat, RESOLVE, unlinkat } from './syscalls.ts';

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY, O_NOCTTY } = constants;

const INSIDE = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS | RESOLVE.NO_XDEV;

/** How long a look at many files may take, in milliseconds. */
const FIND_TIMEOUT = 20_000;

/** How often a lookup is tried that the kernel gave up because of renames under way. */
const ATTEMPTS = 64;

export interface GuestFileOwner {
  /** Permission bits; setuid, setgid and sticky are dropped. */
  mode: number;
  /** Host ids. */
  uid: number;
  gid: number;
}

/** All errors are VeldErrors: `path.refused` (its details hold `errno`, `ENOENT` among them), `disk.full`. */
export interface GuestRoot {
  /** Write a whole file, on disk when it resolves. A reader inside sees the old or the new content. The folder must exist. */
  writeFile(path: string, content: string | Uint8Array, owner: GuestFileOwner): Promise<void>;
  /** Read a regular file whole. The last name must not be a link. Refused when larger than `maxBytes`. */
  readFile(path: string, maxBytes: number): Promise<Buffer>;
  /** Make a link; what has its name is replaced, as by `writeFile`. */
  writeLink(path: string, target: string, owner: Pick<GuestFileOwner, 'uid' | 'gid'>): Promise<void>;
  /** What a name is; the name itself is not followed, links before it are. */
  look(path: string): Promise<GuestName | undefined>;
  /** Names in a folder. @throws VeldError `path.refused` when there are more than `most` */
  names(folder: string, most: number): Promise<string[]>;
  /** Whether the name exists, as whatever it is (also a link that leads nowhere). */
  exists(path: string): Promise<boolean>;
  /** Whether the path leads, links followed, to anything, a mount included. */
  leadsSomewhere(path: string): Promise<boolean>;
  /** Whether the path leads, links inside the root included, to a folder on the root's own file system. */
  folderExists(path: string): Promise<boolean>;
  /** Whether the path may lead to a program: to an ordinary file with an x bit, or into a mount that is not looked into from here. */
  programExists(path: string): Promise<boolean>;
  /**
   * Look for inodes by their numbers, as stat(2) gives them, below a folder, on its own file system; links are not followed below it.
   * @param inodes at most 2000
   * @param mounted the folder may be on another file system than the root
   * @returns a path of each that was found; none when there is no such folder
   */
  findInodes(folder: string, inodes: readonly bigint[], mounted?: boolean): Promise<Map<bigint, string>>;
  /** Take names of a file away that are in one folder. @param pattern of find(1)'s -name @returns how many; none when the folder is not there */
  removeNames(folder: string, pattern: string, inode: bigint): Promise<number>;
  /** Open the root of a mount, when it is this very one that the path leads to. @param mount its id in mountinfo @returns a descriptor, with which nothing has been asked of the file system yet */
  openMount(path: string, mount: number): number | undefined;
  /** Make a folder and those above it; existing ones stay as they are. For trees that nobody uses yet. */
  makeFolders(path: string, owner: GuestFileOwner): void;
  close(): void;
  /** The same in another thread: the kernel puts a file system away, which may take it long, when nobody has it any more. */
  closeAside(): Promise<void>;
}

/**
 * Open the root of a tree.
 * @param from path of a folder that Veld itself made (the upper of a stopped VE, a layer), several such above each other, lowest first (only to be read), or a process whose root it is; with `startTime` it
 *   is made sure that it is that very process
 * @throws VeldError `path.refused`
 */
export async function openGuestRoot(from: string | readonly string[] | { pid: number; startTime?: number }): Promise<GuestRoot> {
  let root: number;
  if (typeof from === 'string') {
    root = refusing(from, () => openSync(from, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  } else if (!('pid' in from)) {
    if (from.length === 1) return openGuestRoot(from[0]!);
    root = openStack(from);
  } else {
    const { pid, startTime = readProcess(pid)?.startTime ?? -1 } = from;
    root = refusing(`/proc/${pid}/root`, () => openSync(`/proc/${pid}/root`, O_PATH | O_DIRECTORY | O_CLOEXEC));
    // Looked at after the opening: whoever is alive now held the pid then, too.
    if (!isAlive({ pid, startTime })) {
      closeSync(root);
      throw new VeldError('path.refused', `Process ${pid} has ended; its root is gone.`, { details: { errno: 'ESRCH' } });
    }
  }
  return guestRoot(root);
}

function guestRoot(root: number): GuestRoot {
  let closed = false;
  const open = (dir: number, path: string, flags: number, mode = 0, resolve: number = INSIDE): number => {
    if (closed) throw new VeldError('internal', 'The guest root is closed already.');
    for (let left = ATTEMPTS; ; left -= 1) {
      try {
        return openat2(dir, path, { flags, mode, resolve });
      } catch (error) {
        // EAGAIN: a rename went on while `..` was resolved, so the kernel could not be sure.
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || left === 0) throw error;
      }
    }
  };

  /** Everything before the flush; what is returned is to be given to `settle` or `abandon`. */
  const prepare = (path: string, content: string | Uint8Array, owner: GuestFileOwner): Pending => {
    const { folder, name } = split(path);
    const dir = open(root, folder, O_RDONLY | O_DIRECTORY);
    const temporary = `.veld-${randomBytes(12).toString('hex')}`;
    let fd: number;
    try {
      fd = open(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    } catch (error) {
      closeSync(dir);
      throw error;
    }
    const pending = { dir, fd, temporary, name };
    try {
      writeAll(fd, content);
      fchownSync(fd, owner.uid, owner.gid);
      fchmodSync(fd, owner.mode & 0o777);
    } catch (error) {
      abandon(pending);
      throw error;
    }
    return pending;
  };

  return {
    async writeFile(path, content, owner) {
      await refusingAsync(path, async () => {
        const pending = prepare(path, content, owner);
        try {
          await flush(pending.fd);
          renameat(pending.dir, pending.temporary, pending.name);
        } catch (error) {
          abandon(pending);
          throw error;
        }
        release(pending);
      });
    },
    async readFile(path, maxBytes) {
      return refusing(path, () => {
        const named = open(root, path, O_PATH | O_NOFOLLOW);
        try {
          const stat = fstatSync(named);
          if (!stat.isFile()) throw refusal(path, 'it is not an ordinary file');
          if (stat.size > maxBytes) throw refusal(path, `it is larger than ${maxBytes} bytes`, 'EFBIG');
          // The link in our own /proc leads to the very file that was looked at. O_NONBLOCK: a lease that a process of the VE holds must not make us wait.
          const fd = openSync(`/proc/self/fd/${named}`, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
          try {
            return readAll(fd, path, stat.size, maxBytes);
          } finally {
            closeSync(fd);
          }
        } finally {
          closeSync(named);
        }
      });
    },
    async writeLink(path, target, owner) {
      refusing(path, () => {
        const { folder, name } = split(path);
        within(open(root, folder, O_RDONLY | O_DIRECTORY), (dir) => makeLink(dir, `.veld-${randomBytes(12).toString('hex')}`, name, target, owner));
      });
    },
    look: async (path) => (present(path, () => open(root, path, O_PATH | O_NOFOLLOW)) ? refusing(path, () => within(open(root, path, O_PATH | O_NOFOLLOW), foundAt)) : undefined),
    async names(folder, most) {
      const names = refusing(folder, () => within(open(root, folder, O_RDONLY | O_DIRECTORY), (dir) => namesIn(dir, most + 1)));
      if (names.length > most) throw refusal(folder, `it holds more than ${most} names`);
      return names;
    },
    async exists(path) {
      return present(path, () => open(root, path, O_PATH | O_NOFOLLOW));
    },
    async leadsSomewhere(path) {
      try {
        return present(path, () => open(root, path, O_PATH));
      } catch (error) {
        if (error instanceof VeldError && (error.details as { errno?: string } | undefined)?.errno === 'EXDEV') return true; // into a mount, which is not looked into
        throw error;
      }
    },
    async folderExists(path) {
      return present(path, () => open(root, path, O_PATH | O_DIRECTORY));
    },
    async programExists(path) {
      return refusing(path, () => {
        let named: number;
        try {
          named = open(root, path, O_PATH);
        } catch (error) {
          return (error as NodeJS.ErrnoException).code === 'EXDEV';
        }
        const { kind, mode } = within(named, foundAt);
        return kind === 'file' && (mode & 0o111) !== 0;
      });
    },
    openMount(path, mount) {
      return refusing(path, () => {
        const named = open(root, path, O_PATH | O_DIRECTORY, 0, INSIDE & ~RESOLVE.NO_XDEV);
        const id = /^mnt_id:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${named}`, 'utf8'))?.[1];
        if (Number(id) === mount) return named;
        closeSync(named);
        return undefined;
      });
    },
    async findInodes(folder, inodes, mounted = false) {
      const found = new Map<bigint, string>();
      if (inodes.length === 0) return found;
      let dir: number;
      try {
        dir = open(root, folder, O_PATH | O_DIRECTORY, 0, mounted ? INSIDE & ~RESOLVE.NO_XDEV : INSIDE);
      } catch {
        return found;
      }
      try {
        // The test of links makes find ask stat(2), whose numbers are not always those that a folder gives.
        const wanted = inodes.flatMap((inode, i) => [...(i > 0 ? ['-o'] : []), '-inum', String(inode)]);
        const { stdout } = await run('find', ['.', '-xdev', '-links', '+0', '(', ...wanted, ')', '-printf', String.raw`%i %P\0`], { cwd: `/proc/${process.pid}/fd/${dir}`, allow: true, timeout: FIND_TIMEOUT });
        for (const entry of stdout.split('\0')) {
          const [, inode, path] = /^(\d+) (.*)$/s.exec(entry) ?? [];
          if (inode !== undefined && path !== undefined && !found.has(BigInt(inode))) found.set(BigInt(inode), `${folder === '/' ? '' : folder}${path === '' ? '' : `/${path}`}` || '/');
        }
        return found;
      } finally {
        closeSync(dir);
      }
    },
    async removeNames(folder, pattern, inode) {
      let dir: number;
      try {
        dir = open(root, folder, O_PATH | O_DIRECTORY);
      } catch {
        return 0;
      }
      try {
        const { stdout } = await run('find', ['.', '-mindepth', '1', '-maxdepth', '1', '-type', 'f', '-name', pattern, '-inum', String(inode), '-printf', String.raw`%P\0`], { cwd: `/proc/${process.pid}/fd/${dir}`, allow: true, timeout: FIND_TIMEOUT });
        const names = stdout.split('\0').filter(Boolean);
        for (const name of names) unlinkat(dir, name);
        return names.length;
      } finally {
        closeSync(dir);
      }
    },
    makeFolders(path, owner) {
      refusing(path, () => {
        let dir = open(root, '.', O_PATH | O_DIRECTORY);
        try {
          for (const name of path.split('/').filter((part) => part !== '' && part !== '.')) {
            if (name === '..') throw refusal(path, 'it holds ..');
            const next = makeFolder(dir, name, owner);
            closeSync(dir);
            dir = next;
          }
        } finally {
          closeSync(dir);
        }
      });
    },
    close() {
      if (!closed) closeSync(root);
      closed = true;
    },
    async closeAside() {
      if (closed) return;
      closed = true;
      await promisify(close)(root);
    },
  };

  /** A descriptor of the folder `name`, made if it is not there. Links are not followed here: the tree is ours alone. */
  function makeFolder(dir: number, name: string, owner: GuestFileOwner): number {
    const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
    try {
      mkdirat(dir, name, 0o700);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return open(dir, name, flags);
      throw error;
    }
    const made = open(dir, name, flags);
    fchownSync(made, owner.uid, owner.gid);
    fchmodSync(made, owner.mode & 0o777);
    return made;
  }
}

/** A file that is written, and not yet in its place. */
interface Pending {
  dir: number;
  fd: number;
  temporary: string;
  name: string;
}

function release({ fd, dir }: Pending): void {
  closeSync(fd);
  closeSync(dir);
}

function abandon(pending: Pending): void {
  try {
    unlinkat(pending.dir, pending.temporary);
  } catch {
    // The VE took it away, or put a folder of its own there: nothing of ours is left.
  }
  release(pending);
}

const flush = promisify(fsync);

function split(path: string): { folder: string; name: string } {
  const slash = path.lastIndexOf('/');
  const name = path.slice(slash + 1);
  if (name === '' || name === '.' || name === '..') throw refusal(path, 'it does not name a file');
  return { folder: slash <= 0 ? '/' : path.slice(0, slash), name };
}

function writeAll(fd: number, content: string | Uint8Array): void {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
}

/** The file's content, read to its end: it may have grown since it was looked at, but not beyond the limit. */
function readAll(fd: number, path: string, size: number, maxBytes: number): Buffer {
  const chunks: Buffer[] = [];
  let total = 0;
  for (let next = size + 1; ; next = 65536) {
    const chunk = Buffer.alloc(Math.min(next, maxBytes - total + 1));
    const count = readSync(fd, chunk);
    if (count === 0) return Buffer.concat(chunks);
    total += count;
    if (total > maxBytes) throw refusal(path, `it is larger than ${maxBytes} bytes`, 'EFBIG');
    chunks.push(chunk.subarray(0, count));
  }
}

function present(path: string, open: () => number): boolean {
  return refusing(path, () => {
    try {
      closeSync(open());
      return true;
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
      throw error;
    }
  });
}

function refusal(path: string, why: string, errno = 'EINVAL', cause?: unknown): VeldError {
  const shown = path.length > 200 ? `${path.slice(0, 200)}...` : path;
  return new VeldError('path.refused', `The path ${JSON.stringify(shown)} in the VE was refused: ${why}.`, { details: { errno }, cause });
}

const WHY: Record<string, string> = {
  ENOENT: 'it does not exist', ENOTDIR: 'a part of it is not a folder', EISDIR: 'it is a folder', EXDEV: 'it leads into another mount', ELOOP: 'its links go round in circles',
  ENAMETOOLONG: 'its name is too long', EAGAIN: 'it is busy', ENOTEMPTY: 'it is a folder', EEXIST: 'it is a folder',
};

function refused(path: string, error: unknown): VeldError {
  const known = toVeldError(error);
  if (known.code !== 'internal' || error instanceof VeldError) return known;
  const { code = 'EIO', message } = error as NodeJS.ErrnoException;
  return refusal(path, WHY[code] ?? message, code, error);
}

function refusing<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw refused(path, error);
  }
}

async function refusingAsync<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw refused(path, error);
  }
}
