/** Capabilities of this process. */
import { readFileSync } from 'node:fs';

/** Their bits (linux/capability.h). */
const BITS = { sys_resource: 24n } as const;

/** Whether it may use one (CapEff of proc_pid_status(5)). */
export function hasCapability(name: keyof typeof BITS): boolean {
  const bits = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
  return (bits >> BITS[name] & 1n) === 1n;
}
