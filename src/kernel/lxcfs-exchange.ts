/**
 * A program: in running VEs, exchanges the binds of an lxcfs that is dead or replaced for those of the one that serves now.
 *
 * It is no part of the daemon, which must never change namespaces. One JSON line on standard input says what to do (`ExchangeRequest`), one line
 * for each VE on standard output says what was done (`ExchangeResult`).
 *
 * While it is in a VE's mount namespace every path that it opens is the VE's own to choose: so it loads nothing there (all modules and foreign
 * functions are there before), resolves names without links, only as descriptors (O_PATH runs no driver and no FUSE server), and knows what is behind
 * one by the mount's id in the kernel's tables: those of the host's /proc, which it keeps open. Looking names up can still hang where the VE has
 * mounted a FUSE of its own: whoever started this program kills it then, which is always possible.
 *
 * No reader may see the host's values in between. From Linux 6.5 the new file is put beneath the old one, which is then taken away. Earlier kernels
 * cannot: there the VE stands still meanwhile. Where a nested user namespace has locked the old mount, the new one covers it.
 */
import { closeSync, constants, existsSync, openSync, readFileSync, readlinkSync, writeFileSync, writeSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { groupPids, readControl, readKey } from './cgroup.ts';
import { filesOf, hasOwnUptime, LXCFS_FILES, lxcfsBinds, parseMountTable } from './lxcfs-mounts.ts';
import type { MountLine } from './lxcfs-mounts.ts';
import { isAlive } from './process.ts';
import { attachMountAt, changeFolder, cloneMount, closeOffMount, detachMount, enterMountNamespace, O_CLOEXEC, O_PATH, openat2, RESOLVE } from './syscalls.ts';
import type { ExchangeRequest, ExchangeResult, ExchangeTarget } from './lxcfs-mend.ts';

/** Times that a namespace is gone through: each time copies of a file that lie elsewhere (in a chroot) come a layer nearer. */
const ROUNDS = 4;
/** How long a VE may take to stand still, in milliseconds. What does not stand still in that time waits in the kernel and reads nothing. */
const FREEZE_PATIENCE = 500;

const LOOKUP = { flags: O_PATH | constants.O_NOFOLLOW, resolve: RESOLVE.IN_ROOT | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS };

const request = JSON.parse(readFileSync(0, 'utf8')) as ExchangeRequest;
const hostNamespace = openSync('/proc/self/ns/mnt', constants.O_RDONLY | O_CLOEXEC);
const hostProc = openSync('/proc', O_PATH | constants.O_DIRECTORY | O_CLOEXEC);
const beneath = request.beneath ?? kernelIsAtLeast(6, 5);
for (const target of request.targets) writeSync(1, `${JSON.stringify(exchange(target))}\n`);
// Sockets of Node's own threads and the like are of no interest any more.
process.exit(0);

/** Go through all mount namespaces of a VE, its init's first: by propagation that one's changes reach most others. */
function exchange(target: ExchangeTarget): ExchangeResult {
  const result: ExchangeResult = { pid: target.pid, namespaces: 0, exchanged: 0, covered: 0, attached: 0, left: [] };
  const thaw = beneath ? undefined : freeze(target.group);
  try {
    const seen = new Set([readlinkSync('/proc/self/ns/mnt')]);
    for (const pid of new Set([target.pid, ...groupPids(target.group)])) {
      const namespace = namespaceOf(pid);
      if (namespace === undefined) continue;
      if (!seen.has(namespace.name) && (pid !== target.pid || isAlive(target))) {
        seen.add(namespace.name);
        result.namespaces += 1;
        for (let i = 0; i < ROUNDS && round(namespace.fd, pid === target.pid && target.attach ? missing(pid) : [], result); i++);
      }
      closeSync(namespace.fd);
    }
  } catch (error) {
    result.left.push((error as Error).message);
  } finally {
    thaw?.();
  }
  return result;
}

function namespaceOf(pid: number): { fd: number; name: string } | undefined {
  try {
    const fd = openSync(`/proc/${pid}/ns/mnt`, constants.O_RDONLY | O_CLOEXEC);
    return { fd, name: readlinkSync(`/proc/self/fd/${fd}`) };
  } catch {
    return undefined; // it has ended
  }
}

/** What a VE that was booted without lxcfs shall have of it. */
function missing(pid: number): readonly string[] {
  const offsets = `/proc/${pid}/timens_offsets`;
  return filesOf({ timeNamespace: existsSync(offsets) && hasOwnUptime(readFileSync(offsets, 'utf8')) });
}

/** One time through one namespace, with one copy of each file. @param attach files to be covered where there is no bind yet @returns whether something was changed */
function round(namespace: number, attach: readonly string[], result: ExchangeResult): boolean {
  const fresh = new Map<string, number>();
  for (const file of LXCFS_FILES) {
    if (!existsSync(join(request.folder, file))) continue;
    const mount = cloneMount(join(request.folder, file));
    closeOffMount(mount);
    fresh.set(file, mount);
  }
  const done = { exchanged: 0, covered: 0, attached: 0 };
  let left: string[] = [];
  enterMountNamespace(namespace);
  try {
    changeFolder(hostProc);
    const root = openSync('/', O_PATH | constants.O_DIRECTORY | O_CLOEXEC);
    const table = parseMountTable(readFileSync('thread-self/mountinfo', 'utf8'));
    const binds = lxcfsBinds(table, request.source);
    for (const bind of binds) if (bind.device !== request.device) left = left.concat(replace(root, bind, fresh, done));
    if (binds.length === 0) for (const file of attach) left = left.concat(cover(root, file, table, fresh, done));
    closeSync(root);
  } finally {
    enterMountNamespace(hostNamespace);
  }
  for (const mount of fresh.values()) closeSync(mount);
  for (const name of ['exchanged', 'covered', 'attached'] as const) result[name] += done[name];
  result.left = left;
  return done.exchanged + done.covered > 0;
}

/** Exchange one bind. @returns why it was left as it is */
function replace(root: number, bind: MountLine & { file: string }, fresh: Map<string, number>, done: { exchanged: number; covered: number }): string[] {
  let fd: number;
  try {
    fd = openat2(root, bind.target, LOOKUP);
  } catch (error) {
    return [`${bind.target}: ${(error as NodeJS.ErrnoException).code}`];
  }
  try {
    if (mountIdOf(fd) !== bind.id) return []; // hidden under another mount: nobody reads it
    const mount = fresh.get(bind.file);
    if (mount === undefined) return [`${bind.target}: one more copy`];
    fresh.delete(bind.file);
    try {
      if (beneath) attachMountAt(mount, fd, true);
      detachMount(`thread-self/fd/${fd}`);
      if (!beneath) attachAgain(root, bind.target, mount);
      done.exchanged += 1;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
      attachMountAt(mount, fd); // locked: it belongs to a user namespace above this one's
      done.covered += 1;
    } finally {
      closeSync(mount);
    }
    return [];
  } catch (error) {
    return [`${bind.target}: ${(error as NodeJS.ErrnoException).code}`];
  } finally {
    closeSync(fd);
  }
}

/** Put the new file where the old one was: what shows there now is what the old one had covered. */
function attachAgain(root: number, path: string, mount: number): void {
  const fd = openat2(root, path, LOOKUP);
  try {
    attachMountAt(mount, fd);
  } finally {
    closeSync(fd);
  }
}

/** Cover a file of the kernel's own, in a VE that was booted while there was no lxcfs. */
function cover(root: number, path: string, table: readonly MountLine[], fresh: Map<string, number>, done: { attached: number }): string[] {
  try {
    const fd = openat2(root, path, LOOKUP);
    try {
      const under = table.find((line) => line.id === mountIdOf(fd));
      const mount = fresh.get(path);
      if (mount === undefined || under?.type !== (path.startsWith('/sys/') ? 'sysfs' : 'proc')) return []; // the VE has something else there
      attachMountAt(mount, fd);
      done.attached += 1;
      return [];
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return [`${path}: ${(error as NodeJS.ErrnoException).code}`];
  }
}

/** Id of the mount that a descriptor stands on, as in mountinfo. */
function mountIdOf(fd: number): number {
  return Number(/^mnt_id:\s*(\d+)$/m.exec(readFileSync(`thread-self/fdinfo/${fd}`, 'utf8'))?.[1]);
}

/** Let a VE stand still. @returns the way to let it go on, if it was this call that stopped it */
function freeze(group: string): (() => void) | undefined {
  if (readControl(group, 'cgroup.freeze') !== '0') return undefined;
  const still = new Int32Array(new SharedArrayBuffer(4));
  writeFileSync(`${group}/cgroup.freeze`, '1');
  for (let i = 0; i < FREEZE_PATIENCE && readKey(group, 'cgroup.events', 'frozen') !== 1; i++) Atomics.wait(still, 0, 0, 1);
  return () => writeFileSync(`${group}/cgroup.freeze`, '0');
}

function kernelIsAtLeast(major: number, minor: number): boolean {
  const [a = 0, b = 0] = release().split('.').map(Number);
  return a > major || (a === major && b >= minor);
}
