/** The file system of a pool in a file: one that has quotas, for hosts whose own has none. */
import { existsSync, mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { mountsBelow } from '../kernel/mounts.ts';
import { VeldError } from '../lib/errors.ts';
import { run } from '../lib/run.ts';
import type { PoolRecord } from '../store/types.ts';

type Image = NonNullable<PoolRecord['image']>;

/** How an ext4 is told to have quotas of all kinds: when it is made, and when it is mounted. */
export const EXT4_QUOTAS = { make: ['-O', 'quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'], mount: 'usrquota,grpquota,prjquota' } as const;

/** How each file system is made, by which Debian package, and how it is mounted: with the quotas of both levels, if the kernel has them. */
const FILE_SYSTEMS: Record<Image['fileSystem'], { make: string[]; quotas: string[]; package: string; options: string }> = {
  ext4: { make: ['mkfs.ext4', '-q', '-m', '0'], quotas: [...EXT4_QUOTAS.make], package: 'e2fsprogs', options: EXT4_QUOTAS.mount },
  xfs: { make: ['mkfs.xfs', '-q'], quotas: [], package: 'xfsprogs', options: 'uquota,gquota,pquota' },
  btrfs: { make: ['mkfs.btrfs', '-q'], quotas: [], package: 'btrfs-progs', options: 'user_subvol_rm_allowed' },
};

/** Smallest images, bytes: what the programs that make them accept. */
export const IMAGE_MINIMUM: Record<Image['fileSystem'], number> = { ext4: 64 << 20, xfs: 300 << 20, btrfs: 256 << 20 };

/** Nobody runs a program of a VE's in the host's name by a path into the pool. */
export const CLOSED_MOUNT = 'nosuid,nodev,noexec';

/**
 * Make the file, sparse, and the file system in it.
 * @param quotas whether it is to have them: a kernel that has none may not take it then
 * @throws VeldError `pool.invalid`, `disk.full`, `command.failed`
 */
export async function makePoolImage({ file, bytes, fileSystem }: Image, quotas = true): Promise<void> {
  const { make: [program = '', ...args], quotas: withQuotas, package: from } = FILE_SYSTEMS[fileSystem];
  const { bavail, bsize } = statfsSync(dirname(file));
  if (bytes > bavail * bsize) throw new VeldError('disk.full', `There are ${bavail * bsize} bytes free in ${dirname(file)}, and the image is to have ${bytes}.`, { hint: 'Give a smaller --image-size, or a --path on a larger disk.' });
  if (existsSync(file)) throw new VeldError('pool.invalid', `${file} is there already.`);
  writeFileSync(file, '', { mode: 0o600, flag: 'wx' });
  try {
    truncateSync(file, bytes);
    await run(program, [...args, ...quotas ? withQuotas : [], file]).catch((error: unknown) => {
      if ((error as { cause?: NodeJS.ErrnoException }).cause?.code === 'ENOENT') throw new VeldError('pool.invalid', `${program} is not installed.`, { hint: `apt-get install ${from}` });
      throw error;
    });
  } catch (error) {
    rmSync(file, { force: true });
    throw error;
  }
}

/** Mount it, unless it is mounted. Without the quotas where the kernel has none: then nothing can be limited there. */
export async function mountPoolImage({ path, image }: PoolRecord): Promise<void> {
  if (image === null || mountsBelow(path).includes(path)) return;
  if (!existsSync(image.file)) throw new VeldError('pool.unavailable', `The image ${image.file} is not there.`);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const { options } = FILE_SYSTEMS[image.fileSystem];
  const mount = (more: string): Promise<{ code: number; stderr: string }> => run('/bin/mount', ['-t', image.fileSystem, '-o', ['loop', CLOSED_MOUNT, more].filter(Boolean).join(','), '--', image.file, path], { allow: true });
  const first = await mount(options);
  if (first.code === 0) return;
  const second = await mount('');
  if (second.code !== 0) throw new VeldError('pool.unavailable', `The image ${image.file} could not be mounted: ${second.stderr.trim().split('\n')[0]}.`, { hint: 'Look at it with fsck, and at the kernel\'s log.' });
}

/** Unmount it. @throws VeldError `pool.in_use` */
export async function unmountPoolImage({ name, path }: PoolRecord): Promise<void> {
  if (!mountsBelow(path).includes(path)) return;
  const { code, stderr } = await run('/bin/umount', ['--', path], { allow: true });
  if (code !== 0) throw new VeldError('pool.in_use', `The pool ${name} is in use: ${stderr.trim().split('\n')[0]}.`);
}
