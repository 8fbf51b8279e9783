/**
 * The disk of one VE as one file: ext4 on a loop device, as large as the VE may write. What ploop was.
 *
 * FOLDER/image        the file, sparse; what the VE removes is given back to the host (mount option discard)
 * FOLDER/image.json   what it is held to
 * FOLDER/root         where it is mounted: a storage of its own (volumes.ts), and `ballast`
 *
 * How much the VE may write is exact though file systems come in round sizes: the ballast, a file that has blocks and no content, takes what is left over. A limit that is lowered
 * makes it larger at once. It holds back a little always, so that Veld can write a VE's files before a boot also when its disk is full.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasCapability } from '../kernel/capability.ts';
import { listMounts } from '../kernel/mounts.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { run } from '../lib/run.ts';
import { CLOSED_MOUNT, EXT4_QUOTAS } from './pool-image.ts';

/** Bytes that are always held back: what a restore may copy up of files that are open for writing (journals), while the VE's disk is full. */
const RESERVE = 64 << 20;
/** Journal and headers, bytes; beside it the tables of inodes: 256 bytes for every 16 KiB. */
const FIXED = (16 + 4) << 20;
/** What ext4 keeps for itself: a fiftieth, and 4096 blocks at most (ext4_calculate_resv_clusters of fs/ext4/super.c). */
const KEPT = { part: 0.02, most: 16 << 20 } as const;
const TABLES = 256 / 16_384;
/** How often it is enlarged once more when the file system has taken more for itself than was thought. */
const ATTEMPTS = 4;
/** How long it is waited for others to let go of it, in milliseconds. */
const PATIENCE = 20_000;
/** Made smaller only when that gives back as much, bytes. */
const WORTH = 64 << 20;

interface Held {
  /** Bytes that the VE may have. */
  space: number;
  /** Bytes and inodes in use before the VE had any. */
  base: number;
  baseInodes: number;
}

export interface VeImage {
  /** Where the storage of the VE is. */
  root: string;
  /** The file that holds back what the VE may not have. */
  ballast: string;
  /** Whether the file is there, whole or in part. */
  exists(): boolean;
  isMounted(): boolean;
  /** Whether its making was cut short: nothing is in it. */
  isHalfMade(): boolean;
  /**
   * Make and mount it.
   * @param space bytes that the VE may write @param quotas with the kernel's quotas for what is in it
   * @throws VeldError `disk.full`, `storage.failed`, `pool.unavailable`
   */
  make(space: number, quotas: boolean): Promise<void>;
  /** To be called when the storage in it has been made, before the VE has anything. */
  begin(): void;
  /** @throws VeldError `pool.unavailable` */
  mount(): Promise<void>;
  /**
   * Hold the VE to so many bytes.
   * @param atRest nobody uses what is in it: it can be unmounted
   * @throws VeldError `property.not_live` where it cannot be enlarged while it is in use; `disk.full`
   */
  hold(space: number, atRest: boolean): Promise<void>;
  /** Bytes that the VE may have. */
  held(): number;
  /** Give back what is held back, until the next `hold`. */
  lift(): void;
  /** What the VE has. */
  used(): { space: number; inodes: number };
  /** Unmount and remove it. @throws VeldError `storage.failed` when somebody uses it */
  remove(): Promise<void>;
}

/** @param folder of the image; need not be there */
export function veImage(folder: string): VeImage {
  const [file, facts, root] = ['image', 'image.json', 'root'].map((name) => join(folder, name)) as [string, string, string];
  const ballast = join(root, 'ballast');
  const mark = join(root, '.veld-image');

  const read = (): Held => JSON.parse(readFileSync(facts, 'utf8')) as Held;
  const write = (held: Held): void => writeFileAtomic(facts, `${JSON.stringify(held)}\n`, 0o600);
  const isMounted = (): boolean => existsSync(mark);
  const ballastBytes = (): number => (existsSync(ballast) ? statSync(ballast).blocks * 512 : 0);

  /** Of the file system: what is in use, what can still be written, bytes; and inodes in use. */
  const look = (): { used: number; free: number; inodes: number } => {
    const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(root);
    return { used: (blocks - bfree) * bsize, free: bavail * bsize, inodes: files - ffree };
  };
  const used = (): { space: number; inodes: number } => {
    const { base, baseInodes } = read();
    const now = look();
    return { space: Math.max(0, now.used - ballastBytes() - base), inodes: Math.max(0, now.inodes - baseInodes - (existsSync(ballast) ? 1 : 0)) };
  };

  const setBallast = async (bytes: number): Promise<void> => {
    const wanted = Math.floor(bytes / 4096) * 4096;
    if (!existsSync(ballast)) writeFileSync(ballast, '', { mode: 0o600 });
    if (wanted < statSync(ballast).size) truncateSync(ballast, wanted);
    else if (wanted > ballastBytes()) await run('/usr/bin/fallocate', ['-l', String(wanted), '--', ballast], { allow: true }); // as far as there is room
  };

  /** What the ballast must have for the VE to have so much and no more; less than {@link RESERVE}: the file system is too small by the difference. */
  const ballastFor = (space: number): number => {
    const left = Math.max(0, space - used().space);
    return look().free + ballastBytes() - left;
  };

  const mount = async (): Promise<void> => {
    if (isMounted()) return;
    if (!existsSync(file)) throw new VeldError('pool.unavailable', `The image ${file} is not there.`);
    mkdirSync(root, { recursive: true, mode: 0o700 });
    const attempt = (options: string): Promise<{ code: number; stderr: string }> => run('/bin/mount', ['-t', 'ext4', '-o', ['loop', CLOSED_MOUNT, 'discard', options].filter(Boolean).join(','), '--', file, root], { allow: true });
    const first = await attempt(EXT4_QUOTAS.mount);
    const { code, stderr } = first.code === 0 ? first : await attempt('');
    if (code !== 0) throw new VeldError('pool.unavailable', `The image ${file} could not be mounted: ${stderr.trim().split('\n')[0]}.`, { hint: `Look at the kernel's log, and have it mended while nothing uses it: \`e2fsck -f ${file}\`.` });
  };
  const isThere = (): boolean => listMounts().some(({ target }) => target === root);
  /** Whether a loop device has the file: then it is mounted, if not here then in a namespace that is a copy of this one, and nobody else may write to it. */
  const isLooped = (): boolean => readdirSync('/sys/block').some((name) => name.startsWith('loop') && readIfExists(`/sys/block/${name}/loop/backing_file`)?.trim() === file);
  /** @returns whether nobody has it any more. Processes that have just ended, or are just beginning, have it for a moment longer */
  const unmount = async (): Promise<boolean> => {
    const until = Date.now() + PATIENCE;
    for (let wait = 5; ; wait *= 1.5) {
      if (isThere()) await run('/bin/umount', ['--', root], { allow: true });
      if (!isThere() && !isLooped()) return true;
      if (Date.now() > until) return false;
      await sleep(wait);
    }
  };

  /** @param bytes of the file */
  const resizeAtRest = async (bytes: number): Promise<boolean> => {
    try {
      if (!await unmount()) return false;
      const check = await run('/sbin/e2fsck', ['-f', '-p', '--', file], { allow: true });
      if (check.code > 1) throw new VeldError('pool.unavailable', `The image ${file} is damaged: ${check.stdout.trim().split('\n').at(-1)}.`, { hint: `Have it mended: \`e2fsck -f ${file}\`.` });
      if (bytes > statSync(file).size) truncateSync(file, bytes);
      faultPoint('image.resized');
      const resize = (size: number): ReturnType<typeof run> => run('/sbin/resize2fs', ['--', file, `${Math.floor(size / 1024)}K`], { allow: true });
      const first = await resize(bytes);
      // It may need more than what is in use, and says how much (in blocks of 4 KiB).
      const least = Number(/minimum \((\d+)\)/.exec(first.stdout + first.stderr)?.[1] ?? Number.NaN) * 4096;
      const size = first.code === 0 ? bytes : Math.ceil(least * 1.02);
      const done = first.code === 0 || size < statSync(file).size && (await resize(size)).code === 0;
      if (done && size < statSync(file).size) truncateSync(file, size);
      return done;
    } finally {
      await mount();
    }
  };
  /** While it is mounted (resize2fs(8), on-line). */
  const enlarge = async (bytes: number): Promise<boolean> => {
    if (!hasCapability('sys_resource')) return false; // EXT4_IOC_RESIZE_FS wants it
    const loop = listMounts().find(({ target }) => target === root)?.source;
    if (loop === undefined) return false;
    truncateSync(file, bytes);
    await run('/sbin/losetup', ['-c', loop]);
    return (await run('/sbin/resize2fs', ['--', loop], { allow: true })).code === 0;
  };

  const hold = async (space: number, atRest: boolean): Promise<void> => {
    if (!isMounted()) await mount();
    let wanted = ballastFor(space);
    const more = space > read().space;
    // What was written while nothing was held back has taken of the reserve: that alone is no reason to stand in a VE's way.
    for (let left = ATTEMPTS; wanted < (more ? RESERVE : RESERVE / 4); left -= 1) {
      const bytes = roundUp(statSync(file).size + Math.ceil((RESERVE - wanted) * (1 + 2 * TABLES)) + (1 << 20));
      const done = left > 0 && (await enlarge(bytes) || atRest && await resizeAtRest(bytes));
      if (!done && !more) break;
      if (!done) throw new VeldError('property.not_live', `The image ${file} cannot be made larger while it is in use: ${hasCapability('sys_resource') ? 'the kernel refuses it' : 'the daemon lacks CAP_SYS_RESOURCE'}.`, { hint: 'Stop the VE, and those that are clones of it, and try again; `veld set --config-only` keeps the limit for the next start.' });
      wanted = ballastFor(space);
    }
    if (atRest && wanted > RESERVE + WORTH) {
      await setBallast(0);
      await resizeAtRest(Math.max(roundUp(sizeFor(Math.max(space, used().space))), 64 << 20)); // in use, or too full for it: the ballast does
      wanted = ballastFor(space);
    }
    await setBallast(Math.max(0, wanted));
    if (read().space !== space) write({ ...read(), space });
  };

  return {
    root,
    ballast,
    exists: () => existsSync(folder),
    isMounted,
    isHalfMade: () => !existsSync(facts) || read().base === 0,
    async make(space, quotas) {
      mkdirSync(folder, { mode: 0o700 });
      try {
        writeFileSync(file, '', { mode: 0o600, flag: 'wx' });
        truncateSync(file, roundUp(sizeFor(space)));
        write({ space, base: 0, baseInodes: 0 });
        faultPoint('image.begun');
        await run('/sbin/mkfs.ext4', ['-q', '-m', '0', '-I', '256', '-i', '16384', '-J', 'size=16', ...quotas ? EXT4_QUOTAS.make : [], '--', file]);
        faultPoint('image.made');
        await mount();
        writeFileSync(mark, '', { mode: 0o600, flush: true });
      } catch (error) {
        await unmount();
        rmSync(folder, { recursive: true, force: true });
        throw error;
      }
    },
    begin() {
      const { used, inodes } = look();
      write({ ...read(), base: used - ballastBytes(), baseInodes: inodes });
    },
    mount,
    hold,
    held: () => read().space,
    lift() {
      if (existsSync(ballast)) truncateSync(ballast, 0);
    },
    used,
    async remove() {
      // A namespace that has a copy of the mount keeps the space until it has gone, and nothing else.
      if (!await unmount() && isThere()) throw new VeldError('storage.failed', `The image ${file} is in use.`, { hint: 'See which VEs are clones of the one whose disk it is.' });
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Bytes of a file on which so many can be written. */
function sizeFor(space: number): number {
  return Math.ceil((space + RESERVE + FIXED + Math.min(KEPT.most, (space + RESERVE) * KEPT.part)) * (1 + 1.1 * TABLES));
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / (1 << 20)) * (1 << 20);
}
