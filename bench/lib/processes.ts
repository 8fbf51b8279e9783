/** What processes and groups use, read from /proc and the hierarchies themselves: the same for everybody who is measured. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { findHierarchies, groupPids, readControl } from '../../src/kernel/cgroup.ts';

const hierarchies = findHierarchies();

/** Pids in a group and below, by its path in the cgroup2 hierarchy. */
export function pidsOf(path: string): number[] {
  const group = `${hierarchies.unified}${path}`;
  return existsSync(group) ? groupPids(group) : [];
}

/** Bytes that a group's memory controller counts, without the page cache: the kernel takes that back when it needs it. */
export function groupMemory(path: string): number {
  const v1 = hierarchies.v1.memory;
  const group = `${v1 ?? hierarchies.unified}${path}`;
  const cache = new RegExp(`^${v1 === undefined ? 'file' : 'total_cache'} (\\d+)$`, 'm').exec(readControl(group, 'memory.stat') ?? '')?.[1] ?? 0;
  return Number(readControl(group, v1 === undefined ? 'memory.current' : 'memory.usage_in_bytes') ?? 0) - Number(cache);
}

/** Seconds of CPU time that a group has used. */
export function groupCpu(path: string): number {
  const v1 = hierarchies.v1.cpuacct;
  if (v1 !== undefined) return Number(readControl(`${v1}${path}`, 'cpuacct.usage')) / 1e9;
  return Number(/^usage_usec (\d+)/m.exec(readControl(`${hierarchies.unified}${path}`, 'cpu.stat') ?? '')?.[1]) / 1e6;
}

/** Host pid of the group's init: the process that is number 1 in its own pid namespace. */
export function initOf(path: string): number | undefined {
  return pidsOf(path).find((pid) => /^NSpid:.*\s1$/m.test(readIf(pid, 'status')));
}

/** Proportional set size in bytes: shared pages count for each process by its share. */
export function pss(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + kilobytes(readIf(pid, 'smaps_rollup'), 'Pss'), 0);
}

/** Resident set size in bytes. */
export function rss(pid: number): number {
  return kilobytes(readIf(pid, 'status'), 'VmRSS');
}

/** Nanoseconds that all threads of a process have been on a CPU. */
export function cpuTime(pid: number): number {
  // USER_HZ ticks of stat are too coarse for an idle daemon.
  return readdirSync(`/proc/${pid}/task`).reduce((sum, task) => sum + Number(readIf(pid, `task/${task}/schedstat`).split(' ')[0] || 0), 0);
}

/** A line of /proc/meminfo in bytes. */
export function hostMemory(name: string): number {
  return kilobytes(readFileSync('/proc/meminfo', 'utf8'), name);
}

function readIf(pid: number, file: string): string {
  try {
    return readFileSync(join('/proc', String(pid), file), 'utf8');
  } catch {
    return ''; // it has just ended
  }
}

function kilobytes(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
}
