/** `oom_score_adj` of processes, proc(5). */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { readIfExists } from '../lib/files.ts';

/** `changed`; `kept`: it was so before; `refused`: the kernel lets nobody set it so low who has not CAP_SYS_RESOURCE; `gone`: it has ended, or is none of these any more. */
export type Outcome = 'changed' | 'kept' | 'refused' | 'gone';

/**
 * Change the value of a process that is in a group.
 * @param group path of its cgroup2 group, or of one above, as in /proc/PID/cgroup @param change the new value by the present one
 */
export function changeOomScore(pid: number, group: string, change: (now: number) => number): Outcome {
  let fd: number;
  try {
    // It stands for the process, and not for another one that gets its number later: then each use of it fails.
    fd = openSync(`/proc/${pid}/oom_score_adj`, constants.O_RDWR);
  } catch {
    return 'gone';
  }
  try {
    const buffer = Buffer.alloc(16);
    const now = Number(buffer.toString('latin1', 0, readSync(fd, buffer, 0, buffer.length, 0)));
    const wanted = change(now);
    if (wanted === now) return 'kept';
    const where = /^0::(.*)$/m.exec(readIfExists(`/proc/${pid}/cgroup`) ?? '')?.[1];
    if (where !== group && where?.startsWith(`${group}/`) !== true) return 'gone';
    writeSync(fd, String(wanted));
    return 'changed';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES' ? 'refused' : 'gone';
  } finally {
    closeSync(fd);
  }
}
