/** Memory and swap. Sources: Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.swap.max, memory.min) and cgroup-v1/memory.rst. */
import { VeldError } from '../lib/errors.ts';
import { formatProperty } from '../spec/properties.ts';
import { placeOf, type ControlFile, type Resource } from './control.ts';
import { planned } from './planned.ts';

const FILES: Record<string, ControlFile> = {
  'memory.limit': { controller: 'memory', v1: 'memory.limit_in_bytes', v2: 'memory.max', lacks: 'the memory controller' },
  'memory.guarantee': { controller: 'memory', v1: 'memory.min', v2: 'memory.min', lacks: 'the memory controller' },
  'memory.swap': { controller: 'memory', v1: 'memory.memsw.limit_in_bytes', v2: 'memory.swap.max', lacks: 'swap accounting (swapaccount=1 on the kernel command line)' },
};

/** A limit as a number of bytes. */
export function bytesOf(text: string): number {
  return text === 'max' || text === '-1' ? Number.POSITIVE_INFINITY : Number(text);
}

export const memory: Resource = {
  names: ['memory.limit', 'memory.swap', 'memory.guarantee'],
  place(groups, property) {
    // Tried on 6.1: with a soft limit of 400 MiB a VE lost half of its page cache to another, and without one none.
    if (property === 'memory.guarantee' && groups.v1.memory !== undefined) return 'the memory controller is on cgroup v1, whose soft limits guarantee nothing';
    return placeOf(FILES[property]!, groups);
  },
  plan(plan) {
    const { groups, limits, current } = plan;
    const [memoryLimit, swap, guarantee] = [limits['memory.limit'], limits['memory.swap'], limits['memory.guarantee']];
    if (memoryLimit !== null && guarantee > Math.max(0, memoryLimit)) {
      throw new VeldError('property.invalid', `memory.guarantee (${formatProperty('memory.guarantee', guarantee)}) is more than memory.limit (${formatProperty('memory.limit', memoryLimit)}).`,
        { hint: 'Lower memory.guarantee, or raise memory.limit.', details: { property: 'memory.guarantee' } });
    }
    const v1 = groups.v1.memory !== undefined;
    const [limit] = planned(memory, plan, 'memory.limit', memoryLimit !== null, () => String(memoryLimit ?? (v1 ? -1 : 'max')));
    if (v1 && swap !== null && memoryLimit === null) {
      throw new VeldError('property.unsupported', 'memory.swap needs a memory.limit here: cgroup v1 can only limit memory and swap together.',
        { hint: 'Set memory.limit as well.', details: { property: 'memory.swap' } });
    }
    const [both] = planned(memory, plan, 'memory.swap', swap !== null, () => {
      if (!v1) return String(swap ?? 'max');
      return swap === null || memoryLimit === null ? '-1' : String(memoryLimit + swap);
    });
    const promised = planned(memory, plan, 'memory.guarantee', guarantee !== 0, () => String(guarantee));
    if (!limit || !both || !v1) return [...[limit, both].filter((write) => write !== undefined), ...promised];
    // memory <= memory+swap must hold after each write: raise the sum first, lower it last.
    const raise = bytesOf(both.value) >= bytesOf(current(both.group, both.file) ?? '-1');
    return [...raise ? [both, limit] : [limit, both], ...promised];
  },
};
