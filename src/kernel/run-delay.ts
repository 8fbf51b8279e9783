/** How long this program was kept waiting for a processor. */
import { readIfExists } from '../lib/files.ts';

/**
 * Time in which the main thread could have run, and others did, since it began, in milliseconds (second field of schedstat: Documentation/scheduler/sched-stats.rst of the
 * kernel); 0 where the kernel does not tell.
 */
export function runDelay(): number {
  return Number(readIfExists('/proc/self/schedstat')?.split(' ')[1] ?? 0) / 1e6;
}
