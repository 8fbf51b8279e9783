/** Capabilities of this process. */
import { readFileSync } from 'node:fs';

/** Their bits (linux/capability.h). */
const BITS = { kill: 5n, setgid: 6n, setuid: 7n, setpcap: 8n, net_admin: 12n, sys_ptrace: 19n, sys_admin: 21n, sys_resource: 24n } as const;
export type Capability = keyof typeof BITS;

/** Whether it may use one (CapEff of proc_pid_status(5)). */
export function hasCapability(name: Capability): boolean {
  const bits = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
  return (bits >> BITS[name] & 1n) === 1n;
}
