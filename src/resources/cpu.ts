/** CPU time: the share of a VE against the others, its limit, and what it may save up. Sources: Documentation/scheduler/sched-bwc.rst and admin-guide/cgroup-v2.rst (cpu.*). */
import { VeldError } from '../lib/errors.ts';
import { placeOf, type ControlFile, type Resource } from './control.ts';
import { planned } from './planned.ts';

/** Period over which cpu.limit is enforced, in microseconds: the kernel's default. */
const PERIOD = 100_000;

/** Where the weight of a group stands. */
export const CPU_WEIGHT: ControlFile = { controller: 'cpu', v1: 'cpu.shares', v2: 'cpu.weight', lacks: 'the cpu controller' };

const FILES: Record<string, ControlFile> = {
  'cpu.weight': CPU_WEIGHT,
  'cpu.limit': { controller: 'cpu', v1: 'cpu.cfs_quota_us', v2: 'cpu.max', lacks: 'the cpu controller with CONFIG_CFS_BANDWIDTH' },
  'cpu.burst': { controller: 'cpu', v1: 'cpu.cfs_burst_us', v2: 'cpu.max.burst', lacks: 'the cpu controller with bursts (Linux 5.14)' },
};

/** Percent of one CPU as microseconds in each period. */
function time(percent: number): number {
  return Math.round((percent * PERIOD) / 100);
}

/**
 * A weight as its control file takes it. v1 counts from 1024 as v2 counts from 100; its bounds are MIN_SHARES and MAX_SHARES of kernel/sched, those of v2 CGROUP_WEIGHT_MIN and CGROUP_WEIGHT_MAX.
 * @param weight 100 is the default
 */
export function weightText(weight: number, v1: boolean): string {
  return String(v1 ? Math.min(262_144, Math.max(2, Math.round((weight * 1024) / 100))) : Math.min(10_000, Math.max(1, Math.round(weight))));
}

export const cpu: Resource = {
  names: ['cpu.weight', 'cpu.limit', 'cpu.burst'],
  place: (groups, property) => placeOf(FILES[property]!, groups),
  plan(plan) {
    const { limits, current } = plan;
    const [weight, limit, burst] = [limits['cpu.weight'], limits['cpu.limit'], limits['cpu.burst']];
    if (burst > (limit ?? 0)) {
      throw new VeldError('property.invalid', limit === null ? 'cpu.burst needs a cpu.limit: who has no limit saves nothing up.' : `cpu.burst (${burst}%) is more than cpu.limit (${limit}%): the kernel holds no more than what one period gives.`,
        { hint: limit === null ? 'Set cpu.limit as well, or unset cpu.burst.' : 'Lower cpu.burst, or raise cpu.limit.', details: { property: 'cpu.burst' } });
    }
    const shares = planned(cpu, plan, 'cpu.weight', weight !== 100, ({ v1 }) => weightText(weight, v1));
    const quota = planned(cpu, plan, 'cpu.limit', limit !== null, ({ v1 }) => {
      const part = limit === null ? undefined : time(limit);
      return v1 ? String(part ?? -1) : `${part ?? 'max'} ${PERIOD}`;
    });
    const saved = planned(cpu, plan, 'cpu.burst', burst !== 0, () => String(time(burst)));
    // The burst must never be more than the quota, after each write.
    const less = saved[0] !== undefined && time(burst) < Number(current(saved[0].group, saved[0].file) ?? 0);
    return [...shares, ...less ? [...saved, ...quota] : [...quota, ...saved]];
  },
};
