/** Which files a VE has of lxcfs, and which of its mounts are of which lxcfs: read from mount tables, without asking a file system that may be dead. */
import { readFileSync } from 'node:fs';

/** What lxcfs serves in place of the kernel's own files: paths in the VE, and below lxcfs' mount. */
export const LXCFS_FILES = [
  '/proc/cpuinfo', '/proc/diskstats', '/proc/loadavg', '/proc/meminfo', '/proc/stat', '/proc/swaps', '/proc/uptime', '/sys/devices/system/cpu/online',
] as const;

/** Which of them a VE gets. In a time namespace whose clock began with the VE the kernel knows the uptime better: it goes on after a restore. */
export function filesOf({ timeNamespace }: { timeNamespace: boolean }): readonly (typeof LXCFS_FILES)[number][] {
  return timeNamespace ? LXCFS_FILES.filter((file) => file !== '/proc/uptime') : LXCFS_FILES;
}

/** Whether a process lives in such a time namespace. @param offsets its /proc/PID/timens_offsets (time_namespaces(7)), '' where there is none */
export function hasOwnUptime(offsets: string): boolean {
  return /^boottime\s+-?(?!0+\s)\d/m.test(offsets);
}

/** A line of mountinfo (proc_pid_mountinfo(5)). */
export interface MountLine {
  id: number;
  /** `major:minor` of the file system. */
  device: string;
  /** What of the file system is mounted. */
  root: string;
  target: string;
  type: string;
  source: string;
}

/** Parse a mountinfo table. */
export function parseMountTable(table: string): MountLine[] {
  return table.split('\n').filter(Boolean).map((line) => {
    const dash = line.indexOf(' - ');
    const [id, , device = '', root = '', target = ''] = line.slice(0, dash).split(' ');
    const [type = '', source = ''] = line.slice(dash + 3).split(' ');
    return { id: Number(id), device, root: unescape(root), target: unescape(target), type, source: unescape(source) };
  });
}

/** Name of an installation's lxcfs in mount tables: `fsname`. */
export function lxcfsSource(instance: string): string {
  return `lxcfs-${instance}`;
}

/**
 * Binds of single files of an installation's lxcfs, whichever of its processes served or serves them. A VE may have made mounts that look the same,
 * of a FUSE server of its own.
 */
export function lxcfsBinds(table: readonly MountLine[], source: string): (MountLine & { file: string })[] {
  return table.flatMap((line) => {
    if (line.source !== source || !/^fuse(\.|$)/.test(line.type)) return [];
    const file = line.root.replace(/\/\/deleted$/, '');
    return (LXCFS_FILES as readonly string[]).includes(file) ? [{ ...line, file }] : [];
  });
}

/** Device of what an lxcfs mounted at `path` serves, the topmost one; undefined when there is none. */
export function lxcfsDevice(path: string, table = readFileSync('/proc/self/mountinfo', 'utf8')): string | undefined {
  return parseMountTable(table).findLast((line) => line.target === path && /^fuse(\.|$)/.test(line.type))?.device;
}

/** mountinfo writes space, tab, newline and backslash as octal. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
