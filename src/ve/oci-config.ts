/**
 * The OCI configuration of a VE (config.json of the bundle).
 * Format: OCI runtime specification 1.2, config.md and config-linux.md.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { VeRecord } from '../store/types.ts';
import type { Properties } from '../spec/types.ts';
import { filesOf } from '../kernel/lxcfs-mounts.ts';
import { bootProcess } from './boot-process.ts';
import { COMMAND_INIT } from './inits.ts';
import type { Hook } from './host-mounts.ts';
import { INSIDE } from './inside-beancounters.ts';
import { QUOTA_INSIDE } from './quota-tools/inside.ts';
import type { GuestUser } from './guest-users.ts';
import { seccompProfile } from './seccomp.ts';

/** Ids in a VE's range. */
export const UID_COUNT = 65536;

/** Annotation that holds the properties with which a VE was booted. */
export const PROPERTIES_ANNOTATION = 'veld.properties';

/** Annotation that holds the extensions of the processor of which its programs were told, when these are not all. */
export const BASELINE_ANNOTATION = 'veld.baseline';

/** Kernel-wide information and switches, hidden behind /dev/null. */
const MASKED_FILES = [
  '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/sched_debug', '/proc/timer_list', '/proc/timer_stats', '/proc/interrupts',
];
/**
 * And behind an empty folder of the host, which is one and the same for all: the file systems that crun would make for them are the VE's own, and
 * each costs its dump a run of tar. Those that this kernel has not (yet) are left to crun.
 */
const MASKED_FOLDERS = [
  '/proc/acpi', '/proc/asound', '/proc/scsi', '/sys/devices/virtual/powercap', '/sys/firmware', '/sys/kernel/debug', '/sys/kernel/tracing',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sysrq-trigger'];

export interface OciOptions {
  ve: VeRecord;
  properties: Properties;
  /** Folder in which the root file system is mounted. */
  rootfs: string;
  /** A folder in which there is nothing. */
  empty: string;
  /** Folder of lxcfs' mount, or null when it does not run. */
  lxcfs: string | null;
  /** As in /proc/PID/cgroup. */
  cgroupPath: string;
  /** Whether the kernel has time namespaces. */
  timeNamespace: boolean;
  /** Where the init for `boot.command` is, outside. */
  commandInit: string;
  /** The file with the VE's own beancounters, outside; null: it does not ask for it. */
  beancounters: string | null;
  /** The folder of its quota tools, outside. */
  quota: string;
  /** Mounts folders of the host into it; null: it has none. */
  hook: Hook | null;
  /** Whom `boot.command` runs as. */
  user: GuestUser;
  /** What its programs are told that the processor can do; null: nothing. */
  baseline: readonly string[] | null;
}

/** The whole configuration, ready for JSON. */
export function ociConfig({ ve, properties, rootfs, empty, lxcfs, cgroupPath, timeNamespace, commandInit, beancounters, quota, hook, user, baseline }: OciOptions): object {
  const covered = MASKED_FOLDERS.filter((path) => existsSync(path));
  const map = [{ containerID: 0, hostID: ve.uidBase, size: UID_COUNT }];
  return {
    ociVersion: '1.2.0',
    hostname: properties.hostname ?? ve.name,
    // What this boot was made from: `show` tells what waits for the next one.
    annotations: { [PROPERTIES_ANNOTATION]: JSON.stringify(properties), ...baseline && { [BASELINE_ANNOTATION]: JSON.stringify(baseline) } },
    root: { path: rootfs, readonly: false },
    process: {
      terminal: true, // from the VE's own devpts: init's console, its master is conmon's
      noNewPrivileges: false,
      ...bootProcess(ve.uuid, properties, user, baseline),
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: 1024, hard: openFilesLimit() }],
    },
    mounts: [...mounts(lxcfs, timeNamespace, properties['ubc.numpty']?.limit ?? null), ...covered.map((destination) => ({ destination, type: 'bind', source: empty, options: ['bind', 'nosuid', 'nodev', 'noexec', 'ro'] })), ...(properties['boot.command'] === null ? [] : [
      { destination: COMMAND_INIT, type: 'bind', source: commandInit, options: ['bind', 'nosuid', 'nodev', 'ro'] },
    ]), ...(beancounters === null ? [] : [
      { destination: INSIDE, type: 'bind', source: beancounters, options: ['bind', 'nosuid', 'nodev', 'noexec', 'ro'] },
    ]), { destination: QUOTA_INSIDE, type: 'bind', source: quota, options: ['bind', 'nosuid', 'nodev', 'ro'] }],
    ...hook !== null && { hooks: { createContainer: [hook] } },
    linux: {
      namespaces: [
        ...['pid', 'ipc', 'uts', 'mount', 'cgroup', 'network'].map((type) => ({ type })),
        { type: 'user', path: '/proc/self/fd/7' }, ...(timeNamespace ? [{ type: 'time', path: '/proc/self/fd/8' }] : []), // see libexec/veld-runtime
      ],
      uidMappings: map,
      gidMappings: map,
      cgroupsPath: cgroupPath,
      rootfsPropagation: 'private',
      maskedPaths: [...MASKED_FILES, ...MASKED_FOLDERS.filter((path) => !covered.includes(path))],
      readonlyPaths: READONLY_PATHS,
      seccomp: seccompProfile(properties),
    },
  };
}

function mounts(lxcfs: string | null, timeNamespace: boolean, ptys: number | null): object[] {
  const list = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'nodev', 'noexec'] },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'nodev', 'noexec', 'ro'] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['nosuid', 'nodev', 'noexec', 'rw'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=1m'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5', ...ptys === null ? [] : [`max=${ptys}`]] },
    { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'nodev', 'mode=1777'] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'nodev', 'noexec'] },
    { destination: '/run', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'mode=755', 'size=20%'] },
  ];
  if (lxcfs !== null) {
    for (const file of filesOf({ timeNamespace })) list.push({ destination: file, type: 'bind', source: lxcfs + file, options: ['bind', 'nosuid', 'nodev', 'ro'] });
  }
  return list;
}

/** RLIMIT_NOFILE for init: more than our own hard limit is refused where root lacks CAP_SYS_RESOURCE. */
function openFilesLimit(): number {
  const wanted = 1 << 20;
  const own = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return own === undefined || own === 'unlimited' ? wanted : Math.min(wanted, Number(own));
}
