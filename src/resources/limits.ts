/** Limits of a VE as lines in control files: planned (pure), written, read back, and taken back when one of them fails. */
import { existsSync } from 'node:fs';
import { readControl, writeControl } from '../kernel/cgroup.ts';
import { VeldError } from '../lib/errors.ts';
import type { Properties } from '../spec/types.ts';
import type { VeGroups } from './types.ts';

/** The properties that groups hold. */
export const LIMITS = ['cpu.weight', 'cpu.limit', 'memory.limit', 'memory.swap', 'pids.limit'] as const;
export type LimitName = (typeof LIMITS)[number];
export type Limits = Pick<Properties, LimitName>;

/** Period over which cpu.limit is enforced, in microseconds: the kernel's default. */
const PERIOD = 100_000;
/** memory.*_in_bytes of v1 says PAGE_COUNTER_MAX * PAGE_SIZE where there is no limit; no limit in use comes near. */
const V1_UNLIMITED = 2 ** 62;
/** The kernel rounds limits to pages; 64 KiB is the largest page of a supported architecture. */
const LARGEST_PAGE = 65_536;

/** One line to write. */
export interface LimitWrite {
  property: LimitName;
  group: string;
  file: string;
  value: string;
}

/** Controllers and their files, by version. The file must exist for the limit to be held. */
const FILES: Record<LimitName, { controller: string; v1: string; v2: string; lacks: string }> = {
  'cpu.weight': { controller: 'cpu', v1: 'cpu.shares', v2: 'cpu.weight', lacks: 'the cpu controller' },
  'cpu.limit': { controller: 'cpu', v1: 'cpu.cfs_quota_us', v2: 'cpu.max', lacks: 'the cpu controller with CONFIG_CFS_BANDWIDTH' },
  'memory.limit': { controller: 'memory', v1: 'memory.limit_in_bytes', v2: 'memory.max', lacks: 'the memory controller' },
  'memory.swap': { controller: 'memory', v1: 'memory.memsw.limit_in_bytes', v2: 'memory.swap.max', lacks: 'swap accounting (swapaccount=1 on the kernel command line)' },
  'pids.limit': { controller: 'pids', v1: 'pids.max', v2: 'pids.max', lacks: 'the pids controller' },
};

/** Where a limit is held: the file, or why there is none. */
export function limitFile(groups: VeGroups, property: LimitName): { group: string; file: string; v1: boolean } | string {
  const row = FILES[property];
  const v1 = groups.v1[row.controller];
  const place = v1 === undefined ? { group: groups.unified, file: row.v2, v1: false } : { group: v1, file: row.v1, v1: true };
  return existsSync(`${place.group}/${place.file}`) ? place : `this host's control groups lack ${row.lacks}`;
}

/**
 * Lines that make `limits` true, in an order in which the kernel takes them.
 * @param current reads a control file as it is now (the order of v1's two memory limits depends on it)
 * @throws VeldError `property.unsupported` when the host has no file for a limit that is asked for
 */
export function planLimits(groups: VeGroups, limits: Limits, current = readControl): LimitWrite[] {
  const writes: LimitWrite[] = [];
  const add = (property: LimitName, asked: boolean, value: (v1: boolean) => string): LimitWrite | undefined => {
    const place = limitFile(groups, property);
    if (typeof place !== 'string') return { property, group: place.group, file: place.file, value: value(place.v1) };
    if (asked) throw new VeldError('property.unsupported', `${property} cannot be held: ${place}.`, { details: { property } });
    return undefined;
  };
  const weight = limits['cpu.weight'];
  const cpu = limits['cpu.limit'];
  const memory = limits['memory.limit'];
  const swap = limits['memory.swap'];
  const pids = limits['pids.limit'];

  writes.push(...[
    // v1 counts from 1024 as v2 counts from 100; its bounds are MIN_SHARES and MAX_SHARES of kernel/sched.
    add('cpu.weight', weight !== 100, (v1) => String(v1 ? Math.min(262_144, Math.max(2, Math.round((weight * 1024) / 100))) : weight)),
    add('cpu.limit', cpu !== null, (v1) => {
      const quota = cpu === null ? undefined : Math.round((cpu * PERIOD) / 100);
      return v1 ? String(quota ?? -1) : `${quota ?? 'max'} ${PERIOD}`;
    }),
    add('pids.limit', pids !== null, () => String(pids ?? 'max')),
  ].filter((write) => write !== undefined));

  const limit = add('memory.limit', memory !== null, (v1) => String(memory ?? (v1 ? -1 : 'max')));
  const v1Memory = groups.v1.memory !== undefined;
  if (v1Memory && swap !== null && memory === null) {
    throw new VeldError('property.unsupported', 'memory.swap needs a memory.limit here: cgroup v1 can only limit memory and swap together.',
      { hint: 'Set memory.limit as well.', details: { property: 'memory.swap' } });
  }
  const both = add('memory.swap', swap !== null, (v1) => {
    if (!v1) return String(swap ?? 'max');
    return swap === null || memory === null ? '-1' : String(memory + swap);
  });
  if (limit && both && v1Memory) {
    // memory <= memory+swap must hold after each write: raise the sum first, lower it last.
    const raise = bytes(both.value) >= bytes(current(both.group, both.file) ?? '-1');
    writes.push(...(raise ? [both, limit] : [limit, both]));
  } else {
    for (const write of [limit, both]) if (write) writes.push(write);
  }
  return writes;
}

/**
 * Write limits that differ and read each one back. When one fails those written before are taken back.
 * @throws VeldError `property.unsupported` when the kernel refuses a value or keeps another one, `property.not_live` when the VE uses
 *   more memory than the new limit and it cannot be reclaimed
 */
export function writeLimits(writes: readonly LimitWrite[]): void {
  const undo: LimitWrite[] = [];
  let at = writes[0];
  try {
    for (const write of writes) {
      at = write;
      const before = readControl(write.group, write.file);
      if (before !== undefined && sameLimit(write, before)) continue;
      writeControl(write.group, write.file, write.value, write.property === 'memory.limit');
      if (before !== undefined) undo.unshift({ ...write, value: before });
      const after = readControl(write.group, write.file) ?? '';
      if (!sameLimit(write, after)) {
        throw new VeldError('property.unsupported', `${write.property}: wrote ${write.value} to ${write.file}, the kernel keeps ${after}.`,
          { details: { ...write, kept: after } });
      }
    }
  } catch (error) {
    for (const write of undo) {
      try {
        writeControl(write.group, write.file, bytes(write.value) >= V1_UNLIMITED ? '-1' : write.value);
      } catch { /* the first error says more */ }
    }
    throw error instanceof VeldError ? error : refused(at as LimitWrite, error as NodeJS.ErrnoException);
  }
}

/** Whether the kernel's text means what was written. */
export function sameLimit(write: LimitWrite, kept: string): boolean {
  if (kept === write.value) return true;
  if (!write.property.startsWith('memory.')) return false;
  const wanted = bytes(write.value);
  const got = bytes(kept);
  return (wanted >= V1_UNLIMITED && got >= V1_UNLIMITED) || Math.abs(wanted - got) < LARGEST_PAGE;
}

function bytes(text: string): number {
  return text === 'max' || text === '-1' ? Number.POSITIVE_INFINITY : Number(text);
}

function refused(at: LimitWrite, error: NodeJS.ErrnoException): VeldError {
  if (error.code === 'EBUSY' && at.property.startsWith('memory.')) {
    return new VeldError('property.not_live', `The VE uses more memory than ${at.property} allows, and it cannot be freed now.`,
      { hint: 'Stop programs in the VE, or the VE itself, and try again.', cause: error });
  }
  if (error.code === 'ENOENT') return new VeldError('ve.not_running', `The VE's control group ${at.group} is gone.`, { cause: error });
  return new VeldError('property.unsupported', `The kernel refused ${at.property}: ${error.code ?? error.message} for ${at.value} in ${at.file}.`,
    { cause: error, details: { ...at } });
}
