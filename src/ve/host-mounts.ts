/**
 * Folders of the host in a VE (`disk.mounts`). They are mounted in the VE's private mount namespace, idmapped unless that is not wished, and bound into the VE from a copy of that which is the VE's: by a
 * hook (libexec/veld-folders), at a restore by criu. What is in them is the host's: it is neither counted, nor in snapshots, nor does it go anywhere.
 */
import { closeSync, constants, fchownSync, fstatSync, openSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { listXattrs } from '../kernel/syscalls.ts';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import type { Settings } from '../lib/settings.ts';
import { mountsFrom, type DiskMount } from '../spec/disk-mounts.ts';
import type { Properties } from '../spec/types.ts';
import type { VeContext } from './context.ts';

/** What nobody gives away, and what lies in it. */
const NEVER = ['/proc', '/sys', '/dev', '/run', '/boot', '/etc', '/usr', '/var/run', '/root'];

/** One of a VE. */
export interface HostMount extends DiskMount {
  /** Where it is bound in the VE's private mount namespace (libexec/veld-host-folders), and where it is then with owners as the VE shall see them. */
  bound: string;
  at: string;
}

/** @param folder the VE's run folder */
export function hostMounts(folder: string, properties: Pick<Properties, 'disk.mounts'>): HostMount[] {
  return mountsFrom(properties['disk.mounts']).map((mount, i) => ({ ...mount, bound: join(folder, 'mounts', `host-${i}`), at: join(folder, 'mounts', String(i)) }));
}

/** A hook of an OCI configuration. */
export interface Hook {
  path: string;
  args: string[];
}

/** File in the run folder for what is in the way of it. */
const WORDS = 'mounts/words';

/** Let the hook, which runs as the VE's root, say what is in the way. @param folder the VE's run folder @param uidBase of the VE */
export function makeWords(folder: string, uidBase: number): void {
  const fd = openSync(join(folder, WORDS), constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, 0o600);
  try {
    fchownSync(fd, uidBase, uidBase);
  } finally {
    closeSync(fd);
  }
}

/** What it has said, one line; empty: nothing. */
export function wordsOf(folder: string): string {
  return (readIfExists(join(folder, WORDS)) ?? '').slice(0, 500).trim().split('\n')[0] ?? '';
}

/** What mounts them; null for none. The program is given as text: the VE's root, as whom it runs, need not be able to walk to where it lies. */
export function mountHook({ libexecDir }: Settings, folder: string, mounts: readonly HostMount[]): Hook | null {
  if (mounts.length === 0) return null;
  return { path: '/usr/bin/perl', args: ['perl', '-e', readFileSync(join(libexecDir, 'veld-folders'), 'utf8'), join(folder, WORDS), join(folder, 'rootfs'), ...mounts.flatMap(({ at, inside }) => [at, inside])] };
}

/** Options of mount(8) for it. Devices are never of use: their nodes would be the host's. @param uidBase of the VE */
export function mountOptions({ plain, readOnly }: DiskMount, uidBase: number): string {
  return ['bind', 'nodev', ...plain ? [] : [`X-mount.idmap=b:0:${uidBase}:65536`], ...readOnly ? ['ro'] : []].join(',');
}

/**
 * Refuse folders that are not there, that a VE must not have, or in which a VE could leave programs for the host's users.
 * @throws VeldError `mount.refused`
 */
export function checkMounts({ settings, store }: Pick<VeContext, 'settings' | 'store'>, properties: Pick<Properties, 'disk.mounts'>): void {
  const mounts = mountsFrom(properties['disk.mounts']);
  const twice = mounts.find(({ inside }, i) => mounts.findIndex((other) => other.inside === inside) !== i);
  if (twice) throw new VeldError('mount.refused', `Two folders cannot both be at ${twice.inside}.`);
  const own = [settings.stateDir, settings.runDir, ...store.listPools().map(({ path }) => path)];
  for (const mount of mounts) checkFolder(mount, settings, own);
}

function checkFolder({ host, readOnly, plain }: DiskMount, settings: Pick<Settings, 'instance'>, own: readonly string[]): void {
  const refuse = (why: string, hint?: string): never => { throw new VeldError('mount.refused', `The folder ${host} of the host cannot be mounted into a VE: ${why}.`, hint === undefined ? {} : { hint }); };
  let real: string;
  try {
    real = realpathSync(host);
    if (!statSync(real).isDirectory()) refuse('it is not a folder');
  } catch (error) {
    if (error instanceof VeldError) throw error;
    return refuse((error as NodeJS.ErrnoException).code === 'ENOENT' ? 'it is not there' : (error as Error).message);
  }
  if (real !== host) refuse(`it leads to ${real} by a link`, 'Name that.');
  const near = (path: string): boolean => host === path || host.startsWith(`${path}/`) || path.startsWith(`${host}/`);
  const mine = own.find(near);
  if (mine !== undefined) refuse(`${mine}, where Veld (${settings.instance}) keeps its own, would be in it, or around it`);
  const never = NEVER.find((path) => host === path || host.startsWith(`${path}/`));
  if (never !== undefined) refuse(`what is in ${never} is the host's own`);
  // A file that the VE's root makes setuid there belongs to the host's root: nobody else may come to where it is.
  if (readOnly || plain) return;
  // (Not by the folder itself: that is the VE's root's.)
  for (let path = dirname(host); path !== '/'; path = dirname(path)) if (isClosed(path)) return;
  refuse('users of the host can walk there, and the VE\'s root could leave programs for them that run as the host\'s root', 'Put it into a folder that only root can enter (mode 0700, root\'s); or mount it read-only (:ro), or with the owners as they are (:plain).');
}

/** Whether nobody but the host's root can walk through a folder. */
function isClosed(path: string): boolean {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const { uid, gid, mode } = fstatSync(fd);
    return uid === 0 && (mode & 0o001) === 0 && (gid === 0 || (mode & 0o010) === 0) && !listXattrs(fd).includes('system.posix_acl_access');
  } finally {
    closeSync(fd);
  }
}
