/**
 * System calls that Node does not offer, through koffi. The only module that declares foreign functions.
 *
 * Why these calls are safe, each and all:
 * - Prototypes are those of the C library in this process (`load(null)`: nothing else is loaded). `syscall` is called with a fixed list of
 *   longs and pointers; on x86_64 and arm64 variadic integer arguments travel in the same registers as fixed ones.
 * - Buffers are ArrayBuffers made here (their memory never moves) and are referenced by a local variable until the call has returned;
 *   all calls are synchronous, so the kernel never writes into memory that could be gone.
 * - `str` arguments are copied by koffi into memory of its own for the time of the call; strings with a NUL are refused first.
 * - errno is read in the next statement on the same thread; no other C call is made in between.
 * koffi is loaded at the first call: a process that needs none of this (the command line) does not pay for it.
 */
import { createRequire } from 'node:module';
import { closeSync } from 'node:fs';
import { endianness } from 'node:os';
import { getSystemErrorName } from 'node:util';
import type KoffiModule from 'koffi';

type Koffi = typeof KoffiModule;
type Native = (...args: unknown[]) => number | bigint;

/** Numbers from asm-generic/unistd.h; from 424 on x86_64 and arm64 share them. */
const NR = { pidfd_send_signal: 424, open_tree: 428, move_mount: 429, pidfd_open: 434, openat2: 437, pidfd_getfd: 438, mount_setattr: 442 } as const;

export const AT_FDCWD = -100;
/** Flags of open(2) that Node's constants lack, or that differ between machines (arm64 and x86_64: asm/fcntl.h). */
export const O_PATH = 0o10000000;
export const O_CLOEXEC = 0o2000000;
/** Flags of openat2(2), linux/openat2.h. */
export const RESOLVE = { NO_XDEV: 1, NO_MAGICLINKS: 2, NO_SYMLINKS: 4, BENEATH: 8, IN_ROOT: 16 } as const;

let library: { koffi: Koffi; c: ReturnType<typeof declare> } | undefined;

function declare(koffi: Koffi) {
  const lib = koffi.load(null);
  const syscall = (...types: string[]): Native => lib.func('syscall', 'long', ['long', ...types]);
  return {
    pidfdOpen: syscall('long', 'long'),
    pidfdSendSignal: syscall('long', 'long', 'void *', 'long'),
    pidfdGetfd: syscall('long', 'long', 'long'),
    openat2: syscall('long', 'str', 'void *', 'size_t'),
    openTree: syscall('long', 'str', 'long'),
    moveMount: syscall('long', 'str', 'long', 'str', 'long'),
    umount2: lib.func('int umount2(str, int)'),
    unshare: lib.func('int unshare(int)'),
    setns: lib.func('int setns(int, int)'),
    fchdir: lib.func('int fchdir(int)'),
    mountSetattr: syscall('long', 'str', 'long', 'void *', 'size_t'),
    getsockopt: lib.func('int getsockopt(int, int, int, void *, void *)'),
    setsockopt: lib.func('int setsockopt(int, int, int, void *, uint32_t)'),
    socket: lib.func('int socket(int, int, int)'),
    bind: lib.func('int bind(int, void *, uint32_t)'),
    listen: lib.func('int listen(int, int)'),
    accept4: lib.func('int accept4(int, void *, void *, int)'),
    recvmsg: lib.func('int64_t recvmsg(int, void *, int)'),
    // ioctl is variadic in C; its third argument travels in a register like a fixed one (see above).
    ioctl: lib.func('int ioctl(int, unsigned long, void *)'),
    // fcntl is variadic, too.
    fcntl: lib.func('int fcntl(int, int, long)'),
    poll: lib.func('int poll(void *, unsigned long, int)'),
    pipe2: lib.func('int pipe2(void *, int)'),
    mkdirat: lib.func('int mkdirat(int, str, uint32_t)'),
    renameat: lib.func('int renameat(int, str, int, str)'),
    unlinkat: lib.func('int unlinkat(int, str, int)'),
  };
}

function native(): NonNullable<typeof library> {
  if (library === undefined) {
    if (process.platform !== 'linux' || endianness() !== 'LE' || !['x64', 'arm64'].includes(process.arch)) {
      throw new Error(`Veld runs on Linux on x86_64 and arm64, not on ${process.platform} on ${process.arch}`);
    }
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    library = { koffi, c: declare(koffi) };
  }
  return library;
}

/** The result, or an error that looks like Node's own (`code`, `errno`, `syscall`, `path`). */
function checked(syscall: string, result: number | bigint, path?: string): number {
  const value = Number(result);
  if (value !== -1) return value;
  const errno = native().koffi.errno();
  const code = getSystemErrorName(-errno);
  throw Object.assign(new Error(`${code}: ${syscall}${path === undefined ? '' : ` '${path}'`}`), { code, errno: -errno, syscall, ...(path !== undefined && { path }) });
}

function text(value: string): string {
  if (value.includes('\0')) throw Object.assign(new Error('a path holds a NUL character'), { code: 'EINVAL', syscall: 'open' });
  return value;
}

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
 * @param resolve bits of {@link RESOLVE}
 */
export function openat2(dirfd: number, path: string, options: { flags: number; mode?: number; resolve: number }): number {
  // Safe: struct open_how is three 64-bit words (flags, mode, resolve), read only by the kernel, 24 bytes long as the last argument says.
  const how = new BigUint64Array([BigInt(options.flags | O_CLOEXEC), BigInt(options.mode ?? 0), BigInt(options.resolve)].map((v) => BigInt.asUintN(64, v)));
  return checked('openat2', native().c.openat2(NR.openat2, dirfd, text(path), how, how.byteLength), path);
}

/** mkdirat(2). */
export function mkdirat(dirfd: number, name: string, mode: number): void {
  // Safe: integers and a copied string.
  checked('mkdirat', native().c.mkdirat(dirfd, text(name), mode), name);
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

/** getsockopt(SOL_SOCKET, SO_PEERCRED): who connected, as it was at the time of connect(2). */
export function getPeerCredentials(fd: number): { pid: number; uid: number; gid: number } {
  // Safe: struct ucred is three 32-bit integers; the length word says 12 bytes, so the kernel writes no more.
  const ucred = new Int32Array(new ArrayBuffer(12));
  const length = Uint32Array.of(12);
  checked('getsockopt', native().c.getsockopt(fd, 1, 17, ucred, length));
  return { pid: ucred[0] as number, uid: (ucred[1] as number) >>> 0, gid: (ucred[2] as number) >>> 0 };
}

/**
 * Take a TCP connection out of repair mode (TCP_REPAIR, linux/tcp.h), in which criu looks into it and nobody can read from or write to it.
 * @param fd any descriptor
 * @returns whether it was such a connection. Needs CAP_NET_ADMIN over the socket's network namespace.
 */
export function endTcpRepair(fd: number): boolean {
  const IPPROTO_TCP = 6, TCP_REPAIR = 19;
  // Safe: the option is one int, and the length word says 4 bytes.
  const value = new Int32Array(new ArrayBuffer(4));
  if (native().c.getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, value, Uint32Array.of(4)) !== 0 || value[0] === 0) return false;
  // Safe: reads 4 bytes of the array, which holds the 0 of TCP_REPAIR_OFF.
  value[0] = 0;
  checked('setsockopt', native().c.setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, value, 4));
  return true;
}

/** Listen on a new unix stream socket, non-blocking. @param path at most 107 bytes */
export function listenUnix(path: string): number {
  const name = Buffer.from(text(path));
  if (name.length > 107) throw Object.assign(new Error(`the path of a socket has at most 107 bytes: ${path}`), { code: 'ENAMETOOLONG', syscall: 'bind', path });
  const SOCK_STREAM = 1, SOCK_NONBLOCK = 0o4000, AF_UNIX = 1;
  // Safe: integers.
  const fd = checked('socket', native().c.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | O_CLOEXEC, 0));
  try {
    // Safe: sockaddr_un is a 16-bit family and 108 bytes of path; the buffer has all 110, the path ends in a zero byte.
    const address = new Uint8Array(new ArrayBuffer(110));
    address[0] = AF_UNIX;
    address.set(name, 2);
    checked('bind', native().c.bind(fd, address, 110), path);
    checked('listen', native().c.listen(fd, 4), path);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Accept a connection, non-blocking, close-on-exec. Throws EAGAIN when none waits. */
export function acceptUnix(fd: number): number {
  // Safe: null pointers mean that the peer's address is not asked for.
  return checked('accept4', native().c.accept4(fd, null, null, 0o4000 | O_CLOEXEC));
}

/**
 * One recvmsg(2) that takes descriptors (SCM_RIGHTS) along; they are close-on-exec.
 * @returns bytes received (0: the peer closed), the descriptors, and whether some were cut off
 */
export function receiveDescriptors(fd: number): { bytes: number; descriptors: number[]; truncated: boolean } {
  // Safe: one ArrayBuffer holds msghdr (offset 0, 56 bytes), its iovec (64), the data (128, 1024 bytes) and the control buffer (1280, 256 bytes);
  // the pointers written into it point into itself, so they are valid as long as `memory` is, which is used again after the call.
  // Layout of a 64-bit little-endian system: name*, namelen, iov*, iovlen, control*, controllen, flags. The control buffer is 8-aligned.
  const memory = new ArrayBuffer(1536);
  const { koffi, c } = native();
  const base = koffi.address(memory);
  const view = new DataView(memory);
  const pointer = (at: number, value: bigint): void => view.setBigUint64(at, value, true);
  pointer(16, base + 64n);
  pointer(24, 1n);
  pointer(32, base + 1280n);
  pointer(40, 256n);
  pointer(64, base + 128n);
  pointer(72, 1024n);
  const MSG_DONTWAIT = 0x40, MSG_CMSG_CLOEXEC = 0x40000000, MSG_CTRUNC = 8;
  const bytes = checked('recvmsg', c.recvmsg(fd, memory, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  const descriptors: number[] = [];
  const end = 1280 + Number(view.getBigUint64(40, true));
  // cmsghdr: 64-bit length (with its 16 bytes of header), 32-bit level, 32-bit type; the next one begins at the next multiple of 8.
  for (let at = 1280; at + 16 <= end;) {
    const length = Number(view.getBigUint64(at, true));
    if (length < 16 || at + length > end) break;
    const SOL_SOCKET = 1, SCM_RIGHTS = 1;
    if (view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SCM_RIGHTS) {
      for (let d = at + 16; d + 4 <= at + length; d += 4) descriptors.push(view.getInt32(d, true));
    }
    at += Math.ceil(length / 8) * 8;
  }
  return { bytes, descriptors, truncated: (view.getInt32(48, true) & MSG_CTRUNC) !== 0 };
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

/** mount_setattr(2) on a detached mount: make it read-only and map its owners through a user namespace. */
export function setIdmap(mountFd: number, userNamespaceFd: number): void {
  const MOUNT_ATTR_RDONLY = 0x1n, MOUNT_ATTR_IDMAP = 0x100000n, AT_EMPTY_PATH = 0x1000;
  // Safe: struct mount_attr is four 64-bit words (set, clear, propagation, userns_fd), 32 bytes as the last argument says, read only.
  const attributes = BigUint64Array.of(MOUNT_ATTR_RDONLY | MOUNT_ATTR_IDMAP, 0n, 0n, BigInt(userNamespaceFd));
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
