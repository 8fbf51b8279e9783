/** What a limit of a VE is to those who write it: lines in control files. One file per resource (cpu.ts, memory.ts, ...) plans them; limits.ts puts them together and writes them. */
import { existsSync } from 'node:fs';
import type { Properties } from '../spec/types.ts';
import type { VeGroups } from './types.ts';

/** The properties that groups hold. */
export const LIMITS = [
  'cpu.weight', 'cpu.limit', 'cpu.burst', 'cpu.count', 'cpu.mask', 'cpu.nodes', 'memory.limit', 'memory.swap', 'memory.guarantee', 'pids.limit', 'io.priority', 'io.limit', 'io.iops',
] as const;
export type LimitName = (typeof LIMITS)[number];

/** And those that BPF programs hold, by what counts them: see beancounters/sockets.ts and owned.ts. */
export const PROGRAM_LIMITS = { sockets: ['ubc.numtcpsock', 'ubc.numothersock'], files: ['ubc.numfile'], locks: ['ubc.numflock'] } as const;
export type Limits = Pick<Properties, LimitName>;

/** One line to write. */
export interface LimitWrite {
  property: LimitName;
  group: string;
  file: string;
  value: string;
  /** Device of a file that has a line for each, `MAJOR:MINOR`; the value begins with it. */
  device?: string;
}

/** What a host has that limits speak of. */
export interface Host {
  /** CPUs that VEs may use, ascending. */
  cpus: readonly number[];
  /** CPUs of each NUMA node that VEs may use. */
  nodes: ReadonlyMap<number, readonly number[]>;
  /** How many VEs are bound to a CPU, without the one whose limits are planned. */
  bound: (cpu: number) => number;
  /** The disk on which the disks of VEs lie; in words why there is none that can be limited. */
  disk: { device: string; name: string } | string;
}

export interface Plan {
  groups: VeGroups;
  limits: Limits;
  host: Host;
  /** What stands in a control file now. */
  current: (group: string, file: string) => string | undefined;
}

/** Where a limit is held. */
export interface Place {
  group: string;
  file: string;
  v1: boolean;
}

export interface Resource {
  /** What it holds, in the order of the table. */
  names: readonly LimitName[];
  /** Lines for the limits, in an order in which each can be written. @throws VeldError `property.unsupported`, `property.invalid` */
  plan(plan: Plan): LimitWrite[];
  /** Where a limit is held on this host, or in words why it is not. The file must be there. */
  place(groups: VeGroups, property: LimitName, host: Pick<Host, 'disk'>): Place | string;
}

/** A control file by version of the control groups. */
export interface ControlFile {
  controller: string;
  v1: string;
  v2: string;
  /** What a host without it lacks. */
  lacks: string;
}

/** Where a control file is, or in words why it is not there. */
export function placeOf({ controller, v1, v2, lacks }: ControlFile, groups: VeGroups): Place | string {
  const old = groups.v1[controller];
  const place = old === undefined ? { group: groups.unified, file: v2, v1: false } : { group: old, file: v1, v1: true };
  return existsSync(`${place.group}/${place.file}`) ? place : `this host's control groups lack ${lacks}`;
}
