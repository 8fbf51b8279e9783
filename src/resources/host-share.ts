/**
 * What VEs together weigh against the host's own processes when CPUs are short. A group of control groups is weighed against what stands beside it only: one for all VEs with the kernel's default
 * weight would have as much as a single program, or slice, of the host, however many VEs are below it. So it weighs more, the more VEs there are: as they do together, beside a host that weighs what its
 * setting says. It never weighs less than the default: what one VE gets is no less than what it would get without the setting.
 */
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { readControl, writeControl } from '../kernel/cgroup.ts';
import { placeOf } from './control.ts';
import { CPU_WEIGHT, weightText } from './cpu.ts';
import type { VeGroups } from './types.ts';

/** The kernel's default on cgroup2 (CGROUP_WEIGHT_DFL), and that of each slice of systemd's: what `hostWeight` is spread over. */
const DEFAULT = 100;

/**
 * Make the weights of the groups above the VEs what they are to be. Those of other instances below the same slice count, too.
 * @param base groups of the instance @param mounts of hierarchies, where the way up ends
 * @param weights `cpu.weight` of each VE that runs @param hostWeight that of the host's processes beside them
 */
export function weighUpwards(base: VeGroups, mounts: readonly string[], weights: Iterable<number>, hostWeight: number): void {
  const place = placeOf(CPU_WEIGHT, base);
  if (typeof place === 'string') return;
  const sum = [...weights].reduce((total, weight) => total + weight, 0);
  let wanted = weightText(Math.max(DEFAULT, (sum * DEFAULT) / hostWeight), place.v1);
  for (let group = place.group; !mounts.includes(group) && group !== '/'; group = dirname(group)) {
    // Of the groups above, what stands below them: on hosts with systemd one unit in one slice, or several of them.
    if (group !== place.group) wanted = String(below(group, place.file, place.v1));
    const now = readControl(group, place.file);
    if (now === undefined) return;
    if (now !== wanted) writeControl(group, place.file, wanted);
  }
}

/** Sum of the weights below a group, within what the kernel takes. */
function below(group: string, file: string, v1: boolean): number {
  const sum = readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory()).reduce((total, { name }) => total + Number(readControl(`${group}/${name}`, file) ?? 0), 0);
  return Math.min(v1 ? 262_144 : 10_000, Math.max(2, sum));
}
