/**
 * What the processes of a VE watch (inotify(7), fanotify(7)), and where that is. The kernel tells a file system and an inode, and by them criu finds
 * the file: at once where the file system can be asked for it by a handle. An overlay cannot, so criu looks at files until it has found it, while the VE stands
 * still. So it is told beforehand (the cache of images/fsnotify.proto, which it looks into first, and checks).
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openFiles } from '../kernel/open-files.ts';
import { readProcessFile } from '../kernel/process.ts';
import type { FileHandle } from '../kernel/syscalls.ts';
import { varint } from './protobuf.ts';

export interface FileWatch {
  /** Host's, of a process that has it. */
  pid: number;
  /** Descriptor of the inotify or fanotify instance. */
  fd: number;
  /** Number of the watch, of inotify. */
  wd?: number;
  /** Of the file system, as the kernel counts: major << 20 | minor. */
  device: number;
  inode: bigint;
  /** Which the kernel tells only while one of its names is in the kernel's memory. */
  handle?: FileHandle;
}

/** Name of the image from which criu takes where watched files are. */
export const WATCHED_IMAGE = 'irmap-cache';

/** All watches of these processes. @param pids host's */
export async function watchesOf(pids: readonly number[]): Promise<FileWatch[]> {
  const found: FileWatch[] = [];
  for (const pid of pids) {
    for (const { fd, link } of openFiles(pid)) {
      if (!/^anon_inode:\[?(inotify|fanotify)\]?$/.test(link)) continue;
      found.push(...watchesIn(readProcessFile(pid, `fdinfo/${fd}`) ?? '').map((watch) => ({ pid, fd: Number(fd), ...watch })));
    }
    await nextTurn();
  }
  return found;
}

/**
 * Watches that an fdinfo tells of. Format, proc_pid_fdinfo(5), all numbers in hexadecimal:
 * `inotify wd:1 ino:4d2 sdev:800005 mask:... fhandle-bytes:8 fhandle-type:1 f_handle:BYTES`, and of fanotify the same words without `wd`.
 */
export function watchesIn(fdinfo: string): Omit<FileWatch, 'pid' | 'fd'>[] {
  return fdinfo.split('\n').flatMap((line) => {
    const [, inode, device] = /^(?:inotify|fanotify) .*?\bino:([0-9a-f]+) sdev:([0-9a-f]+)/.exec(line) ?? [];
    if (inode === undefined || device === undefined) return [];
    const [, wd] = /^inotify wd:([0-9a-f]+) /.exec(line) ?? [];
    const [, type, bytes] = /\bfhandle-type:([0-9a-f]+) f_handle:([0-9a-f]+)/.exec(line) ?? [];
    return [{
      device: Number.parseInt(device, 16), inode: BigInt(`0x${inode}`),
      ...wd !== undefined && { wd: Number.parseInt(wd, 16) },
      ...type !== undefined && bytes !== undefined && { handle: { type: Number.parseInt(type, 16), bytes: Buffer.from(bytes, 'hex') } },
    }];
  });
}

/** As the kernel counts. @param device `major:minor` */
export function deviceNumber(device: string): number {
  const [major, minor] = device.split(':').map(Number);
  return (major ?? 0) * 2 ** 20 + (minor ?? 0);
}

/**
 * The image that tells criu where watched files are. Format: two magic numbers (criu/include/magic.h), then irmap_cache_entry: dev = 1, inode = 2, path = 3,
 * each behind its length in 32 bits.
 */
export function watchedImage(device: number, paths: ReadonlyMap<bigint, string>): Buffer {
  const SERVICE_MAGIC = 0x55105940, IRMAP_CACHE_MAGIC = 0x57004059;
  const word = (value: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return bytes;
  };
  const field = (number: number, wire: 0 | 2): Buffer => varint(BigInt(number << 3 | wire));
  return Buffer.concat([word(SERVICE_MAGIC), word(IRMAP_CACHE_MAGIC), ...[...paths].flatMap(([inode, path]) => {
    const name = Buffer.from(path === '/' ? '/.' : path); // criu looks up what stands behind the first slash
    const entry = Buffer.concat([field(1, 0), varint(BigInt(device)), field(2, 0), varint(inode), field(3, 2), varint(BigInt(name.length)), name]);
    return [word(entry.length), entry];
  })]);
}
