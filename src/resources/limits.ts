/** Limits of a VE as lines in control files: planned by the resources (pure), written, read back, and taken back when one of them fails. */
import { readControl, writeControl } from '../kernel/cgroup.ts';
import { VeldError } from '../lib/errors.ts';
import type { Host, LimitName, LimitWrite, Plan, Resource } from './control.ts';
import { cpu } from './cpu.ts';
import { cpuset } from './cpuset.ts';
import { io, lineOf } from './io.ts';
import { bytesOf, memory } from './memory.ts';
import { pids } from './pids.ts';
import type { VeGroups } from './types.ts';

/** In the order in which they are written: what can be refused for what the VE holds comes late. */
const RESOURCES: readonly Resource[] = [cpu, cpuset, io, pids, memory];

/** memory.*_in_bytes of v1 says PAGE_COUNTER_MAX * PAGE_SIZE where there is no limit; no limit in use comes near. */
const V1_UNLIMITED = 2 ** 62;
/** The kernel rounds limits to pages; 64 KiB is the largest page of a supported architecture. */
const LARGEST_PAGE = 65_536;

/** Where a limit is held: the file, or why there is none. */
export function limitFile(groups: VeGroups, property: LimitName, host: Pick<Host, 'disk'>): ReturnType<Resource['place']> {
  return RESOURCES.find(({ names }) => names.includes(property))!.place(groups, property, host);
}

/**
 * The lines that hold the limits, in an order in which each can be written.
 * @param changed only what belongs together with these properties; default all
 * @throws VeldError `property.unsupported` for what this host cannot hold, `property.invalid` for what it has not
 */
export function planLimits(groups: VeGroups, limits: Plan['limits'], host: Host, current: Plan['current'] = readControl, changed?: readonly string[]): LimitWrite[] {
  return RESOURCES.filter(({ names }) => changed === undefined || names.some((name) => changed.includes(name))).flatMap((resource) => resource.plan({ groups, limits, host, current }));
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
      const before = standing(write);
      if (before !== undefined && sameLimit(write, before)) continue;
      writeControl(write.group, write.file, write.value, write.property === 'memory.limit');
      if (before !== undefined) undo.unshift({ ...write, value: before });
      const after = standing(write) ?? '';
      if (!sameLimit(write, after)) {
        throw new VeldError('property.unsupported', `${write.property}: wrote ${write.value} to ${write.file}, the kernel keeps ${after}.`,
          { details: { ...write, kept: after } });
      }
    }
  } catch (error) {
    for (const write of undo) {
      try {
        writeControl(write.group, write.file, isBytes(write) && bytesOf(write.value) >= V1_UNLIMITED ? '-1' : write.value);
      } catch { /* the first error says more */ }
    }
    throw error instanceof VeldError ? error : refused(at as LimitWrite, error as NodeJS.ErrnoException);
  }
}

/** What stands there now, as it would be written. */
function standing({ group, file, device, value }: LimitWrite): string | undefined {
  const text = readControl(group, file);
  return text === undefined || device === undefined ? text : lineOf(text, device, value);
}

/** Whether the kernel's text means what was written. */
export function sameLimit(write: LimitWrite, kept: string): boolean {
  if (kept === write.value) return true;
  if (!isBytes(write)) return false;
  const wanted = bytesOf(write.value);
  const got = bytesOf(kept);
  return (wanted >= V1_UNLIMITED && got >= V1_UNLIMITED) || Math.abs(wanted - got) < LARGEST_PAGE;
}

function isBytes({ property }: LimitWrite): boolean {
  return property.startsWith('memory.');
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
