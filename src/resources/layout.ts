/**
 * Where the groups of an instance are, in every hierarchy of the host.
 *
 * v1 and hybrid: `/veld-INSTANCE/NUMBER` in each mounted hierarchy, cgroup2 included.
 * v2: the same, except where systemd is pid 1: there the group of the unit that systemd delegated to us, since systemd is the single
 * writer of all others and would take controllers away again.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { enableControllers, groupPids, makeGroup, readControl, writeControl } from '../kernel/cgroup.ts';
import type { CgroupHierarchies } from '../kernel/cgroup.ts';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import type { VeGroups } from './types.ts';

/** Controllers that VEs use, where cgroup2 has them. */
export const CONTROLLERS = ['cpu', 'memory', 'pids', 'cpuset', 'io'] as const;

/** Group of monitors (conmon and its like) beside the VEs' groups. */
export const MONITORS = 'monitors';

export interface Layout {
  hierarchies: CgroupHierarchies;
  /** Path of the instance's group in every hierarchy, from its mount point. */
  base: string;
  /** The base is a systemd unit's group: never removed by us. */
  delegated: boolean;
}

/**
 * Choose the base.
 * @param runDir folder that may hold `cgroup-base`, written by the unit that systemd delegated
 * @throws VeldError `kernel.unsupported` when cgroup2 is not mounted
 */
export function chooseLayout(hierarchies: CgroupHierarchies, instance: string, runDir: string, systemd = existsSync('/run/systemd/system')): Layout {
  const { unified } = hierarchies;
  if (unified === undefined) {
    throw new VeldError('kernel.unsupported', 'cgroup2 is not mounted; VEs are frozen, killed and delegated through it.',
      { hint: 'Mount it: mkdir /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified.' });
  }
  if (hierarchies.mode !== 'v2' || !systemd) return { hierarchies, base: `/veld-${instance}`, delegated: false };
  const told = readIfExists(join(runDir, 'cgroup-base'))?.trim();
  const unit = `veld-${instance}-ves.service`;
  // systemd nests slices at each dash: veld-main.slice is the folder veld.slice/veld-main.slice.
  const candidates = [told, `/veld.slice/veld-${instance}.slice/${unit}`, `/veld-${instance}.slice/${unit}`, `/system.slice/${unit}`];
  const base = candidates.find((path) => path !== undefined && /^(\/(?!\.\.?(\/|$))[^/]+)+$/.test(path) && existsSync(join(unified, path, 'cgroup.procs')));
  return base === undefined ? { hierarchies, base: `/veld-${instance}.slice`, delegated: false } : { hierarchies, base, delegated: true };
}

/** Directories of one group below the base (`''` for the base itself). */
export function groupsOf(layout: Layout, name: string): VeGroups {
  const path = name === '' ? layout.base : `${layout.base}/${name}`;
  const v1: Record<string, string> = {};
  for (const [controller, mountPoint] of Object.entries(layout.hierarchies.v1)) v1[controller] = mountPoint + path;
  return { unified: (layout.hierarchies.unified as string) + path, v1, path };
}

/** Each directory of a group once (co-mounted controllers share one), the cgroup2 one first. */
export function directoriesOf(groups: VeGroups): string[] {
  return [...new Set([groups.unified, ...Object.values(groups.v1)])];
}

/** Make a group in every hierarchy. */
export function makeGroups(groups: VeGroups): void {
  for (const directory of directoriesOf(groups)) makeGroup(directory);
}

/**
 * Make base and monitors' group everywhere and hand controllers down to the VEs' groups. Idempotent.
 * @returns why a controller could not be handed down, by controller
 */
export function setupBase(layout: Layout): Record<string, string> {
  const { unified, v1 } = layout.hierarchies;
  const steps = layout.base.split('/').slice(1);
  for (const mountPoint of new Set(Object.values(v1))) {
    let directory = mountPoint;
    for (const step of steps) makeGroup((directory = `${directory}/${step}`));
  }
  const failed: Record<string, string> = {};
  let directory = unified as string;
  for (const step of steps) {
    // Above a delegated group everything is systemd's.
    if (!layout.delegated) Object.assign(failed, enableControllers(directory, CONTROLLERS));
    directory = `${directory}/${step}`;
    if (!layout.delegated) makeGroup(directory);
  }
  makeGroups(groupsOf(layout, MONITORS));
  // A group with processes of its own cannot hand controllers down: the main process that the unit had in older versions goes to the monitors.
  if (readControl(directory, 'cgroup.procs')) {
    for (const pid of groupPids(directory)) if (stands(pid, layout.base)) move(pid, `${directory}/${MONITORS}`);
  }
  Object.assign(failed, enableControllers(directory, CONTROLLERS));
  return failed;
}

function stands(pid: number, path: string): boolean {
  return readControl(`/proc/${pid}`, 'cgroup')?.split('\n').includes(`0::${path}`) ?? false;
}

function move(pid: number, group: string): void {
  try {
    writeControl(group, 'cgroup.procs', pid);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // it has just ended
  }
}
