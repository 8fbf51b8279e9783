/** System calls that Node does not offer. Why they are safe: see native.ts. */
import { closeSync } from 'node:fs';
import { checked, native, text } from './native.ts';

/** Numbers from asm-generic/unistd.h; from 424 on x86_64 and arm64 share them. */
const NR = { pidfd_send_signal: 424, open_tree: 428, move_mount: 429, fsopen: 430, fsconfig: 431, fsmount: 432, fspick: 433, pidfd_open: 434, openat2: 437, pidfd_getfd: 438, mount_setattr: 442 } as const;

/** These differ: asm/unistd_64.h, asm-generic/unistd.h. */
const NR_MMAP = process.arch === 'arm64' ? 222 : 9, NR_MUNMAP = process.arch === 'arm64' ? 215 : 11;

export const AT_FDCWD = -100;
/** Flags of open(2) that Node's constants lack, or that differ between machines (arm64 and x86_64: asm/fcntl.h). */
export const O_PATH = 0o10000000;
export const O_CLOEXEC = 0o2000000;
/** Flags of openat2(2), linux/openat2.h. */
export const RESOLVE = { NO_XDEV: 1, NO_MAGICLINKS: 2, NO_SYMLINKS: 4, BENEATH: 8, IN_ROOT: 16 } as const;

/** A descriptor for a process: becomes readable when it ends. Throws ESRCH. Close-on-exec is always set. */
export function pidfdOpen(pid: number): number {
  // Safe: two integers.
  return checked('pidfd_open', native().c.pidfdOpen(NR.pidfd_open, pid, 0));
}

/** Send a signal to the process behind the descriptor. Throws ESRCH when it has ended. */
export function pidfdSendSignal(pidfd: number, signal: number): void {
  // Safe: integers and a null pointer; the kernel then fills siginfo as kill(2) does.
  checked('pidfd_send_signal', native().c.pidfdSendSignal(NR.pidfd_send_signal, pidfd, signal, null, 0));
}

/** A duplicate of a descriptor of another process (the very same open file), close-on-exec. Throws ESRCH, EBADF, EPERM. */
export function pidfdGetfd(pidfd: number, fd: number): number {
  // Safe: three integers; the last is reserved and must be 0.
  return checked('pidfd_getfd', native().c.pidfdGetfd(NR.pidfd_getfd, pidfd, fd, 0));
}

/** Take flock(2)'s exclusive lock on an open file, without waiting. It is gone when the file is closed, by the end of the process at the latest. Throws EWOULDBLOCK. */
export function flockNow(fd: number): void {
  const LOCK_EX = 2, LOCK_NB = 4;
  // Safe: two integers.
  checked('flock', native().c.flock(fd, LOCK_EX | LOCK_NB));
}

/** How the kernel finds a file without a name: `fhandle-type` and `f_handle` in proc_pid_fdinfo(5), struct file_handle of open_by_handle_at(2). */
export interface FileHandle {
  type: number;
  bytes: Uint8Array;
}

/** ESTALE of asm-generic/errno.h, for which libuv, and with it Node, has no name. */
const ESTALE = -116;

/** Whether a handle leads to a file still. @param fd of anything in its file system */
export function isReachable(fd: number, { type, bytes }: FileHandle): boolean {
  // Safe: two 32-bit words (length, type) and as many bytes as the first says, read only.
  const handle = Buffer.alloc(8 + bytes.length);
  handle.writeUInt32LE(bytes.length, 0);
  handle.writeInt32LE(type, 4);
  handle.set(bytes, 8);
  try {
    closeSync(checked('open_by_handle_at', native().c.openByHandleAt(fd, handle, O_PATH | O_CLOEXEC)));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).errno === ESTALE) return false;
    throw error;
  }
}

/** End a watch of an inotify instance; whoever reads it is told so (IN_IGNORED). Throws EINVAL when it has no such watch. */
export function endWatch(fd: number, watch: number): void {
  // Safe: two integers.
  checked('inotify_rm_watch', native().c.inotifyRmWatch(fd, watch));
}

/** Set O_NONBLOCK on an open file: for everybody who shares it. */
export function setNonBlocking(fd: number): void {
  const F_GETFL = 3, F_SETFL = 4, O_NONBLOCK = 0o4000;
  // Safe: integers.
  const flags = checked('fcntl', native().c.fcntl(fd, F_GETFL, 0));
  checked('fcntl', native().c.fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

/** What a descriptor is ready for at this moment; does not wait. `hungUp`: nobody has the other side open. */
export function pollNow(fd: number): { writable: boolean; hungUp: boolean } {
  const POLLOUT = 4, POLLHUP = 16;
  // Safe: one struct pollfd (32-bit fd, 16-bit events, 16-bit revents), which lives until the call is over; a timeout of 0 never waits.
  const memory = new ArrayBuffer(8);
  const view = new DataView(memory);
  view.setInt32(0, fd, true);
  view.setInt16(4, POLLOUT, true);
  checked('poll', native().c.poll(memory, 1, 0));
  const events = view.getInt16(6, true);
  return { writable: (events & POLLOUT) !== 0, hungUp: (events & POLLHUP) !== 0 };
}

/**
 * Open relative to a folder, with a say in how the path is resolved.
 * @param path text, or the bytes of a path that need not be UTF-8
 * @param resolve bits of {@link RESOLVE}
 */
export function openat2(dirfd: number, path: string | Uint8Array, options: { flags: number; mode?: number; resolve: number }): number {
  // Safe: struct open_how is three 64-bit words (flags, mode, resolve), read only by the kernel, 24 bytes long as the last argument says.
  const how = new BigUint64Array([BigInt(options.flags | O_CLOEXEC), BigInt(options.mode ?? 0), BigInt(options.resolve)].map((v) => BigInt.asUintN(64, v)));
  if (typeof path !== 'string') return checked('openat2', native().c.openat2Bytes(NR.openat2, dirfd, terminated(path), how, how.byteLength), Buffer.from(path).toString());
  return checked('openat2', native().c.openat2(NR.openat2, dirfd, text(path), how, how.byteLength), path);
}

/** Bytes that C reads as a string. The copy must be referenced until the call is over: it is, as an argument. */
function terminated(bytes: Uint8Array): Uint8Array {
  if (bytes.includes(0)) throw Object.assign(new Error('a name holds a NUL character'), { code: 'EINVAL', syscall: 'open' });
  const copy = new Uint8Array(bytes.length + 1);
  copy.set(bytes);
  return copy;
}

/** Longest value, and longest list of names, of extended attributes, in bytes: XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h. */
const XATTR_MAX = 65536;

/** An extended attribute of an open file; undefined when it has none of this name, or its file system has none at all. */
export function getXattr(fd: number, name: string): Buffer | undefined {
  // Safe: the kernel writes at most as many bytes as the buffer has, which lives until the call is over.
  const value = Buffer.alloc(XATTR_MAX);
  try {
    return value.subarray(0, checked('fgetxattr', native().c.fgetxattr(fd, text(name), value, value.length)));
  } catch (error) {
    if (['ENODATA', 'EOPNOTSUPP'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** Names of all extended attributes of an open file that this process may know; each character is one byte. */
export function listXattrs(fd: number): string[] {
  try {
    // Safe: as in getXattr. The list is short nearly always, and is asked for again when it is not.
    for (const size of [1024, XATTR_MAX]) {
      const names = Buffer.alloc(size);
      const length = native().c.flistxattr(fd, names, size);
      if (Number(length) === -1 && size !== XATTR_MAX) continue;
      return names.toString('latin1', 0, checked('flistxattr', length)).split('\0').slice(0, -1);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EOPNOTSUPP') throw error;
  }
  return [];
}

/** Give an open file an extended attribute, or another value of it. */
export function setXattr(fd: number, name: string, value: Uint8Array): void {
  // Safe: the kernel reads as many bytes as the buffer has, which lives until the call is over.
  checked('fsetxattr', native().c.fsetxattr(fd, text(name), value, value.length, 0));
}

/** Take an extended attribute of an open file away. @param name each character is one byte */
export function removeXattr(fd: number, name: string): void {
  // Safe: an integer and a copied string.
  checked('fremovexattr', native().c.fremovexattr(fd, terminated(Buffer.from(name, 'latin1'))));
}

/** mkdirat(2). */
export function mkdirat(dirfd: number, name: string, mode: number): void {
  // Safe: integers and a copied string.
  checked('mkdirat', native().c.mkdirat(dirfd, text(name), mode), name);
}

/** Where the link behind a descriptor (O_PATH, O_NOFOLLOW) leads: readlinkat(2). */
export function readLink(fd: number): string {
  // Safe: the kernel writes at most as many bytes as the array has, which lives until the call is over.
  const bytes = new Uint8Array(4096);
  return Buffer.from(bytes.subarray(0, checked('readlinkat', native().c.readlinkat(fd, '', bytes, bytes.length) as number))).toString();
}

/** renameat(2) within one folder. */
export function renameat(dirfd: number, from: string, to: string): void {
  // Safe: integers and copied strings.
  checked('renameat', native().c.renameat(dirfd, text(from), dirfd, text(to)), to);
}

/** unlinkat(2) of something that is not a folder. */
export function unlinkat(dirfd: number, name: string): void {
  // Safe: integers and a copied string.
  checked('unlinkat', native().c.unlinkat(dirfd, text(name), 0), name);
}

/** A pipe: descriptors of its reading and its writing end. Both are close-on-exec. Throws EMFILE, ENFILE. */
export function makePipe(): { read: number; write: number } {
  // Safe: the kernel writes exactly two ints into the array, which lives until the call is over.
  const ends = new Int32Array(2);
  checked('pipe2', native().c.pipe2(ends, O_CLOEXEC));
  return { read: ends[0] as number, write: ends[1] as number };
}

/** Tell a terminal its size (TIOCSWINSZ, asm-generic/ioctls.h). */
export function setWindowSize(fd: number, columns: number, rows: number): void {
  // Safe: struct winsize is four 16-bit words (rows, columns, and two that nobody uses), read only.
  checked('ioctl', native().c.ioctl(fd, 0x5414, Uint16Array.of(rows, columns, 0, 0)));
}

/** A detached copy of the mount at `path` (open_tree(2) with OPEN_TREE_CLONE), of this mount only. It goes away with the descriptor. */
export function cloneMount(path: string): number {
  // Safe: integers and a copied string.
  return checked('open_tree', native().c.openTree(NR.open_tree, AT_FDCWD, text(path), 1 | O_CLOEXEC), path);
}

/** mount_setattr(2) on a detached mount: map its owners through a user namespace. @param readOnly make it read-only, too */
export function setIdmap(mountFd: number, userNamespaceFd: number, readOnly: boolean): void {
  const MOUNT_ATTR_RDONLY = 0x1n, MOUNT_ATTR_IDMAP = 0x100000n, AT_EMPTY_PATH = 0x1000;
  // Safe: struct mount_attr is four 64-bit words (set, clear, propagation, userns_fd), 32 bytes as the last argument says, read only.
  const attributes = BigUint64Array.of(MOUNT_ATTR_IDMAP | (readOnly ? MOUNT_ATTR_RDONLY : 0n), 0n, 0n, BigInt(userNamespaceFd));
  checked('mount_setattr', native().c.mountSetattr(NR.mount_setattr, mountFd, '', AT_EMPTY_PATH, attributes, attributes.byteLength));
}

/** Attach a detached mount at `target` of this process's mount namespace. */
export function attachMount(mountFd: number, target: string): void {
  const MOVE_MOUNT_F_EMPTY_PATH = 4;
  // Safe: integers and copied strings.
  checked('move_mount', native().c.moveMount(NR.move_mount, mountFd, '', AT_FDCWD, text(target), MOVE_MOUNT_F_EMPTY_PATH), target);
}

/** Make a detached mount read-only (and nosuid, nodev, noexec) and private: nothing that is mounted on it, or taken from it, shows where it was copied from. */
export function closeOffMount(mountFd: number): void {
  const RDONLY_NOSUID_NODEV_NOEXEC = 0xfn, MS_PRIVATE = 1n << 18n, AT_EMPTY_PATH = 0x1000;
  // Safe: struct mount_attr as in setIdmap.
  const attributes = BigUint64Array.of(RDONLY_NOSUID_NODEV_NOEXEC, 0n, MS_PRIVATE, 0n);
  checked('mount_setattr', native().c.mountSetattr(NR.mount_setattr, mountFd, '', AT_EMPTY_PATH, attributes, attributes.byteLength));
}

/**
 * Give the file system behind a descriptor of a mount's root other options; for many, what is not named becomes what it is by default.
 * @param options each with its value
 */
export function reconfigure(rootFd: number, options: readonly (readonly [string, string])[]): void {
  const FSPICK_CLOEXEC = 1, FSPICK_EMPTY_PATH = 8, SET_STRING = 1, RECONFIGURE = 7;
  // Safe: integers and copied strings, and null pointers where the command has no argument.
  const fd = checked('fspick', native().c.fspick(NR.fspick, rootFd, '', FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));
  try {
    for (const [name, value] of options) checked('fsconfig', native().c.fsconfig(NR.fsconfig, fd, SET_STRING, text(name), text(value), 0));
    checked('fsconfig', native().c.fsconfig(NR.fsconfig, fd, RECONFIGURE, null, null, 0));
  } finally {
    closeSync(fd);
  }
}

/**
 * Make a file system that is mounted nowhere: it goes when its last descriptor is closed. Read-only, nosuid, nodev, noexec.
 * @param options each with its value, of at most 255 bytes
 * @returns descriptor of the mount
 */
export function mountDetached(type: string, options: readonly (readonly [string, string])[]): number {
  const FSOPEN_CLOEXEC = 1, FSMOUNT_CLOEXEC = 1, SET_STRING = 1, CREATE = 6, RDONLY_NOSUID_NODEV_NOEXEC = 0xf;
  // Safe: integers and copied strings, and null pointers where the command has no argument.
  const fd = checked('fsopen', native().c.fsopen(NR.fsopen, text(type), FSOPEN_CLOEXEC));
  try {
    for (const [name, value] of options) checked('fsconfig', native().c.fsconfig(NR.fsconfig, fd, SET_STRING, text(name), text(value), 0));
    checked('fsconfig', native().c.fsconfig(NR.fsconfig, fd, CREATE, null, null, 0));
    return checked('fsmount', native().c.fsmount(NR.fsmount, fd, FSMOUNT_CLOEXEC, RDONLY_NOSUID_NODEV_NOEXEC));
  } finally {
    closeSync(fd);
  }
}

/**
 * Attach a detached mount over the file, folder or mount behind a descriptor.
 * @param beneath put it beneath that topmost mount instead, so that it shows when the upper one goes (Linux 6.5; EINVAL before, and where a
 *   user namespace has locked the upper one)
 */
export function attachMountAt(mountFd: number, targetFd: number, beneath = false): void {
  const F_EMPTY_PATH = 4, T_EMPTY_PATH = 0x40, BENEATH = 0x200;
  // Safe: integers and copied strings.
  checked('move_mount', native().c.moveMount(NR.move_mount, mountFd, '', targetFd, '', F_EMPTY_PATH | T_EMPTY_PATH | (beneath ? BENEATH : 0)));
}

/** Take the topmost mount at `path` away, now, even when it is in use or its server is dead or hangs: its file system is not asked (MNT_DETACH). */
export function detachMount(path: string): void {
  // Safe: an integer and a copied string.
  checked('umount2', native().c.umount2(text(path), 2), path);
}

/**
 * Enter a mount namespace; root and working folder become its root. For short-lived programs with nothing else to do: only the calling thread moves,
 * and whatever is opened by path afterwards is that namespace's.
 */
export function enterMountNamespace(fd: number): void {
  const CLONE_FS = 0x200, CLONE_NEWNS = 0x20000;
  // Safe: integers. Threads share root and working folder, and the kernel lets no thread of several change namespaces together with them.
  checked('unshare', native().c.unshare(CLONE_FS));
  checked('setns', native().c.setns(fd, CLONE_NEWNS));
}

/** Make the folder behind a descriptor the calling thread's working folder. */
export function changeFolder(fd: number): void {
  // Safe: an integer.
  checked('fchdir', native().c.fchdir(fd));
}

/** What happened to a watched descriptor. */
export interface Readiness {
  readable: boolean;
  writable: boolean;
}

/** A watch on a descriptor, carried out by Node's own event loop (epoll): no thread waits. */
export interface Watch {
  /** Watch for these from now on; for none: pause. */
  want(events: Readiness): void;
  /** End the watch. Must come before the descriptor is closed. May be called again. */
  close(): void;
}

/**
 * Watch a descriptor that no other part of Node watches. Sets O_NONBLOCK on it. The watch keeps the process alive until it is closed.
 * @param onEvent called with what is possible now; on an error condition with everything, so that the next read or write tells the error
 */
export function watchDescriptor(fd: number, events: Readiness, onEvent: (now: Readiness) => void): Watch {
  // Safe: libuv owns the handle's memory until its close callback; `handle` is held by this closure until close(), and by `watches` against the
  // garbage collector even when nobody holds the Watch.
  type Callback = (status: number, now?: Readiness) => void;
  type Handle = { start(events: Readiness, callback: Callback): void; stop(): void; close(): void };
  const callback: Callback = (status, now) => onEvent(status < 0 || now === undefined ? { readable: true, writable: true } : now);
  const poll = native().koffi.node.poll as unknown as (fd: number, events: Readiness, callback: Callback) => Handle;
  const handle = poll(fd, events, callback);
  let closed = false;
  const watch: Watch = {
    want(next) {
      if (closed) return;
      if (next.readable || next.writable) handle.start(next, callback);
      else handle.stop();
    },
    close() {
      if (closed) return;
      closed = true;
      watches.delete(watch);
      handle.close();
    },
  };
  watches.add(watch);
  return watch;
}

const watches = new Set<Watch>();

/**
 * End this process at once. process.exit() first waits for compilations in the background, and one that waits for the garbage collector is waited for for
 * ever (V8's CollectionBarrier::AwaitCollectionBackground below Node's WorkerThreadsTaskRunner::Shutdown; seen with Node 24.21).
 */
export function exitNow(status: number): never {
  // Safe: an integer; the call does not return.
  native().c.exit(status);
  throw new Error('_exit(2) returned');
}

/** Whether the kernel can make an anonymous mapping of a type (MAP_SHARED, ... of linux/mman.h). It makes one, and takes it away. */
export function probeMapping(type: number): boolean {
  const MAP_ANONYMOUS = 0x20, PAGE = 4096;
  // Safe: integers. Nobody reads or writes the mapping (PROT_NONE), and what is taken away is what was just made, at an address that the kernel chose.
  const address = native().c.mmap(NR_MMAP, 0, PAGE, 0, type | MAP_ANONYMOUS, -1, 0);
  if (Number(address) === -1) return false;
  checked('munmap', native().c.munmap(NR_MUNMAP, address, PAGE));
  return true;
}
