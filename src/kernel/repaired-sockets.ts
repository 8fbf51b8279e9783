/** What a criu that was killed leaves behind in the connections it was looking into. */
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { pidfdGetfd, pidfdOpen } from './syscalls.ts';
import { endTcpRepair } from './unix-sockets.ts';

/**
 * Take all TCP connections of these processes out of repair mode. Whatever cannot be, because it has ended meanwhile or is no connection (a VE can put
 * sockets of its own into that mode), is left out.
 * @param pids of processes, as this process sees them
 * @returns how many were in it
 */
export function endRepairOf(pids: readonly number[]): number {
  let count = 0;
  for (const pid of pids) {
    attempt(() => {
      const pidfd = pidfdOpen(pid);
      try {
        // Of one open file the first descriptor ends it for all.
        for (const name of readdirSync(`/proc/${pid}/fd`)) attempt(() => { count += endRepair(pidfd, pid, Number(name)); });
      } finally {
        closeSync(pidfd);
      }
    });
  }
  return count;
}

function endRepair(pidfd: number, pid: number, name: number): number {
  if (!readlinkSync(`/proc/${pid}/fd/${name}`).startsWith('socket:')) return 0;
  const fd = pidfdGetfd(pidfd, name);
  try {
    return endTcpRepair(fd) ? 1 : 0;
  } finally {
    closeSync(fd);
  }
}

function attempt(action: () => void): void {
  try {
    action();
  } catch { /* see above */ }
}
