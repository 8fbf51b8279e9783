/**
 * What a dump of a VE would fail on, told from /proc before anything is stopped. One row for each thing that criu cannot take along; where a
 * process has several of a kind, one is named.
 */
import { constants, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { readKey } from '../kernel/cgroup.ts';
import { parseMountTable, type MountLine } from '../kernel/lxcfs-mounts.ts';
import { openFiles } from '../kernel/open-files.ts';
import { readProcessFile } from '../kernel/process.ts';
import { namedProcess } from './named-process.ts';
import type { Obstacle } from './types.ts';

const { O_DIRECT } = constants;

/** How deep groups are looked into. */
const MAX_DEPTH = 32;

/** Processes looked at before other work of this program has its turn. */
const SLICE = 32;

interface DescriptorRow {
  kind: string;
  /** Of the link in /proc/PID/fd. */
  pattern: RegExp;
  text: string;
  remedy: string;
}

/** Open files, by what their links in /proc/PID/fd say (proc_pid_fd(5)). */
const DESCRIPTORS: readonly DescriptorRow[] = [
  { kind: 'io_uring', pattern: /^anon_inode:\[io_uring\]/, text: 'has an io_uring, whose requests under way are in the kernel only', remedy: 'Switch features.io_uring off and restart the VE, or the program to its ordinary I/O.' },
  { kind: 'perf', pattern: /^anon_inode:\[perf_event\]/, text: 'measures with perf', remedy: 'End the measurement.' },
  { kind: 'bpf', pattern: /^anon_inode:(\[?bpf|bpf)/, text: 'holds a BPF program or map', remedy: 'End the program that loaded it.' },
  { kind: 'userfaultfd', pattern: /^anon_inode:\[userfaultfd\]/, text: 'handles page faults of its own', remedy: 'End the program.' },
  { kind: 'landlock', pattern: /^anon_inode:\[?landlock/, text: 'is about to confine itself with Landlock', remedy: 'Try again in a moment.' },
  { kind: 'fuse', pattern: /^\/dev\/fuse$/, text: 'serves a FUSE file system', remedy: 'Unmount it.' },
  { kind: 'secret', pattern: /^\/secretmem\b/, text: 'has memory that nobody else may read (memfd_secret)', remedy: 'End the program.' },
  // criu takes it for a terminal that was inherited from outside ("ctty inheritance detected") where another process holds the other end, as sshd and tmux do.
  { kind: 'tty', pattern: /^\/dev\/tty$/, text: 'has its terminal open as /dev/tty, which cannot be kept', remedy: 'End it. An interactive sh (dash) does that, and what asks for a password; bash does not.' },
  { kind: 'device', pattern: /^\/dev\/(?!null$|zero$|full$|random$|urandom$|tty$|ptmx$|pts\/|shm\/|mqueue\/|net\/tun$|log$|console$|initctl$|fd)/, text: 'has a device of the host open', remedy: 'Close it, or take the device away from the VE.' },
];

/** And by what else the kernel says of them; that is asked of few. */
const INFORMED: readonly (DescriptorRow & { is: (pid: number, fd: string) => Promise<boolean> })[] = [
  { kind: 'pipe', pattern: /^pipe:/, is: keepsPackets, text: 'has a pipe that keeps packets apart (O_DIRECT), which cannot be kept', remedy: 'End the program.' },
  { kind: 'mqueue', pattern: /^\/(?!memfd:|dev\b|SYSV)[^/]+$/, is: isMessageQueue, text: 'has a POSIX message queue open, which cannot be kept', remedy: 'End the program.' },
];

/** The VE's console in its own devpts: its other end is outside, unless somebody in the VE gets it for the time of the dump. */
const CONSOLE = /^\/dev\/(console|pts\/0)$/;

/** File systems that criu can make again. Those that come from outside are known by name and told apart before. */
const FILE_SYSTEMS = new Set(['overlay', 'proc', 'sysfs', 'cgroup2', 'tmpfs', 'devpts', 'mqueue', 'devtmpfs', 'ramfs', 'binfmt_misc', 'debugfs', 'tracefs', 'securityfs', 'autofs']);

/** Namespaces of which a VE has one only, or its dump fails: criu dumps nested ones of mounts alone, where it is told to leave the network to others. */
const SINGLE = { uts: 'a host name', ipc: 'System V IPC', user: 'users', cgroup: 'control groups', time: 'clocks', net: 'a network', pid: 'processes' } as const;

/**
 * Look at all processes of a VE.
 * @param init host pid of its init
 * @param pids host's, of all its processes
 * @param external mount points of what comes from outside
 * @param keepsConsole whether the other end of the console can be taken along
 */
export async function findObstacles(init: number, pids: readonly number[], mounts: readonly MountLine[], external: ReadonlySet<string>, keepsConsole: () => Promise<boolean>): Promise<Obstacle[]> {
  // Of overlays the VE's root alone, wherever it is bound: criu cannot mount another one again.
  const known = new Set(mounts.filter(({ target }) => target === '/' || external.has(target)).map(({ device }) => device));
  const strange = (table: readonly MountLine[]): MountLine[] => table.filter(({ type, device }) => (!FILE_SYSTEMS.has(type) || type === 'overlay') && !known.has(device));
  let consoleKept: boolean | undefined;
  const found: Obstacle[] = strange(mounts).map(({ type, target }) => ({
    kind: 'mount', process: null, text: `There is a ${type} file system at ${target}, which cannot be mounted again in the same state.`, remedy: `Unmount it: umount ${target}.`,
  }));
  const mountNamespaces = new Set([readLink(`/proc/${init}/ns/mnt`)]);
  const own = namespacesOf(init);
  for (const [i, pid] of pids.entries()) {
    if (i % SLICE === SLICE - 1) await nextTurn();
    const status = readProcessFile(pid, 'status');
    if (status === undefined || /^State:\s*[ZX]/m.test(status)) continue; // it has ended
    const process = namedProcess(pid, status);
    const add = (kind: string, what: string, remedy: string): void => {
      found.push({ kind, process, text: `Process ${process.pid} (${process.name}) ${what}.`, remedy });
    };
    const tracer = Number(/^TracerPid:\s*(\d+)/m.exec(status)?.[1] ?? 0);
    if (tracer !== 0) add('traced', 'is being traced by a debugger', 'End strace, gdb or whatever traces it.');
    const others = namespacesOf(pid);
    for (const [name, what] of Object.entries(SINGLE)) {
      if (own[name] !== undefined && others[name] !== undefined && own[name] !== others[name]) {
        add('namespace', `has a ${name} namespace of its own (for ${what})`, 'Containers inside a VE and units with PrivateNetwork=, ProtectHostname=, PrivateUsers= or PrivateIPC= make one: end them, or switch features.nesting off.');
      }
    }
    const mountNamespace = readLink(`/proc/${pid}/ns/mnt`);
    if (!mountNamespaces.has(mountNamespace)) {
      mountNamespaces.add(mountNamespace);
      for (const { type, target } of strange(parseMountTable(readProcessFile(pid, 'mountinfo') ?? ''))) add('mount', `sees a ${type} file system at ${target}, which cannot be mounted again in the same state`, 'Unmount it, or end the process.');
    }
    const files = openFiles(pid);
    const links = files.map(({ link }) => link);
    for (const { kind, pattern, text, remedy } of DESCRIPTORS) {
      if (links.some((link) => pattern.test(link))) add(kind, text, remedy);
    }
    for (const { kind, pattern, is, text, remedy } of INFORMED) {
      const answers = await Promise.all(files.filter(({ link }) => pattern.test(link)).map(({ fd }) => is(pid, fd)));
      if (answers.includes(true)) add(kind, text, remedy);
    }
    if (links.some((link) => CONSOLE.test(link)) && !(consoleKept ??= await keepsConsole())) add('console', 'has the console open, and the VE lacks a program that could hold the console\'s other end meanwhile', 'Install sh, setsid and sleep in it (util-linux and coreutils, or busybox).');
  }
  return found;
}

function namespacesOf(pid: number): Record<string, string | undefined> {
  return Object.fromEntries(Object.keys(SINGLE).map((name) => [name, readLink(`/proc/${pid}/ns/${name}`)]));
}

/** Whether a process has the VE's console open. @param pid host's */
export function holdsConsole(pid: number): boolean {
  return openFiles(pid).some(({ link }) => CONSOLE.test(link));
}

async function keepsPackets(pid: number, fd: string): Promise<boolean> {
  const flags = /^flags:\s*([0-7]+)$/m.exec(readProcessFile(pid, `fdinfo/${fd}`) ?? '')?.[1] ?? '0';
  return (Number.parseInt(flags, 8) & O_DIRECT) !== 0;
}

/** By its file system: one that is open is on a mount of the kernel's own. */
async function isMessageQueue(pid: number, fd: string): Promise<boolean> {
  const MQUEUE_MAGIC = 0x19800202; // linux/ipc/mqueue.c
  return statfs(`/proc/${pid}/fd/${fd}`).then(({ type }) => type === MQUEUE_MAGIC, () => false);
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** Groups that somebody in the VE has frozen: criu would wait for their processes. @param group the VE's cgroup2 directory */
export function frozenGroups(group: string): Obstacle[] {
  const found: Obstacle[] = [];
  const look = (path: string, name: string, depth: number): void => {
    for (const entry of depth > MAX_DEPTH ? [] : readdirSync(path, { withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      const below = `${path}/${entry.name}`;
      if (readKey(below, 'cgroup.events', 'frozen') === 1) {
        found.push({ kind: 'frozen', process: null, text: `The control group ${name}/${entry.name} is frozen: its processes cannot be looked into.`, remedy: 'Thaw it (systemctl thaw, or echo 0 into its cgroup.freeze).' });
      } else look(below, `${name}/${entry.name}`, depth + 1);
    }
  };
  try {
    look(group, '', 0);
  } catch { /* a group that has just gone */ }
  return found;
}

/** Links of the VE's network that the manager did not make: they would be gone after a restore. @param table text of /proc/PID/net/dev @param known names */
export function strangeLinks(init: number, known: readonly string[]): Obstacle[] {
  const names = readFileSync(`/proc/${init}/net/dev`, 'utf8').split('\n').flatMap((line) => /^\s*([^\s:]+):/.exec(line)?.[1] ?? []);
  // Made by the kernel in each namespace once the module of their kind is there.
  const fallback = /^(lo|sit0|tunl0|gre0|gretap0|erspan0|ip_vti0|ip6_vti0|ip6tnl0|ip6gre0)$/;
  return names.filter((name) => !known.includes(name) && !fallback.test(name)).map((name) => ({
    kind: 'link', process: null, text: `The VE has made a network link ${name}, which would be lost.`, remedy: `Take it down before (ip link del ${name}), and make it again afterwards.`,
  }));
}
