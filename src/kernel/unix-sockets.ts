/** Calls on sockets that Node does not offer: descriptors that travel with messages, peers, options. Why they are safe: see native.ts. */
import { closeSync } from 'node:fs';
import { checked, native, text } from './native.ts';
import { O_CLOEXEC } from './syscalls.ts';

/** getsockopt(SOL_SOCKET, SO_PEERCRED): who connected, as it was at the time of connect(2). */
export function getPeerCredentials(fd: number): { pid: number; uid: number; gid: number } {
  // Safe: struct ucred is three 32-bit integers; the length word says 12 bytes, so the kernel writes no more.
  const ucred = new Int32Array(new ArrayBuffer(12));
  const length = Uint32Array.of(12);
  checked('getsockopt', native().c.getsockopt(fd, 1, 17, ucred, length));
  return { pid: ucred[0] as number, uid: (ucred[1] as number) >>> 0, gid: (ucred[2] as number) >>> 0 };
}

/** getsockopt(SOL_SOCKET, SO_PEERGROUPS): supplementary groups of who connected; none where there are more than 1024. */
export function getPeerGroups(fd: number): number[] {
  const SO_PEERGROUPS = 59, MOST = 1024;
  // Safe: the length word says how many bytes the array has; the kernel writes no more, and says how many it has written.
  const groups = new Uint32Array(new ArrayBuffer(4 * MOST));
  const length = Uint32Array.of(4 * MOST);
  if (native().c.getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, length) !== 0) return [];
  return [...groups.subarray(0, length[0]! / 4)];
}

/**
 * Take a TCP connection out of repair mode (TCP_REPAIR, linux/tcp.h), in which criu looks into it and nobody can read from or write to it.
 * @param fd any descriptor
 * @returns whether it was such a connection. Needs CAP_NET_ADMIN over the socket's network namespace.
 */
export function endTcpRepair(fd: number): boolean {
  const IPPROTO_TCP = 6, TCP_REPAIR = 19, SO_REUSEADDR = 2;
  // Safe: the option is one int, and the length word says 4 bytes.
  const value = new Int32Array(new ArrayBuffer(4));
  if (native().c.getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, value, Uint32Array.of(4)) !== 0 || value[0] === 0) return false;
  // Safe: reads 4 bytes of the array, which holds the 0 of TCP_REPAIR_OFF.
  value[0] = 0;
  checked('setsockopt', native().c.setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, value, 4));
  // The kernel takes SO_REUSEADDR away with it, without which a server could not start again beside this connection; what it was is not known any more.
  value[0] = 1;
  native().c.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, value, 4);
  return true;
}

/** Whether whoever reads from a socket is told the sender's credentials (SO_PASSCRED, unix(7)). */
export function passesCredentials(fd: number): boolean {
  const SO_PASSCRED = 16;
  // Safe: the option is one int, and the length word says 4 bytes.
  const value = new Int32Array(new ArrayBuffer(4));
  checked('getsockopt', native().c.getsockopt(fd, SOL_SOCKET, SO_PASSCRED, value, Uint32Array.of(4)));
  return value[0] !== 0;
}

const AF_UNIX = 1, SOCK_STREAM = 1;

/** A sockaddr_un: a 16-bit family and 108 bytes of path, which ends in a zero byte. */
function unixAddress(path: string): Uint8Array {
  const name = Buffer.from(text(path));
  if (name.length > 107) throw Object.assign(new Error(`the path of a socket has at most 107 bytes: ${path}`), { code: 'ENAMETOOLONG', syscall: 'bind', path });
  const address = new Uint8Array(new ArrayBuffer(110));
  address[0] = AF_UNIX;
  address.set(name, 2);
  return address;
}

/** Listen on a new unix stream socket, non-blocking. @param path at most 107 bytes */
export function listenUnix(path: string): number {
  const SOCK_NONBLOCK = 0o4000;
  const address = unixAddress(path);
  // Safe: integers.
  const fd = checked('socket', native().c.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | O_CLOEXEC, 0));
  try {
    // Safe: the buffer has all 110 bytes of the address.
    checked('bind', native().c.bind(fd, address, 110), path);
    checked('listen', native().c.listen(fd, 4), path);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Connect to a unix stream socket; waits where its queue is full. @param path at most 107 bytes */
export function connectUnix(path: string): number {
  const address = unixAddress(path);
  // Safe: integers.
  const fd = checked('socket', native().c.socket(AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0));
  try {
    // Safe: the buffer has all 110 bytes of the address.
    checked('connect', native().c.connect(fd, address, 110), path);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Bytes of data, and of control messages, that a message has room for. */
const DATA = 1024, CONTROL = 256;

/**
 * A struct msghdr with room for one piece of data and control messages, all in one ArrayBuffer: msghdr (offset 0, 56 bytes), its iovec (64), the data (128),
 * the control buffer (1280, 8-aligned). The pointers written into it point into itself, so they are valid as long as `memory` is: use it after the call.
 * Layout of a 64-bit little-endian system: name*, namelen, iov*, iovlen, control*, controllen, flags.
 */
function message(dataLength: number, controlLength: number): { memory: ArrayBuffer; view: DataView } {
  const memory = new ArrayBuffer(1280 + CONTROL);
  const base = native().koffi.address(memory);
  const view = new DataView(memory);
  const pointer = (at: number, value: bigint): void => view.setBigUint64(at, value, true);
  pointer(16, base + 64n);
  pointer(24, 1n);
  pointer(32, base + 1280n);
  pointer(40, BigInt(controlLength));
  pointer(64, base + 128n);
  pointer(72, BigInt(dataLength));
  return { memory, view };
}

const SOL_SOCKET = 1, SCM_RIGHTS = 1;

/** One sendmsg(2) of a word and a descriptor (SCM_RIGHTS) with it. @param word at most 1024 bytes */
export function sendDescriptor(socket: number, descriptor: number, word: string): void {
  const MSG_NOSIGNAL = 0x4000;
  const data = Buffer.from(word).subarray(0, DATA);
  // Safe: see message(); one cmsghdr of 16 + 4 bytes, padded to 24.
  const { memory, view } = message(data.length, 24);
  new Uint8Array(memory).set(data, 128);
  view.setBigUint64(1280, 20n, true);
  view.setInt32(1288, SOL_SOCKET, true);
  view.setInt32(1292, SCM_RIGHTS, true);
  view.setInt32(1296, descriptor, true);
  checked('sendmsg', native().c.sendmsg(socket, memory, MSG_NOSIGNAL));
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
  // Safe: see message().
  const { memory, view } = message(DATA, CONTROL);
  const MSG_DONTWAIT = 0x40, MSG_CMSG_CLOEXEC = 0x40000000, MSG_CTRUNC = 8;
  const bytes = checked('recvmsg', native().c.recvmsg(fd, memory, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  const descriptors: number[] = [];
  const end = 1280 + Number(view.getBigUint64(40, true));
  // cmsghdr: 64-bit length (with its 16 bytes of header), 32-bit level, 32-bit type; the next one begins at the next multiple of 8.
  for (let at = 1280; at + 16 <= end;) {
    const length = Number(view.getBigUint64(at, true));
    if (length < 16 || at + length > end) break;
    if (view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SCM_RIGHTS) {
      for (let d = at + 16; d + 4 <= at + length; d += 4) descriptors.push(view.getInt32(d, true));
    }
    at += Math.ceil(length / 8) * 8;
  }
  return { bytes, descriptors, truncated: (view.getInt32(48, true) & MSG_CTRUNC) !== 0 };
}
