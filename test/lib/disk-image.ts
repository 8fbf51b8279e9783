/** File systems of a kind that the host does not have, in image files on loop devices. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

/** Bytes; nothing of it is on the disk before it is used. mkfs.xfs makes nothing below 300 MiB. */
const SIZE = 3 * 2 ** 30;

/** Run a program. @throws Error with its first line */
function must(file: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(file, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${file}: ${error?.message ?? stderr.trim().split('\n')[0]}`);
}

function makeImage(image: string): void {
  writeFileSync(image, '', { mode: 0o600 });
  truncateSync(image, SIZE);
  must('mkfs.xfs', '-q', image);
}

/**
 * Make an XFS and mount it. It is gone when nobody has it mounted any more, and its file is removed.
 * @param image file that is to hold it
 * @throws Error where that is not possible
 */
export function mountXfs(image: string, target: string): void {
  makeImage(image);
  must('mount', '-t', 'xfs', '-o', 'loop', image, target);
}

/** The same with btrfs, with quotas. */
export function mountBtrfs(image: string, target: string): void {
  writeFileSync(image, '', { mode: 0o600 });
  truncateSync(image, SIZE);
  must('mkfs.btrfs', '-q', image);
  must('mount', '-t', 'btrfs', '-o', 'loop', image, target);
  must('btrfs', 'quota', 'enable', target);
}

/**
 * Make an ext4 and mount it, on a disk of its own to the kernel whose scheduler is bfq. As with {@link mountXfs} nothing of it stays.
 * @throws Error where that is not possible
 */
export function mountWithBfq(image: string, target: string): void {
  writeFileSync(image, '', { mode: 0o600 });
  truncateSync(image, SIZE);
  must('mkfs.ext4', '-q', image);
  // Its direct reads are then direct ones of the file below: it is as slow as the disk.
  const { status, stdout, stderr } = spawnSync('losetup', ['--find', '--show', '--direct-io=on', image], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`losetup: ${stderr.trim()}`);
  const disk = stdout.trim();
  try {
    writeFileSync(`/sys/class/block/${basename(disk)}/queue/scheduler`, 'bfq');
    must('mount', '-t', 'ext4', disk, target);
  } finally {
    must('losetup', '--detach', disk); // when it is mounted no more
  }
}

/** Why no disk with bfq can be had here; undefined when it can. */
export function whyNoBfq(): string | undefined {
  if (!existsSync('/dev/loop-control')) return 'there are no loop devices';
  return spawnSync('sh', ['-c', 'grep -q bfq /sys/class/block/*/queue/scheduler || modprobe bfq']).status === 0 ? undefined : 'this kernel has no bfq';
}

/** Why no XFS can be mounted here, found by trying (in a mount namespace of its own); undefined when it can. */
export function whyNoXfs(): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'veld-xfs-'));
  try {
    if (!existsSync('/dev/loop-control')) return 'there are no loop devices';
    makeImage(join(folder, 'image'));
    mkdirSync(join(folder, 'root'));
    must('unshare', '--mount', '--propagation', 'private', 'mount', '-t', 'xfs', '-o', 'loop', join(folder, 'image'), join(folder, 'root'));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
