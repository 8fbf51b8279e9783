/** Whom the kernel killed for want of memory, as its log says: `oom-kill:constraint=CONSTRAINT_MEMCG,...,oom_memcg=/veld-main/101,task_memcg=/veld-main/101,task=stress,pid=4711,uid=165536`. */
import { closeSync, constants, openSync, readSync } from 'node:fs';

export interface OomVictim {
  /** Pid on the host. */
  pid: number;
  /** Name that the process had given itself, at most 15 bytes: hostile text. */
  name: string;
  /** What had no memory left: the group that was asked about, or one in it; one above that; the host. */
  ranOut: 'own' | 'group' | 'host';
}

/** Lines of the log that are looked at, the newest count. */
const MOST = 100_000;

/**
 * The last victims in a group or below it, oldest first; empty where the log cannot be read or has forgotten them.
 * @param group path from the mount point of its hierarchy
 * @param count how many there should be
 */
export function oomVictims(group: string, count: number): OomVictim[] {
  return victimsIn(kernelLog(), group, count);
}

/** The same of lines. */
export function victimsIn(lines: Iterable<string>, group: string, count: number): OomVictim[] {
  const found: OomVictim[] = [];
  for (const line of lines) {
    // The name is whatever the process likes, commas included: what comes behind it is matched from the end.
    const match = /oom-kill:constraint=.*?,(?:oom_memcg=([^,]*)|global_oom),task_memcg=([^,]*),task=(.*),pid=(\d+),uid=\d+$/.exec(line);
    if (!match) continue;
    const [, short, where, name, pid] = match;
    const within = (path: string): boolean => path === group || path.startsWith(`${group}/`);
    if (within(where!)) found.push({ pid: Number(pid), name: name!, ranOut: short === undefined ? 'host' : within(short) ? 'own' : 'group' });
  }
  return found.slice(-Math.max(1, count));
}

/** What is in the kernel's log now, a record each: only their first lines. */
function* kernelLog(): Generator<string> {
  let fd: number;
  try {
    fd = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return; // a container, or a kernel that shows it to nobody
  }
  const buffer = Buffer.allocUnsafe(8192);
  try {
    for (let i = 0; i < MOST; i += 1) {
      let length: number;
      try {
        length = readSync(fd, buffer, 0, buffer.length, null);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EPIPE') continue; // overwritten meanwhile: goes on with the next one
        return; // EAGAIN: that was all
      }
      const text = buffer.toString('latin1', 0, length);
      yield text.slice(text.indexOf(';') + 1).split('\n', 1)[0]!;
    }
  } finally {
    closeSync(fd);
  }
}
