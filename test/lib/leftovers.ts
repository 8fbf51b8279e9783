/**
 * Everything on the host that belongs to an instance, found without asking Veld: by its name and its folders in processes, mounts of all
 * visible mount namespaces, cgroups of every hierarchy, links, routes, rules, nft tables, sockets and files.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { FOLDER_PREFIX, poolsOf } from './names.ts';

export type TraceKind = 'process' | 'mount' | 'cgroup' | 'link' | 'route' | 'neighbour' | 'rule' | 'nft' | 'socket' | 'unit' | 'file';

export interface Trace {
  kind: TraceKind;
  /** What it is; the same thing has the same text at another time (no pids). */
  what: string;
  /** Of processes. */
  pid?: number;
}

/** Run a program of the host for its output; an absent program or a failure is an empty answer. */
function output(file: string, args: string[]): string {
  return spawnSync(file, args, { encoding: 'utf8', maxBuffer: 256 << 20 }).stdout ?? '';
}

function entries(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function json(file: string, args: string[]): Record<string, unknown>[] {
  const out = output(file, args).trim();
  return out === '' ? [] : JSON.parse(out) as Record<string, unknown>[];
}

/** Mount points of all cgroup hierarchies. */
export function cgroupMounts(): string[] {
  return text('/proc/self/mounts').split('\n').map((line) => line.split(' ')).filter((f) => f[2] === 'cgroup' || f[2] === 'cgroup2').map((f) => f[1] ?? '');
}

/** Directories of cgroups that carry the name, parents first. */
export function cgroupsOf(name: string): string[] {
  const found: string[] = [];
  const walk = (directory: string, inside: boolean, depth: number): void => {
    if (depth > 24) return;
    for (const entry of entries(directory)) {
      const path = `${directory}/${entry}`;
      const mine = inside || entry.includes(name);
      if (!isDirectory(path)) continue;
      if (mine) found.push(path);
      walk(path, mine, depth + 1);
    }
  };
  for (const mount of cgroupMounts()) walk(mount, false, 0);
  return found;
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** Processes of the instance, this one and its parents excepted. */
export function processesOf(name: string): Trace[] {
  const found: Trace[] = [];
  const excepted = new Set<number>();
  for (let pid = process.pid; pid > 1;) {
    excepted.add(pid);
    pid = Number(/^PPid:\s*(\d+)/m.exec(text(`/proc/${pid}/status`))?.[1] ?? 0);
  }
  for (const entry of entries('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || excepted.has(pid)) continue;
    if (/^State:\s*[ZX]/m.test(text(`/proc/${pid}/status`))) continue;
    const groups = text(`/proc/${pid}/cgroup`);
    const reasons: string[] = [];
    if (groups.includes(name)) reasons.push('cgroup');
    const command = text(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
    if (command.includes(name)) reasons.push('cmdline');
    for (const kind of ['cwd', 'exe', 'root']) if (link(`/proc/${pid}/${kind}`).includes(name)) reasons.push(kind);
    if (entries(`/proc/${pid}/fd`).some((fd) => link(`/proc/${pid}/fd/${fd}`).includes(name))) reasons.push('fd');
    if (text(`/proc/${pid}/environ`).includes(FOLDER_PREFIX + name)) reasons.push('environ');
    if (reasons.length > 0) found.push({ kind: 'process', pid, what: `${command.slice(0, 160) || text(`/proc/${pid}/comm`).trim()} (${reasons.join(', ')})` });
  }
  return found;
}

/** Mounts of the instance in this mount namespace and in those of all processes; each once, the host's first. */
function mountsOf(name: string): Trace[] {
  const seen = new Map<string, string>();
  const namespaces = new Set<string>();
  const host = link('/proc/self/ns/mnt');
  for (const entry of ['self', ...entries('/proc').filter((e) => /^\d+$/.test(e))]) {
    const namespace = link(`/proc/${entry}/ns/mnt`);
    if (namespace === '' || namespaces.has(namespace)) continue;
    namespaces.add(namespace);
    for (const line of text(`/proc/${entry}/mountinfo`).split('\n')) {
      const mount = line.split(' ').slice(2).join(' ');
      if (line.includes(name) && !seen.has(mount)) seen.set(mount, namespace === host ? 'host' : 'private');
    }
  }
  return [...seen].map(([line, where]) => ({ kind: 'mount' as const, what: `${where}: ${line}` }));
}

function networkOf(name: string): Trace[] {
  const [v4, v6] = poolsOf(name);
  const prefixes = [v4.replace(/0\/24$/, ''), v6.replace(/:\/64$/, '')];
  const mine = (value: unknown): boolean => {
    const s = JSON.stringify(value);
    return s.includes(name) || prefixes.some((prefix) => s.includes(prefix));
  };
  const found: Trace[] = [];
  for (const l of json('ip', ['-j', 'link', 'show'])) if (mine([l.ifname, l.ifalias, l.altnames])) found.push({ kind: 'link', what: String(l.ifname) });
  for (const l of json('ip', ['-j', 'addr', 'show'])) {
    for (const a of (l.addr_info ?? []) as { local?: string }[]) if (mine([a.local])) found.push({ kind: 'route', what: `address ${a.local} dev ${String(l.ifname)}` });
  }
  for (const family of ['-4', '-6']) {
    for (const r of json('ip', ['-j', family, 'route', 'show', 'table', 'all'])) {
      if (!mine(r)) continue;
      const field = (key: string, or: string): string => (typeof r[key] === 'string' ? r[key] : or);
      found.push({ kind: 'route', what: `${family} ${field('type', 'unicast')} ${field('dst', '?')} dev ${field('dev', '-')} table ${field('table', 'main')}` });
    }
    for (const n of json('ip', ['-j', family, 'neigh', 'show', 'proxy'])) if (mine(n)) found.push({ kind: 'neighbour', what: `proxy ${String(n.dst)} dev ${String(n.dev)}` });
    for (const r of json('ip', ['-j', family, 'rule', 'show'])) if (mine(r)) found.push({ kind: 'rule', what: JSON.stringify(r) });
  }
  for (const line of output('nft', ['list', 'tables']).split('\n')) if (line.includes(name)) found.push({ kind: 'nft', what: line.trim() });
  // Rules of the instance in tables of others.
  let table = '';
  for (const line of output('nft', ['list', 'ruleset']).split('\n')) {
    if (line.startsWith('table ')) table = line;
    else if (!table.includes(name) && (line.includes(name) || prefixes.some((prefix) => line.includes(prefix)))) found.push({ kind: 'nft', what: `${table} ${line.trim()}` });
  }
  for (const entry of entries('/run/netns')) if (entry.includes(name)) found.push({ kind: 'file', what: `/run/netns/${entry}` });
  return found;
}

/** Folders in which something of an instance could be left, besides its own. */
const PLACES = ['/run', '/run/lock', '/run/veld-instances', '/run/crun', '/run/user/0', '/var/lib', '/var/log', '/var/cache', '/var/tmp', '/tmp', '/dev/shm', '/etc', '/etc/systemd/system', '/sys/fs/bpf', '/root', '/'];

function filesOf(name: string): Trace[] {
  const found: Trace[] = [];
  for (const place of PLACES) {
    for (const entry of entries(place)) if (entry.includes(name)) found.push({ kind: 'file', what: place === '/' ? `/${entry}` : `${place}/${entry}` });
  }
  return found;
}

/** Everything that belongs to the instance. @param options.folder count its own folder, too (it is the last thing that goes) */
export function tracesOf(name: string, options: { folder?: boolean } = {}): Trace[] {
  const found: Trace[] = [
    ...processesOf(name),
    ...mountsOf(name),
    ...cgroupsOf(name).map((what) => ({ kind: 'cgroup' as const, what })),
    ...networkOf(name),
    ...filesOf(name).filter((trace) => options.folder !== false || trace.what !== FOLDER_PREFIX + name),
  ];
  for (const line of text('/proc/net/unix').split('\n')) {
    if (line.includes(name)) found.push({ kind: 'socket', what: `unix ${line.trim().split(/\s+/).slice(7).join(' ')}` });
  }
  if (existsSync('/run/systemd/system')) {
    for (const line of output('systemctl', ['list-units', '--all', '--plain', '--no-legend', `*${name}*`]).split('\n')) {
      if (line.trim() !== '') found.push({ kind: 'unit', what: line.trim().split(/\s+/)[0] ?? '' });
    }
  }
  return found;
}

/** Traces as sorted lines, for comparison. */
export function traceLines(traces: readonly Trace[]): string[] {
  return [...new Set(traces.map((t) => `${t.kind} ${t.what}`))].sort();
}
