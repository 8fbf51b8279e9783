/**
 * Watches of control groups that have been removed. On other file systems a watch ends with what it watches, and its reader is told so (IN_IGNORED, inotify(7)); in a
 * kernfs it stays, and leads nowhere: criu cannot find it again ("Can't dump that handle"), however often it tries. So it is ended as it would be elsewhere.
 */
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import { formatDevice } from '../kernel/device-number.ts';
import { endWatch, isReachable, pidfdGetfd, pidfdOpen } from '../kernel/syscalls.ts';
import { deviceNumber, watchesIn, type FileWatch } from './watches.ts';

type IsGone = (watch: Omit<FileWatch, 'pid' | 'fd'>) => watch is FileWatch & { wd: number };

/**
 * End those of these watches that are of groups of this hierarchy, or of files in one, and lead nowhere.
 * @param hierarchy folder in a mount of cgroup2
 * @returns how many it has ended
 */
export function endGoneWatches(watches: readonly FileWatch[], hierarchy: string): number {
  const device = deviceNumber(formatDevice(statSync(hierarchy).dev));
  const there = openSync(hierarchy, 'r');
  try {
    const isGone: IsGone = (watch): watch is FileWatch & { wd: number } =>
      watch.wd !== undefined && watch.handle !== undefined && watch.device === device && !isReachable(there, watch.handle);
    return watches.filter(isGone).reduce((count, { pid, fd }) => count + endIn(pid, fd, isGone), 0);
  } finally {
    closeSync(there);
  }
}

/** All at once of one inotify instance: what is behind the descriptor now is asked, not what was there when somebody looked. */
function endIn(pid: number, theirs: number, isGone: IsGone): number {
  let pidfd: number | undefined, fd: number | undefined;
  try {
    pidfd = pidfdOpen(pid);
    fd = pidfdGetfd(pidfd, theirs);
    const gone = watchesIn(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')).filter(isGone);
    for (const { wd } of gone) endWatch(fd, wd);
    return gone.length;
  } catch (error) {
    // The process has ended, or has closed or ended it itself.
    if (['ESRCH', 'EBADF', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '')) return 0;
    throw error;
  } finally {
    for (const open of [fd, pidfd]) if (open !== undefined) closeSync(open);
  }
}
