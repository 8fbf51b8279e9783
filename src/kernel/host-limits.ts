/**
 * Limits of the host that all VEs share, and that kill VEs quietly when they are too low.
 *
 * At its start the daemon raises them where it may; it never lowers one. What stood there before is kept for this boot in
 * `<runDir>/host-limits.json`, so that `doctor` can tell it and `--remove` can put it back.
 * Meaning of each: Documentation/admin-guide/sysctl/ of the kernel; fs/notify/inotify/inotify_user.c, security/keys/key.c, net/core/neighbour.c.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';

interface LimitRow {
  /** Dotted name. */
  name: string;
  /** Value needed for `ves` VEs. */
  need: (ves: number) => number;
  /** What happens to VEs when it is reached. */
  consequence: string;
}

/** 2^22: PID_MAX_LIMIT of 64-bit kernels. */
const PID_MAX_LIMIT = 4_194_304;

/**
 * The table. Not in it, because each network namespace has its own: net.core.somaxconn, net.unix.max_dgram_qlen, conntrack counts;
 * and fs.mount-max, which each mount namespace has.
 */
const ROWS: readonly LimitRow[] = [
  // inotify is charged to the owner of the user namespace as well: the VE's root, or host root for all VEs together (see
  // namespace-owner.ts). systemd and its services take 9 to 15 instances, a desktop or CI machine more.
  { name: 'fs.inotify.max_user_instances', need: (ves) => ves * 64, consequence: 'systemd in the next VE dies at boot' },
  { name: 'fs.inotify.max_user_watches', need: (ves) => Math.max(524_288, ves * 4096), consequence: 'programs in VEs cannot watch files (ENOSPC)' },
  { name: 'fs.inotify.max_queued_events', need: () => 16_384, consequence: 'programs in VEs lose file events' },
  // Per uid; VE users are uids of their own, and each systemd service takes a session keyring.
  { name: 'kernel.keys.maxkeys', need: () => 2000, consequence: 'services in VEs with many units do not start (EDQUOT)' },
  { name: 'kernel.keys.maxbytes', need: () => 2_000_000, consequence: 'services in VEs with many units do not start (EDQUOT)' },
  // One table for all namespaces: each VE is a neighbour of the host, and has the host (or others) as neighbour.
  { name: 'net.ipv4.neigh.default.gc_thresh2', need: (ves) => Math.max(2048, ves * 8), consequence: 'neighbour entries are thrown out early' },
  { name: 'net.ipv4.neigh.default.gc_thresh3', need: (ves) => Math.max(4096, ves * 16), consequence: 'VEs lose their network (neighbour table overflow)' },
  { name: 'net.ipv6.neigh.default.gc_thresh2', need: (ves) => Math.max(2048, ves * 8), consequence: 'neighbour entries are thrown out early' },
  { name: 'net.ipv6.neigh.default.gc_thresh3', need: (ves) => Math.max(4096, ves * 16), consequence: 'VEs lose their network (neighbour table overflow)' },
  { name: 'vm.max_map_count', need: () => 262_144, consequence: 'databases and Java programs in VEs fail to map memory' },
  { name: 'kernel.pid_max', need: () => PID_MAX_LIMIT, consequence: 'no VE can start a process (EAGAIN)' },
  { name: 'kernel.threads-max', need: (ves) => Math.min(PID_MAX_LIMIT, ves * 256), consequence: 'no VE can start a process (EAGAIN)' },
  { name: 'fs.file-max', need: (ves) => ves * 4096, consequence: 'no VE can open a file (ENFILE)' },
  { name: 'fs.nr_open', need: () => 1_048_576, consequence: 'programs in VEs cannot raise their number of files' },
  { name: 'fs.aio-max-nr', need: (ves) => Math.max(1_048_576, ves * 2048), consequence: 'databases in VEs cannot use asynchronous I/O (EAGAIN)' },
  // 1024 of them are reserved for the host's own devpts.
  { name: 'kernel.pty.max', need: (ves) => 1024 + ves * 8, consequence: 'no terminal can be opened in a VE' },
  { name: 'user.max_user_namespaces', need: (ves) => ves * 8, consequence: 'no VE can start' },
  { name: 'user.max_net_namespaces', need: (ves) => ves * 8, consequence: 'no VE can start' },
  { name: 'user.max_mnt_namespaces', need: (ves) => ves * 64, consequence: 'services in VEs with mounts of their own do not start' },
];

export interface HostLimit {
  name: string;
  need: number;
  /** Null where this kernel (or this namespace) has no such limit. */
  value: number | null;
  consequence: string;
}

export interface HostLimitsResult {
  raised: { name: string; from: number; to: number }[];
  /** Below what is needed, and not to be raised. */
  refused: (HostLimit & { reason: string })[];
}

/** How many VEs a node is made ready for: its uid block has as many ranges. */
export const VES_PER_NODE = 512;

/** Read every limit. @param root folder of the sysctl files; replaced in tests */
export function readHostLimits(ves = VES_PER_NODE, root = '/proc/sys'): HostLimit[] {
  return ROWS.map(({ name, need, consequence }) => ({ name, need: need(ves), value: readValue(root, name), consequence }));
}

/**
 * Raise what is too low. Two daemons may do so side by side: a value is only ever raised.
 * @param runDir where `host-limits.json` keeps `{name: value before the first raise of this boot}`
 */
export function raiseHostLimits(runDir: string, ves = VES_PER_NODE, root = '/proc/sys'): HostLimitsResult {
  const result: HostLimitsResult = { raised: [], refused: [] };
  const low = readHostLimits(ves, root).filter((limit) => limit.value !== null && limit.value < limit.need);
  if (low.length === 0) return result;
  // Written before the first change: a daemon that is killed in between must not take a raised value for the host's own.
  const file = join(runDir, 'host-limits.json');
  const before = originals(file);
  for (const { name, value } of low) before[name] ??= value as number;
  writeFileAtomic(file, `${JSON.stringify(before, null, 2)}\n`);
  for (const limit of low) {
    const from = limit.value as number;
    try {
      writeFileSync(sysctlFile(root, limit.name), String(limit.need));
      const to = readValue(root, limit.name) ?? from;
      if (to < limit.need) throw new Error(`the kernel keeps ${to}`);
      result.raised.push({ name: limit.name, from, to });
    } catch (error) {
      result.refused.push({ ...limit, reason: (error as NodeJS.ErrnoException).code ?? (error as Error).message });
    }
  }
  return result;
}

/**
 * Put back the values that stood before (`--remove`). A limit that somebody changed since is left alone.
 * @returns names of those put back
 */
export function restoreHostLimits(runDir: string, ves = VES_PER_NODE, root = '/proc/sys'): string[] {
  const before = originals(join(runDir, 'host-limits.json'));
  const restored: string[] = [];
  for (const { name, need, value } of readHostLimits(ves, root)) {
    const old = before[name];
    if (old === undefined || value !== need) continue;
    try {
      writeFileSync(sysctlFile(root, name), String(old));
      restored.push(name);
    } catch { /* as good as it gets: a higher limit harms nobody */ }
  }
  return restored;
}

function originals(file: string): Record<string, number> {
  try {
    return JSON.parse(readIfExists(file) ?? '{}') as Record<string, number>;
  } catch {
    return {}; // half of a file cannot be (it is renamed into place), so somebody wrote into it
  }
}

function sysctlFile(root: string, name: string): string {
  return join(root, ...name.split('.'));
}

function readValue(root: string, name: string): number | null {
  try {
    const value = Number(readFileSync(sysctlFile(root, name), 'utf8').trim());
    return Number.isNaN(value) ? null : value;
  } catch {
    return null;
  }
}
