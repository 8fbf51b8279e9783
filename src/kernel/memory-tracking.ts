/** Whether the kernel notes which pages of memory were written to (soft-dirty bits: Documentation/admin-guide/mm/soft-dirty.rst of Linux). */
import { readFileSync } from 'node:fs';
import { readProcessFile } from './process.ts';

let known: boolean | undefined;

export function hasSoftDirty(): boolean {
  // Every mapping carries `sd` from its birth where soft-dirty bits are compiled in.
  return known ??= /^VmFlags:.* sd\b/m.test(readFileSync('/proc/self/smaps', 'utf8'));
}

/** Memory of processes that is theirs alone, and not a file's, in bytes; what a fork shares counts for each. @param pids host's */
export function privateMemory(pids: readonly number[]): number {
  // proc_pid_status(5): `RssAnon:     1234 kB`
  return pids.reduce((sum, pid) => sum + Number(/^RssAnon:\s+(\d+) kB$/m.exec(readProcessFile(pid, 'status') ?? '')?.[1] ?? 0) * 1024, 0);
}
