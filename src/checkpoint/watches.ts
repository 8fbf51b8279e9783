/**
 * What the processes of a VE watch (inotify(7), fanotify(7)), and where that is. The kernel tells a file system and an inode, and by them criu finds
 * the file: at once where the file system can be asked for it by a handle. An overlay cannot, so criu looks at files until it has found it, while the VE stands
 * still. So it is told beforehand (the cache of images/fsnotify.proto, which it looks into first, and checks).
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { openFiles } from '../kernel/open-files.ts';
import { readProcessFile } from '../kernel/process.ts';
import { varint } from './protobuf.ts';

export interface FileWatch {
  /** Host's, of a process that has it. */
  pid: number;
  /** Of the file system, as the kernel counts: major << 20 | minor. */
  device: number;
  inode: bigint;
  /** Whether the kernel has a handle of it, which it has only while one of its names is in the kernel's memory. */
  handle: boolean;
}

/** Name of the image from which criu takes where watched files are. */
export const WATCHED_IMAGE = 'irmap-cache';

/** All watches of these processes. @param pids host's */
export async function watchesOf(pids: readonly number[]): Promise<FileWatch[]> {
  const found: FileWatch[] = [];
  for (const pid of pids) {
    for (const { fd, link } of openFiles(pid)) {
      if (!/^anon_inode:\[?(inotify|fanotify)\]?$/.test(link)) continue;
      // proc_pid_fdinfo(5): `inotify wd:1 ino:4d2 sdev:800005 mask:... fhandle-bytes:8 ...`, and of fanotify the same words; all in hexadecimal.
      for (const line of readProcessFile(pid, `fdinfo/${fd}`)?.split('\n') ?? []) {
        const [, inode, device] = /^(?:inotify|fanotify) .*?\bino:([0-9a-f]+) sdev:([0-9a-f]+)/.exec(line) ?? [];
        if (inode !== undefined && device !== undefined) found.push({ pid, device: Number.parseInt(device, 16), inode: BigInt(`0x${inode}`), handle: line.includes('fhandle') });
      }
    }
    await nextTurn();
  }
  return found;
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
