/** Host names of other UTS namespaces (uts_namespaces(7)). */
import { run } from '../lib/run.ts';

/**
 * Set the host name that the namespace of a process has. By hostname(1) from outside: in a VE the kernel's file of it is read-only, and a program for it
 * need not be there.
 * @param pid any process of the namespace
 * @param name as sethostname(2) takes it, at most 64 bytes
 * @throws VeldError `command.failed`
 */
export async function setHostname(pid: number, name: string): Promise<void> {
  await run('nsenter', ['-t', String(pid), '-u', 'hostname', '--', name], { timeout: 10_000 });
}
