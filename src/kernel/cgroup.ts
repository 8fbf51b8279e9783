/**
 * The door to control groups: where the hierarchies are, and what can be done to a directory in one.
 *
 * A *group* here is always an absolute directory. Groups that a VE may have made are walked by descriptor
 * (`/proc/self/fd/N/name`) and with names as bytes: a VE chooses depth and names of its nested groups.
 * Source of all formats: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the kernel.
 */
import { chmodSync, closeSync, constants, existsSync, mkdirSync, openSync, readFile, readFileSync, readdirSync, rmdirSync, statSync, watch, writeFile, writeSync } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import { formatDevice } from './device-number.ts';

/** `v2`: cgroup2 has the controllers; `hybrid`: they are on v1, cgroup2 is mounted beside; `v1`: no cgroup2 at all. */
export type CgroupMode = 'v2' | 'hybrid' | 'v1';

export interface CgroupHierarchies {
  mode: CgroupMode;
  /** Mount point of cgroup2. */
  unified: string | undefined;
  /** Mount point of each v1 controller; named hierarchies are `name=NAME`. Co-mounted controllers share one. */
  v1: Record<string, string>;
}

/** Super block options of a cgroup mount that are not controllers. A new one that is missing here only adds a second name for a mount. */
const MOUNT_OPTIONS = /^(rw|ro|xattr|all|none|noprefix|clone_children|cpuset_v2_mode|favordynmods|seclabel|release_agent=.*)$/;

/**
 * Find the hierarchies in a mountinfo table. Mounts that are hidden under another mount, or show only a part of their hierarchy, are passed over.
 * @param table text of /proc/self/mountinfo
 * @param device `major:minor` of what is at a path now; replaced in tests
 */
export function findHierarchies(table = readFileSync('/proc/self/mountinfo', 'utf8'), device = deviceOf): CgroupHierarchies {
  const v1: Record<string, string> = {};
  let unified: string | undefined;
  for (const line of table.split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-');
    const type = fields[dash + 1];
    if (dash < 6 || (type !== 'cgroup' && type !== 'cgroup2')) continue;
    const mountPoint = unescape(fields[4] as string);
    if (fields[3] !== '/' || device(mountPoint) !== fields[2]) continue;
    if (type === 'cgroup2') {
      unified ??= mountPoint;
      continue;
    }
    for (const option of (fields[dash + 3] ?? '').split(',')) if (!MOUNT_OPTIONS.test(option)) v1[option] ??= mountPoint;
  }
  const controllers = Object.keys(v1).some((name) => !name.startsWith('name='));
  return { mode: unified === undefined ? 'v1' : controllers ? 'hybrid' : 'v2', unified, v1 };
}

/** mountinfo writes space, tab, newline and backslash in octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function deviceOf(path: string): string | undefined {
  const dev = statSync(path, { throwIfNoEntry: false })?.dev;
  return dev === undefined ? undefined : formatDevice(dev);
}

/** Text of a control file without its last newline, or undefined when the file or its group is not there. */
export function readControl(group: string, file: string): string | undefined {
  try {
    return readFileSync(`${group}/${file}`, 'utf8').trimEnd();
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/**
 * Write a control file, in one write(2) as the kernel wants it.
 * @param nonblock on kernels >= 6.16 a memory limit written so does not wait for reclaim; older ones ignore it
 * @throws the system error as it is (EBUSY, EINVAL, ENOENT ...)
 */
export function writeControl(group: string, file: string, value: string | number, nonblock = false): void {
  const fd = openSync(`${group}/${file}`, constants.O_WRONLY | (nonblock ? constants.O_NONBLOCK : 0));
  try {
    writeSync(fd, String(value));
  } finally {
    closeSync(fd);
  }
}

/** Value of a key in a flat-keyed file (`cgroup.events`, `cpu.stat`). */
export function readKey(group: string, file: string, key: string): number | undefined {
  const text = readControl(group, file);
  return text === undefined ? undefined : keyIn(text, key);
}

function keyIn(text: string, key: string): number | undefined {
  const found = new RegExp(`^${key} (\\d+)$`, 'm').exec(text);
  return found ? Number(found[1]) : undefined;
}

/** Make a group (not its parents), mode 0755 whatever the umask. A v1 cpuset is filled from its parent: without cpus and mems it takes no process. */
export function makeGroup(group: string): void {
  try {
    mkdirSync(group);
    chmodSync(group, 0o755);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  if (existsSync(`${group}/cgroup.type`)) return; // v2: an empty cpuset follows its parent
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (readControl(group, file) === '') writeControl(group, file, readControl(dirname(group), file) ?? '');
  }
}

/** When nobody is expected to change groups any more: performance.now(). */
let quickUntil = 0;
let keepingQuick = false;
/** Milliseconds from one move that moves nothing to the next: less than a grace period takes. */
const QUICK_PERIOD = 3;

/**
 * Prepare the kernel for processes that are about to change groups. The first one after a while waits for an RCU grace period (3 to 25 ms measured;
 * cgroup_threadgroup_rwsem in kernel/cgroup/cgroup.c), those soon after it do not. This begins the wait now, in another thread, by a move that moves
 * nothing, of this process into the group where it stands, and repeats it: a boot or a restore has many processes that enter groups one after the
 * other. Nothing depends on its success.
 * @param unified mount point of cgroup2
 * @param milliseconds for which processes are expected; 0: soon, and no more of them
 */
export function hastenMoves(unified: string, milliseconds = 0): void {
  quickUntil = Math.max(quickUntil, performance.now() + milliseconds);
  if (keepingQuick) return;
  keepingQuick = true;
  // Both in another thread: whoever reads this waits, too, while a move is under way.
  readFile('/proc/self/cgroup', 'utf8', (_error, text?: string) => {
    const path = /^0::(.*)$/m.exec(text ?? '')?.[1];
    const move = (): void => writeFile(`${unified}${path}/cgroup.procs`, '0', { flag: 'r+' }, (failed) => {
      keepingQuick = failed === null && performance.now() < quickUntil;
      if (keepingQuick) setTimeout(move, QUICK_PERIOD).unref();
    });
    if (path === undefined) keepingQuick = false;
    else move();
  });
}

/**
 * Enable controllers for the children of a cgroup2 group, one by one, so that one that cannot be had does not spoil the others.
 * @returns reasons for those that could not be enabled, by controller
 */
export function enableControllers(group: string, wanted: readonly string[]): Record<string, string> {
  const failed: Record<string, string> = {};
  const available = words(readControl(group, 'cgroup.controllers'));
  const enabled = words(readControl(group, 'cgroup.subtree_control'));
  for (const controller of wanted) {
    if (enabled.includes(controller) || !available.includes(controller)) continue;
    try {
      writeControl(group, 'cgroup.subtree_control', `+${controller}`);
    } catch (error) {
      failed[controller] = `${group}/cgroup.subtree_control refused it: ${(error as Error).message}`;
    }
  }
  return failed;
}

/** Words of a line, e.g. of `cgroup.controllers`. */
export function words(text: string | undefined): string[] {
  return text ? text.split(/\s+/) : [];
}

/** Sum of a key's numbers in a flat-keyed file of a group and all groups below it. */
export function sumKey(group: string, file: string, key: string): number {
  let sum = 0;
  walk(Buffer.from(group), (path) => {
    try {
      sum += keyIn(readFileSync(join2(path, file), 'utf8'), key) ?? 0;
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  });
  return sum;
}

/** Host pids in a group and all groups below it. */
export function groupPids(group: string): number[] {
  const pids = new Set<number>();
  walk(Buffer.from(group), (path) => {
    try {
      for (const pid of readFileSync(join2(path, 'cgroup.procs'), 'utf8').split('\n')) if (Number(pid) > 0) pids.add(Number(pid));
    } catch (error) {
      // A threaded group answers EOPNOTSUPP; its processes stand in the group that is the root of the threaded tree.
      if (!isGone(error) && (error as NodeJS.ErrnoException).code !== 'EOPNOTSUPP' && (error as NodeJS.ErrnoException).code !== 'ENOTSUP') throw error;
    }
  });
  return [...pids];
}

/**
 * Remove a group and all groups below it. They must be empty of processes; those that are just ending are waited for.
 * @param timeout milliseconds to go on while the kernel says EBUSY
 * @throws VeldError `timeout` naming the processes that are still there
 */
export async function removeGroup(group: string, timeout = 3000): Promise<void> {
  const end = performance.now() + timeout;
  for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
    let busy = false;
    walk(Buffer.from(group), (path) => {
      try {
        rmdirSync(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EBUSY' || (error as NodeJS.ErrnoException).code === 'ENOTEMPTY') busy = true;
        else if (!isGone(error)) throw error;
      }
    });
    if (!busy) return;
    if (performance.now() > end) {
      const pids = groupPids(group);
      throw new VeldError('timeout', `The control group ${group} could not be removed: ${describe(pids)}.`, { details: { group, pids } });
    }
    await sleep(wait);
  }
}

/** Freeze a cgroup2 group and wait until the kernel says that every process in it stands still. Thawed again when that fails. */
export async function freezeGroup(group: string, timeout = 5000): Promise<void> {
  writeControl(group, 'cgroup.freeze', 1);
  if (await waitForEvent(group, 'frozen', 1, timeout)) return;
  writeControl(group, 'cgroup.freeze', 0);
  throw new VeldError('timeout', `The processes in ${group} did not freeze within ${timeout} ms; they run again.`, { details: { group } });
}

/** Thaw a cgroup2 group and wait until it runs. */
export async function thawGroup(group: string, timeout = 5000): Promise<void> {
  writeControl(group, 'cgroup.freeze', 0);
  if (!(await waitForEvent(group, 'frozen', 0, timeout))) throw new VeldError('timeout', `${group} did not thaw within ${timeout} ms.`);
}

/**
 * Kill everything in a cgroup2 group and below (frozen or not, forks included) and wait until it is empty.
 * @throws VeldError `timeout` naming the processes that do not end, e.g. in an unresponsive file system
 */
export async function killGroup(group: string, timeout = 10_000): Promise<void> {
  writeControl(group, 'cgroup.kill', 1);
  if (await waitForEvent(group, 'populated', 0, timeout)) return;
  const pids = groupPids(group);
  if (pids.length === 0) return;
  throw new VeldError('timeout', `Killing ${group} did not finish within ${timeout} ms: ${describe(pids)}.`, { details: { group, pids } });
}

/**
 * Wait until `key` in the group's cgroup.events has a value. The kernel notifies (inotify); where no watch can be had it is asked every 5 ms.
 * A group that is gone counts as thawed and empty.
 * @returns false when `timeout` ms have passed
 */
export function waitForEvent(group: string, key: 'frozen' | 'populated', value: 0 | 1, timeout: number): Promise<boolean> {
  const reached = (): boolean => (readKey(group, 'cgroup.events', key) ?? 0) === value;
  if (reached()) return Promise.resolve(true);
  return new Promise((resolve, reject) => {
    let watcher: FSWatcher | undefined;
    let poll: NodeJS.Timeout | undefined;
    const limit = setTimeout(() => finish(() => resolve(reached())), timeout);
    const finish = (settle: () => void): void => {
      watcher?.close();
      clearInterval(poll);
      clearTimeout(limit);
      settle();
    };
    const look = (): void => {
      try {
        if (reached()) finish(() => resolve(true));
      } catch (error) {
        finish(() => reject(error));
      }
    };
    const startPolling = (): void => { poll ??= setInterval(look, 5); };
    try {
      watcher = watch(`${group}/cgroup.events`, look);
      watcher.on('error', startPolling);
    } catch {
      startPolling(); // the host's inotify instances or watches are used up
    }
    look(); // it may have happened before the watch stood
  });
}

/** Depth first, children before their parent. `visit` gets a path that stays short at any depth. */
function walk(group: Buffer, visit: (path: Buffer) => void): void {
  let fd: number;
  try {
    fd = openSync(group, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (isGone(error)) return;
    throw error;
  }
  try {
    const here = `/proc/self/fd/${fd}`;
    for (const entry of readdirSync(here, { withFileTypes: true, encoding: 'buffer' })) {
      if (entry.isDirectory()) walk(join2(Buffer.from(here), entry.name), visit);
    }
  } catch (error) {
    if (!isGone(error)) throw error;
  } finally {
    closeSync(fd);
  }
  visit(group);
}

function join2(path: Buffer, name: string | Buffer): Buffer {
  return Buffer.concat([path, Buffer.from('/'), typeof name === 'string' ? Buffer.from(name) : name]);
}

/** ENODEV is what an open file of a removed group answers. */
function isGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENODEV';
}

function describe(pids: readonly number[]): string {
  if (pids.length === 0) return 'the kernel still holds it';
  const names = pids.slice(0, 5).map((pid) => `${pid} (${readControl(join('/proc', String(pid)), 'comm') ?? 'gone'})`);
  return `it holds ${pids.length} process(es): ${names.join(', ')}`;
}
