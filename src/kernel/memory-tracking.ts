/** Whether the kernel notes which pages of memory were written to (soft-dirty bits: Documentation/admin-guide/mm/soft-dirty.rst of Linux). */
import { readFileSync } from 'node:fs';

let known: boolean | undefined;

export function hasSoftDirty(): boolean {
  // Every mapping carries `sd` from its birth where soft-dirty bits are compiled in.
  return known ??= /^VmFlags:.* sd\b/m.test(readFileSync('/proc/self/smaps', 'utf8'));
}
