/**
 * Options of cgroup2 as a whole. Whoever mounts cgroup2 anywhere, in the host's own cgroup namespace, sets them for all: criu does at each dump and restore, lxcfs when it starts, and both name none,
 * so that those which systemd has set are off from then on (kernel/cgroup/cgroup.c, apply_cgroup_root_flags; seen on 6.1 and 6.12).
 */
import { readFileSync } from 'node:fs';
import { run } from '../lib/run.ts';
import { findHierarchies } from './cgroup.ts';

/**
 * As systemd mounts it. `memory_recursiveprot`: what a VE is guaranteed (memory.min) counts for the groups inside of it, which is where its memory is. `nsdelegate`: a cgroup namespace
 * is a border of delegation.
 */
const FLAGS = ['nsdelegate', 'memory_recursiveprot'];

/** Longest that mount(8) may take, in milliseconds. */
const TIMEOUT = 10_000;

/**
 * Set what is missing. Does nothing on a host whose controllers are on v1: there neither matters to VEs, and the mount is somebody else's.
 * @returns what was missing @throws when mount(8) fails
 */
export async function mendGroupFlags(): Promise<string[]> {
  const table = readFileSync('/proc/self/mountinfo', 'utf8');
  const { mode, unified } = findHierarchies(table);
  if (mode !== 'v2' || unified === undefined) return [];
  const missing = missingFlags(table);
  if (missing.length > 0) await run('mount', ['-o', `remount,${missing.join()}`, unified], { timeout: TIMEOUT });
  return missing;
}

/** @param table text of /proc/self/mountinfo @returns options that no mount of cgroup2 shows: all show the same */
export function missingFlags(table: string): string[] {
  const line = table.split('\n').find((one) => / - cgroup2 /.test(one));
  if (line === undefined) return [];
  const set = new Set(line.split(' ').at(-1)!.split(','));
  return FLAGS.filter((flag) => !set.has(flag));
}
