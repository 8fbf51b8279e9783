/** A process of a VE as its root knows it. */
import { readProcessFile } from '../kernel/process.ts';
import type { Obstacle } from './types.ts';

/** @param pid host's @param status its /proc/PID/status @returns its pid in the VE, and its name */
export function namedProcess(pid: number, status = readProcessFile(pid, 'status') ?? ''): NonNullable<Obstacle['process']> {
  return { pid: Number(/^NSpid:.*?(\d+)$/m.exec(status)?.[1] ?? pid), name: /^Name:\s*(.*)$/m.exec(status)?.[1] ?? '' };
}
