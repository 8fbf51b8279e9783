/** Whether VEs see their memory limit: what lxcfs is for. */
import { buffer } from 'node:stream/consumers';
import type { ExecSession, VeManager } from '../ve/types.ts';

/** A limit is rounded to pages, and the kernel's own accounting may shave a little off. */
const SLACK = 1 << 20;

/**
 * Read /proc/meminfo inside the first running VE that has a memory limit.
 * @returns whether MemTotal is within the limit; null when no such VE runs
 * @throws VeldError when the VE cannot be asked
 */
export async function isLimitSeen(manager: Pick<VeManager, 'list' | 'show' | 'exec'>): Promise<boolean | null> {
  for (const { uuid, status, set } of manager.list()) {
    if (status !== 'running' || typeof set['memory.limit'] !== 'number') continue;
    const session: ExecSession = await manager.exec(uuid, { command: ['/bin/cat', '/proc/meminfo'] });
    session.stdin.end();
    session.stderr?.resume();
    const [output] = await Promise.all([buffer(session.stdout), session.exit]);
    const total = /^MemTotal:\s+(\d+) kB$/m.exec(output.toString('utf8'))?.[1];
    return total !== undefined && Number(total) * 1024 <= set['memory.limit'] + SLACK;
  }
  return null;
}
