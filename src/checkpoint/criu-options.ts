/** How criu is called: the options of a dump and of a restore. What each is for, and what was tried, stands in docs/explanation/checkpoint.md. */
import type { CriuOption } from '../kernel/criu.ts';
import { sourceOf, type MountSources } from './external-mounts.ts';
import { PARENT } from './parent.ts';
import type { ExternalMount, StateFolder } from './types.ts';

/** Largest deleted file that is kept with its content, in bytes: all of it is read while the VE stands still. */
const GHOST_LIMIT = 1 << 30;

/**
 * Where files that inotify watches are looked for first, by criu, too, where it was not told: an overlay does not tell it by a handle. Few folders, or the
 * VE stands still for long; what systemd and the usual servers watch is below them.
 */
export const WATCHED = ['/etc', '/usr/share/zoneinfo', '/usr/share/dbus-1'];
/** And where, when it was not there. */
const WATCHED_ANYWHERE = [...WATCHED, '/sys/fs/cgroup', '/run', '/dev', '/var', '/root', '/home', '/srv', '/opt', '/tmp', '/usr', '/boot', '/media', '/mnt'];

interface Shared {
  state: StateFolder;
  /** Path of the VE's group, as in /proc/PID/cgroup. */
  group: string;
  mounts: readonly ExternalMount[];
}

function shared({ state, group }: Shared): CriuOption[] {
  return [
    ['images-dir', state.images],
    ['file-locks'], ['link-remap'],
    // The manager makes the links and the rules itself, and stops what goes over them.
    ['empty-ns', 'net'], ['network-lock', 'skip'],
    ['manage-cgroups', 'soft'], ['cgroup-root', group],
    // systemd's credentials.
    ['enable-fs', 'ramfs'],
  ];
}

/**
 * @param pid of init @param everywhere look for watched files in all of the VE @param parent the state stands on an earlier one
 * @param standing its processes go on when they have been written @param track and the kernel is to note what they change of their memory then
 */
export function dumpOptions(options: Shared & { pid: number; everywhere: boolean; parent: boolean; standing: boolean; track: boolean }): CriuOption[] {
  return [
    ...shared(options),
    ['tcp-established'],
    ...options.standing ? [['leave-running']] satisfies CriuOption[] : [],
    ['tree', options.pid], ['log-file', 'dump.log'], ['ghost-limit', GHOST_LIMIT],
    ...options.parent || options.track ? [['track-mem']] satisfies CriuOption[] : [],
    ...options.parent ? [['prev-images-dir', PARENT]] satisfies CriuOption[] : [],
    ...(options.everywhere ? WATCHED_ANYWHERE : WATCHED).map((path): CriuOption => ['irmap-scan-path', path]),
    ...options.mounts.map(({ inside, name }): CriuOption => ['external', `mnt[${inside}]:${name}`]),
  ];
}

/**
 * Of a pre-dump: the memory of processes that go on (criu.org, "Iterative migration"; criu(8), `pre-dump`).
 * @param images folder for it @param pid of init @param parent it stands on an earlier one
 */
export function memoryOptions({ images, pid, parent }: { images: string; pid: number; parent: boolean }): CriuOption[] {
  return [['images-dir', images], ['tree', pid], ['log-file', 'dump.log'], ['track-mem'], ...parent ? [['prev-images-dir', PARENT]] satisfies CriuOption[] : []];
}

/** @param work folder for criu's log and what it makes for itself @param closeTcp the connections are another VE's */
export function restoreOptions(options: Shared & { sources: MountSources; work: string; closeTcp: boolean }): CriuOption[] {
  const names = new Map(options.mounts.map((mount) => [mount.name, mount]));
  return [
    ...shared(options),
    [options.closeTcp ? 'tcp-close' : 'tcp-established'],
    ['restore-detached'], ['work-dir', options.work], ['log-file', 'restore.log'],
    ...[...names.values()].map((mount): CriuOption => ['external', `mnt[${mount.name}]:${sourceOf(mount, options.sources)}`]),
  ];
}
