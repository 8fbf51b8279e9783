/**
 * System calls that only ask whether the kernel knows them, through koffi. None changes anything outside of this process.
 *
 * Why they are safe: as in syscalls.ts (C library of this process, fixed lists of longs and pointers, synchronous, memory of our own that
 * lives until the call has returned, errno read in the next statement). In addition most are given arguments that the kernel must refuse:
 * the way in which it refuses is the answer.
 */
import { createRequire } from 'node:module';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { endianness } from 'node:os';
import { getSystemErrorName } from 'node:util';
import type koffiModule from 'koffi';

type Koffi = typeof koffiModule;
type Native = (...args: unknown[]) => number | bigint;

/** Numbers from asm/unistd_64.h (x86_64) and asm-generic/unistd.h (arm64). */
const NR = process.arch === 'arm64'
  ? { adjtimex: 171, quotactl: 60, userfaultfd: 282, bpf: 280, io_uring_setup: 425, lsm_list_modules: 461 }
  : { adjtimex: 159, quotactl: 179, userfaultfd: 323, bpf: 321, io_uring_setup: 425, lsm_list_modules: 461 };

let library: { koffi: Koffi; three: Native; four: Native; ioctl: Native } | undefined;

function native(): NonNullable<typeof library> {
  if (library === undefined) {
    if (process.platform !== 'linux' || endianness() !== 'LE' || !['x64', 'arm64'].includes(process.arch)) throw new Error('not a kernel that Veld runs on');
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const c = koffi.load(null);
    library = {
      koffi,
      three: c.func('syscall', 'long', ['long', 'long', 'void *', 'long']) as unknown as Native,
      four: c.func('syscall', 'long', ['long', 'long', 'str', 'long', 'void *']) as unknown as Native,
      ioctl: c.func('int ioctl(int, unsigned long, void *)') as unknown as Native,
    };
  }
  return library;
}

/** Result of a call: a number from 0 up, or the name of the error. */
export type Answer = number | string;

function answer(result: number | bigint): Answer {
  return Number(result) === -1 ? getSystemErrorName(-native().koffi.errno()) : Number(result);
}

/** `EFAULT` or `EINVAL` where io_uring exists, `EPERM` where it is switched off, `ENOSYS` where it is absent. */
export function askIoUring(): Answer {
  // Safe: io_uring_setup with a null pointer for its parameters makes no ring.
  return answer(native().three(NR.io_uring_setup, 1, null, 0));
}

/** `ENOSYS` where the kernel has no quotas; else it complains about a device that does not exist. */
export function askQuotactl(): Answer {
  const Q_GETFMT = 0x800004;
  // Safe: a path that does not exist, and no buffer.
  return answer(native().four(NR.quotactl, Q_GETFMT << 8, '/nonexistent', 0, null));
}

/** Whether a time service keeps the host's clock (adjtimex(2) without STA_UNSYNC), or the name of the error. */
export function askClockSynchronised(): boolean | string {
  const TIME_ERROR = 5;
  // Safe: struct timex has 208 bytes, the buffer 256; modes = 0 only reads.
  const call = native().koffi.load(null).func('syscall', 'long', ['long', 'void *']) as unknown as Native;
  const timex = new ArrayBuffer(256);
  const state = answer(call(NR.adjtimex, timex));
  return typeof state === 'string' ? state : state !== TIME_ERROR;
}

/** `EFAULT` where /proc/PID/pagemap knows PAGEMAP_SCAN (Linux 6.7), `ENOTTY` where not. */
export function askPagemapScan(): Answer {
  const fd = openSync('/proc/self/pagemap', 'r');
  try {
    // PAGEMAP_SCAN is _IOWR('f', 16, struct pm_scan_arg), 96 bytes (linux/fs.h). Safe: a null argument is refused.
    return answer(native().ioctl(fd, 0xc0606610, null));
  } finally {
    closeSync(fd);
  }
}

/** Feature bits of userfaultfd (linux/userfaultfd.h; bit 0 is write protection), or the name of an error. */
export function askUserfaultfd(): bigint | string {
  const UFFD_USER_MODE_ONLY = 1, O_CLOEXEC = 0o2000000, O_NONBLOCK = 0o4000;
  // Safe: integers. The descriptor watches no memory, and is closed below.
  const fd = answer(native().three(NR.userfaultfd, UFFD_USER_MODE_ONLY | O_CLOEXEC | O_NONBLOCK, null, 0));
  if (typeof fd === 'string') return fd;
  try {
    const UFFD_API = 0xaan, UFFDIO_API = 0xc018aa3f;
    // Safe: struct uffdio_api is three 64-bit words (api, features, ioctls), as the size in the request number says.
    const api = BigUint64Array.of(UFFD_API, 0n, 0n);
    const done = answer(native().ioctl(fd, UFFDIO_API, api));
    return typeof done === 'string' ? done : (api[1] as bigint);
  } finally {
    closeSync(fd);
  }
}

/** Ids of the active security modules (linux/lsm.h), or the name of an error; `ENOSYS` before Linux 6.8. */
export function askSecurityModules(): bigint[] | string {
  // Safe: room for 64 ids, and their size in bytes says so.
  const ids = new BigUint64Array(64);
  const size = Uint32Array.of(ids.byteLength);
  const lib = native().koffi.load(null);
  const call = lib.func('syscall', 'long', ['long', 'void *', 'void *', 'long']) as unknown as Native;
  const count = answer(call(NR.lsm_list_modules, ids, size, 0));
  return typeof count === 'string' ? count : [...ids.subarray(0, count)];
}

/**
 * Load (not attach) a BPF LSM program that allows everything, and drop it.
 * @returns a number when the kernel takes it, else the name of the error; `ENOENT` when the kernel's types lack the hook
 */
export function askBpfLsm(): Answer {
  const id = btfFunction('bpf_lsm_file_open');
  if (id === undefined) return 'ENOENT';
  const { koffi, three } = native();
  const BPF_PROG_LOAD = 5, BPF_PROG_TYPE_LSM = 29, BPF_LSM_MAC = 27;
  // One buffer: union bpf_attr (linux/bpf.h) at 0, two instructions (r0 = 0; exit) at 128, the licence at 160.
  // Safe: the pointers written into it point into itself, and it is used again after the call.
  const memory = new ArrayBuffer(192);
  const view = new DataView(memory);
  const base = koffi.address(memory);
  view.setUint32(0, BPF_PROG_TYPE_LSM, true);
  view.setUint32(4, 2, true);
  view.setBigUint64(8, base + 128n, true);
  view.setBigUint64(16, base + 160n, true);
  view.setUint32(68, BPF_LSM_MAC, true);
  view.setUint32(108, id, true);
  view.setUint8(128, 0xb7);
  view.setUint8(136, 0x95);
  new Uint8Array(memory, 160).set(Buffer.from('GPL'));
  const fd = answer(three(NR.bpf, BPF_PROG_LOAD, memory, 120));
  if (typeof fd === 'number' && view.byteLength > 0) closeSync(fd);
  return fd;
}

/** Type id of a kernel function in /sys/kernel/btf/vmlinux (Documentation/bpf/btf.rst). */
function btfFunction(name: string): number | undefined {
  let btf: Buffer;
  try {
    btf = readFileSync('/sys/kernel/btf/vmlinux');
  } catch {
    return undefined;
  }
  if (btf.readUInt16LE(0) !== 0xeb9f) return undefined;
  const header = btf.readUInt32LE(4);
  const types = header + btf.readUInt32LE(8);
  const typesEnd = types + btf.readUInt32LE(12);
  const strings = header + btf.readUInt32LE(16);
  const found = btf.indexOf(`\0${name}\0`, strings, 'latin1');
  if (found < 0) return undefined;
  const nameOffset = found + 1 - strings;
  const KIND_FUNC = 12;
  // Bytes after the 12 of each type, by kind: fixed, or per member.
  const fixed: Record<number, number> = { 1: 4, 3: 12, 14: 4, 17: 4 };
  const perMember: Record<number, number> = { 4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12 };
  for (let at = types, id = 1; at + 12 <= typesEnd; id += 1) {
    const info = btf.readUInt32LE(at + 4);
    const kind = (info >>> 24) & 0x1f;
    if (kind === KIND_FUNC && btf.readUInt32LE(at) === nameOffset) return id;
    at += 12 + (fixed[kind] ?? 0) + (perMember[kind] ?? 0) * (info & 0xffff);
  }
  return undefined;
}
