/** CPUs, NUMA nodes and disks of the host, as sysfs tells. Sources: Documentation/ABI/testing/sysfs-devices-system-cpu, Documentation/ABI/stable/sysfs-devices-node, sysfs-block. */
import { existsSync, readFileSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { formatDevice } from './device-number.ts';

/** CPUs that are on, as the kernel writes them: `0-3,8`. */
export function onlineCpus(sysfs = '/sys'): string {
  return readFileSync(`${sysfs}/devices/system/cpu/online`, 'utf8').trim();
}

/** CPUs of each NUMA node, as the kernel writes them; empty on a kernel without NUMA. */
export function numaNodes(sysfs = '/sys'): Map<number, string> {
  const folder = `${sysfs}/devices/system/node`;
  if (!existsSync(folder)) return new Map();
  return new Map(readdirSync(folder).flatMap((name): [number, string][] => {
    const node = /^node(\d+)$/.exec(name)?.[1];
    return node === undefined ? [] : [[Number(node), readFileSync(join(folder, name, 'cpulist'), 'utf8').trim()]];
  }).sort(([a], [b]) => a - b));
}

/**
 * The disk on which a path lies: the whole one, since only that can be throttled.
 * @returns its number `MAJOR:MINOR` and its name below /sys/class/block; in words why there is none
 */
export function diskOf(path: string, sysfs = '/sys', mounts = '/proc/self/mountinfo'): { device: string; name: string } | string {
  let device = formatDevice(statSync(path).dev);
  if (device.startsWith('0:')) {
    // btrfs has a number of its own for each subvolume; its mount says what it stands on.
    const source = mountSource(device, mounts);
    if (source === undefined) return `${path} lies on no disk of this host`;
    device = source;
  }
  const link = `${sysfs}/dev/block/${device}`;
  if (!existsSync(link)) return `${path} lies on no disk of this host`;
  const folder = existsSync(`${link}/partition`) ? dirname(realpathSync(link)) : realpathSync(link);
  return { device: readFileSync(join(folder, 'dev'), 'utf8').trim(), name: basename(folder) };
}

/** `MAJOR:MINOR` of the block device that a file system with a number of its own is mounted from. */
function mountSource(device: string, mounts: string): string | undefined {
  for (const line of readFileSync(mounts, 'utf8').split('\n')) {
    const [own, source] = line.split(' - ');
    if (own?.split(' ')[2] !== device) continue;
    const path = source?.split(' ')[1];
    if (path === undefined || !path.startsWith('/dev/') || !existsSync(path)) continue;
    return formatDevice(statSync(path).rdev);
  }
  return undefined;
}
