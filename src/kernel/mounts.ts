/** Mounts: what this process's mount namespace holds, and copies of trees with their owners mapped. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import { attachMount, cloneMount, mountDetached, O_CLOEXEC, O_PATH, setIdmap } from './syscalls.ts';

/** A folder of Veld's own, or several above each other, lowest first, as the one tree that overlayfs makes of them. */
export type TreeRoot = string | readonly string[];

/** Most folders above each other: their names are to fit into one option, which fsconfig(2) takes up to 255 bytes of. */
export const MAX_STACK = 12;

/**
 * Several folders as one tree: an overlay that is mounted nowhere, read-only. Owners are those on the disk, deleted names are not there.
 * @param folders lowest first, 2 to {@link MAX_STACK} of them
 * @returns its descriptor, with which it goes
 */
export function openStack(folders: readonly string[]): number {
  if (folders.length < 2 || folders.length > MAX_STACK) throw new VeldError('storage.failed', `${folders.length} layers cannot be seen as one tree: 2 to ${MAX_STACK} can.`);
  const open: number[] = [];
  try {
    for (const folder of folders) open.push(openSync(folder, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW | O_CLOEXEC));
    // By descriptors: that is shorter than their paths, and needs no escapes.
    return mountDetached('overlay', [['lowerdir', open.toReversed().map((fd) => `/proc/self/fd/${fd}`).join(':')], ['index', 'off'], ['redirect_dir', 'off'], ['metacopy', 'off']]);
  } catch (error) {
    throw new VeldError('storage.failed', `Layers cannot be seen as one tree: ${(error as Error).message}`, { cause: error });
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

export interface Mount {
  /** Folder or file that it covers. */
  target: string;
  /** File system type, e.g. `overlay`. */
  type: string;
  source: string;
}

/** All mounts that a process sees (format: proc_pid_mountinfo(5)). @param pid default: this process */
export function listMounts(pid: number | 'self' = 'self'): Mount[] {
  return readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n').filter(Boolean).map((line) => {
    const [head = '', tail = ''] = line.split(' - ');
    const [type = '', source = ''] = tail.split(' ');
    return { target: unescape(head.split(' ')[4] ?? ''), type, source: unescape(source) };
  });
}

/** Targets of mounts at or below a folder, as this process sees them. */
export function mountsBelow(folder: string): string[] {
  return listMounts().map((mount) => mount.target).filter((target) => target === folder || target.startsWith(`${folder}/`));
}

/** mountinfo writes space, tab, newline and backslash as octal. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** How owners are shown: the id `from` on disk is seen as `to`, and so on for `count` ids. Ids outside are seen as the overflow user. */
export interface Idmap {
  from: number;
  to: number;
  count: number;
}

/** Parse the text that mount(8) takes as `X-mount.idmap` for users and groups alike: `b:FROM:TO:COUNT`, several with a blank between them. */
export function parseIdmaps(text: string): Idmap[] {
  return text.split(' ').map((part) => {
    const match = /^b:(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(part);
    if (!match) throw new VeldError('storage.failed', `${text} is not an idmap.`);
    return { from: Number(match[1]), to: Number(match[2]), count: Number(match[3]) };
  });
}

/** A user namespace that nobody lives in, as a map of ids. */
export interface UserNamespace {
  /** Descriptor of the namespace. */
  fd: number;
  close(): void;
}

/** Make a user namespace in which `from` means host id `to`, for each of the maps. Bounded: gives up after 2 s. */
export async function createUserNamespace(...maps: readonly Idmap[]): Promise<UserNamespace> {
  // The namespace needs a process only until its descriptor is open; cat waits for the end of its input and dies with us.
  const holder = spawn('/usr/bin/unshare', ['--user', '/bin/cat'], { stdio: ['pipe', 'ignore', 'ignore'], cwd: '/' });
  const ended = once(holder, 'exit');
  try {
    const own = readlinkSync('/proc/self/ns/user');
    const path = `/proc/${holder.pid}/ns/user`;
    for (let left = 400; holder.pid === undefined || readlinkSync(path) === own; left -= 1) {
      if (left === 0 || holder.exitCode !== null) throw new VeldError('kernel.unsupported', 'No user namespace could be made.');
      await sleep(5);
    }
    for (const file of ['uid_map', 'gid_map']) writeFileSync(`/proc/${holder.pid}/${file}`, maps.map(({ from, to, count }) => `${from} ${to} ${count}\n`).join(''));
    const fd = openSync(path, 'r');
    return { fd, close: () => closeSync(fd) };
  } finally {
    holder.stdin?.end();
    holder.kill('SIGKILL');
    await ended;
  }
}

/**
 * Copy the mount that holds `source`, from `source` down, with its owners mapped. The copy is attached nowhere: it goes when its last descriptor is closed.
 * @returns its descriptor
 */
export async function openIdmapped(source: string, maps: readonly Idmap[], { readOnly }: { readOnly: boolean }): Promise<number> {
  const namespace = await createUserNamespace(...maps);
  try {
    const mount = cloneMount(source);
    try {
      setIdmap(mount, namespace.fd, readOnly);
      return mount;
    } catch (error) {
      closeSync(mount);
      throw error;
    }
  } finally {
    namespace.close();
  }
}

/** Attach such a copy at `target`. To be called in a process that has a mount namespace of its own. */
export async function mountIdmapped(source: string, target: string, maps: readonly Idmap[], options: { readOnly: boolean }): Promise<void> {
  const mount = await openIdmapped(source, maps, options);
  try {
    attachMount(mount, target);
  } finally {
    closeSync(mount);
  }
}
