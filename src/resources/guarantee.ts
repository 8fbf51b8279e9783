/**
 * The way up from guaranteed memory, on cgroup v2: what a group is promised holds no further than what the groups above it are promised (Documentation/admin-guide/cgroup-v2.rst, memory.min), so
 * each of these is promised the sum of what is below it.
 */
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { readControl, writeControl } from '../kernel/cgroup.ts';

/**
 * Not memory.low: multi-generational reclaim (mm/vmscan.c, shrink_one) passes over a group below that once, and when it comes again takes from it. For the groups inside of a VE either counts only while
 * cgroup2 has the option memory_recursiveprot (src/kernel/group-flags.ts).
 */
const FILE = 'memory.min';

/**
 * Make the promises above the VEs' groups what they are to be. Those of other instances below the same slice count, too.
 * @param base of the VEs' groups @param mount of cgroup2, which has no such file
 */
export function promiseUpwards(base: string, mount: string): void {
  for (let group = base; group !== mount && group !== '/'; group = dirname(group)) {
    const now = readControl(group, FILE);
    if (now === undefined) return; // v1 has the controller
    const sum = readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory()).reduce((total, { name }) => total + bytes(readControl(`${group}/${name}`, FILE)), 0);
    if (sum !== bytes(now)) writeControl(group, FILE, Number.isFinite(sum) ? sum : 'max');
  }
}

function bytes(text: string | undefined): number {
  return text === 'max' ? Number.POSITIVE_INFINITY : Number(text ?? 0);
}
