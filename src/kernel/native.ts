/**
 * The C library through koffi: the only module that declares its functions (those of libnftables: libnftables.ts). Those who call them are syscalls.ts, unix-sockets.ts, packet-socket.ts, quota.ts, project.ts and bpf.ts.
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
import { endianness } from 'node:os';
import { getSystemErrorName } from 'node:util';
import type KoffiModule from 'koffi';

type Koffi = typeof KoffiModule;
type Native = (...args: unknown[]) => number | bigint;

let library: { koffi: Koffi; c: ReturnType<typeof declare> } | undefined;

function declare(koffi: Koffi) {
  const lib = koffi.load(null);
  const syscall = (...types: string[]): Native => lib.func('syscall', 'long', ['long', ...types]);
  return {
    pidfdOpen: syscall('long', 'long'),
    pidfdSendSignal: syscall('long', 'long', 'void *', 'long'),
    pidfdGetfd: syscall('long', 'long', 'long'),
    openat2: syscall('long', 'str', 'void *', 'size_t'),
    // The same with a path that is bytes, NUL at their end: names of files need not be UTF-8.
    openat2Bytes: syscall('long', 'void *', 'void *', 'size_t'),
    fgetxattr: lib.func('int64_t fgetxattr(int, str, void *, size_t)'),
    fsetxattr: lib.func('int fsetxattr(int, str, void *, size_t, int)'),
    flistxattr: lib.func('int64_t flistxattr(int, void *, size_t)'),
    fremovexattr: lib.func('int fremovexattr(int, void *)'),
    openTree: syscall('long', 'str', 'long'),
    moveMount: syscall('long', 'str', 'long', 'str', 'long'),
    umount2: lib.func('int umount2(str, int)'),
    unshare: lib.func('int unshare(int)'),
    setns: lib.func('int setns(int, int)'),
    fchdir: lib.func('int fchdir(int)'),
    mountSetattr: syscall('long', 'str', 'long', 'void *', 'size_t'),
    fspick: syscall('long', 'str', 'long'),
    fsopen: syscall('str', 'long'),
    fsmount: syscall('long', 'long', 'long'),
    fsconfig: syscall('long', 'long', 'str', 'str', 'long'),
    bpf: syscall('long', 'void *', 'long'),
    mmap: syscall('long', 'size_t', 'long', 'long', 'long', 'long'),
    munmap: syscall('long', 'size_t'),
    getsockopt: lib.func('int getsockopt(int, int, int, void *, void *)'),
    setsockopt: lib.func('int setsockopt(int, int, int, void *, uint32_t)'),
    socket: lib.func('int socket(int, int, int)'),
    bind: lib.func('int bind(int, void *, uint32_t)'),
    listen: lib.func('int listen(int, int)'),
    accept4: lib.func('int accept4(int, void *, void *, int)'),
    connect: lib.func('int connect(int, void *, uint32_t)'),
    send: lib.func('int64_t send(int, void *, size_t, int)'),
    recv: lib.func('int64_t recv(int, void *, size_t, int)'),
    sendmsg: lib.func('int64_t sendmsg(int, void *, int)'),
    recvmsg: lib.func('int64_t recvmsg(int, void *, int)'),
    // ioctl is variadic in C; its third argument travels in a register like a fixed one (see above).
    ioctl: lib.func('int ioctl(int, unsigned long, void *)'),
    // fcntl is variadic, too.
    fcntl: lib.func('int fcntl(int, int, long)'),
    flock: lib.func('int flock(int, int)'),
    exit: lib.func('void _exit(int)'),
    poll: lib.func('int poll(void *, unsigned long, int)'),
    pipe2: lib.func('int pipe2(void *, int)'),
    openByHandleAt: lib.func('int open_by_handle_at(int, void *, int)'),
    inotifyRmWatch: lib.func('int inotify_rm_watch(int, int)'),
    readlinkat: lib.func('int64_t readlinkat(int, str, void *, size_t)'),
    mkdirat: lib.func('int mkdirat(int, str, uint32_t)'),
    renameat: lib.func('int renameat(int, str, int, str)'),
    quotactlFd: syscall('long', 'long', 'long', 'void *'),
    unlinkat: lib.func('int unlinkat(int, str, int)'),
  };
}

/** The C library. Loaded when it is first asked for. */
export function native(): NonNullable<typeof library> {
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
export function checked(syscall: string, result: number | bigint, path?: string): number {
  const value = Number(result);
  if (value !== -1) return value;
  const errno = native().koffi.errno();
  const code = getSystemErrorName(-errno);
  throw Object.assign(new Error(`${code}: ${syscall}${path === undefined ? '' : ` '${path}'`}`), { code, errno: -errno, syscall, ...(path !== undefined && { path }) });
}

/** An argument that C reads as a string. */
export function text(value: string): string {
  if (value.includes('\0')) throw Object.assign(new Error('a path holds a NUL character'), { code: 'EINVAL', syscall: 'open' });
  return value;
}
