/**
 * On which CPUs a VE runs, how many of them it sees, and from which NUMA nodes its memory comes: a set of CPUs is what nproc, sched_getaffinity(2) and (by lxcfs) /proc/cpuinfo show.
 * Source: Documentation/admin-guide/cgroup-v1/cpusets.rst; v2 has the same files.
 */
import { dirname } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { formatRanges, parseRanges } from '../spec/ranges.ts';
import { placeOf, type ControlFile, type LimitName, type LimitWrite, type Plan, type Resource } from './control.ts';
import { planned } from './planned.ts';

const CPUS: ControlFile = { controller: 'cpuset', v1: 'cpuset.cpus', v2: 'cpuset.cpus', lacks: 'the cpuset controller' };
const NODES: ControlFile = { ...CPUS, v1: 'cpuset.mems', v2: 'cpuset.mems' };

export const cpuset: Resource = {
  names: ['cpu.count', 'cpu.mask', 'cpu.nodes'],
  place: (groups, property) => placeOf(property === 'cpu.nodes' ? NODES : CPUS, groups),
  plan(plan) {
    const { groups, limits, current } = plan;
    const [count, mask, nodes] = [limits['cpu.count'], limits['cpu.mask'], limits['cpu.nodes']];
    const allowed = allowedCpus(plan);
    if (count !== null && count > allowed.length) {
      throw invalid('cpu.count', `${count} CPUs are more than ${mask === null && nodes === null ? 'this host has for VEs' : 'cpu.mask and cpu.nodes leave it'}: ${allowed.length} (${formatRanges(allowed)}).`, 'Lower cpu.count, or widen cpu.mask and cpu.nodes.');
    }
    const memory = planned(cpuset, plan, 'cpu.nodes', nodes !== null, ({ group, file, v1 }) => nodes ?? everything(v1, group, file, current));
    const property: LimitName = count !== null ? 'cpu.count' : mask !== null || nodes === null ? 'cpu.mask' : 'cpu.nodes';
    const free = count === null && mask === null && nodes === null;
    const cpus = planned(cpuset, plan, property === 'cpu.nodes' ? 'cpu.mask' : property, !free, ({ group, file, v1 }) => {
      if (free) return everything(v1, group, file, current);
      const now = parseRanges(current(group, file) ?? '') ?? [];
      return formatRanges(count === null ? allowed : chooseCpus(count, allowed, now, plan.host.bound));
    });
    // On v1 what is in memory stays where it is unless one says otherwise.
    const moves: LimitWrite[] = groups.v1.cpuset !== undefined && nodes !== null ? [{ property: 'cpu.nodes', group: groups.v1.cpuset, file: 'cpuset.memory_migrate', value: '1' }] : [];
    return [...cpus.map((write) => ({ ...write, property })), ...moves, ...memory];
  },
};

/** No set of one's own: v2 then follows the group above, unless it had one, which the kernel does not take from processes; v1 takes no process without one. */
function everything(v1: boolean, group: string, file: string, current: Plan['current']): string {
  if (v1) return current(dirname(group), file) ?? '';
  return (current(group, file) ?? '') === '' ? '' : current(dirname(group), `${file}.effective`) ?? '';
}

/** The CPUs that mask and nodes leave, ascending. @throws VeldError `property.invalid` for those that the host has not */
function allowedCpus({ limits, host }: Plan): number[] {
  const [mask, nodes] = [limits['cpu.mask'], limits['cpu.nodes']];
  const known = new Set(host.cpus);
  const masked = mask === null ? [...host.cpus] : parseRanges(mask) ?? [];
  const strange = masked.filter((cpu) => !known.has(cpu));
  if (strange.length > 0) throw invalid('cpu.mask', `This host has no CPU ${formatRanges(strange)} for VEs: it has ${formatRanges(host.cpus)}.`, 'See `lscpu`.');
  if (nodes === null) return masked;
  const wanted = parseRanges(nodes) ?? [];
  const none = wanted.filter((node) => !host.nodes.has(node));
  if (none.length > 0) throw invalid('cpu.nodes', `This host has no NUMA node ${formatRanges(none)}: it has ${formatRanges([...host.nodes.keys()])}.`, 'See `lscpu`.');
  const near = new Set(wanted.flatMap((node) => host.nodes.get(node)!));
  const both = masked.filter((cpu) => near.has(cpu));
  if (both.length === 0) throw invalid('cpu.nodes', `None of the CPUs of cpu.mask is on a node of cpu.nodes (${formatRanges([...near])}).`, 'Change one of the two.');
  return both;
}

/**
 * Which CPUs a VE gets: as far as possible those that it has, so that a change moves little; beside these the ones to which the fewest VEs are bound.
 * @param count how many, no more than are allowed
 * @param bound how many other VEs are bound to one
 */
export function chooseCpus(count: number, allowed: readonly number[], now: readonly number[], bound: (cpu: number) => number): number[] {
  const has = new Set(now.length < allowed.length || now.some((cpu) => !allowed.includes(cpu)) || now.length === count ? now : []);
  return [...allowed].sort((a, b) => Number(has.has(b)) - Number(has.has(a)) || bound(a) - bound(b) || a - b).slice(0, count).sort((a, b) => a - b);
}

function invalid(property: LimitName, message: string, hint: string): VeldError {
  return new VeldError('property.invalid', message, { hint, details: { property } });
}
