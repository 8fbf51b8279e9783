/** Signals to, and the end of, a process known by pid and start time: through a descriptor, so never another process of the same pid. */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { VeldError } from '../lib/errors.ts';
import { isAlive } from './process.ts';
import type { ProcessId } from './process.ts';
import { pidfdOpen, pidfdSendSignal, watchDescriptor } from './syscalls.ts';

/**
 * A pidfd for this very process, or undefined when it has ended.
 * The start time is looked at after the descriptor was opened: who is alive now under its own start time held the pid at the opening too.
 */
export function openPidfd(id: ProcessId): number | undefined {
  let fd: number;
  try {
    fd = pidfdOpen(id.pid);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ESRCH' || code === 'EINVAL') return undefined; // EINVAL: the pid is by now that of a thread
    throw error;
  }
  if (isAlive(id)) return fd;
  closeSync(fd);
  return undefined;
}

/**
 * Send a signal to a process.
 * @param signal name, or number (0 only asks whether it is there)
 * @returns false when that process is gone
 */
export function signalProcess(id: ProcessId, signal: NodeJS.Signals | number): boolean {
  const number = typeof signal === 'number' ? signal : constants.signals[signal];
  const fd = openPidfd(id);
  if (fd === undefined) return false;
  try {
    pidfdSendSignal(fd, number);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  } finally {
    closeSync(fd);
  }
}

/**
 * Wait until a process has ended (also as a zombie that its parent has not waited for). No polling and no thread: epoll on a pidfd.
 * @param signal ends the wait; bound it in time with `AbortSignal.timeout(ms)`
 * @throws VeldError `operation.cancelled`, or `timeout` when the signal was one of `AbortSignal.timeout`
 */
export function waitProcessEnd(id: ProcessId, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(abortError(id, signal));
      return;
    }
    const fd = openPidfd(id);
    if (fd === undefined) {
      resolve();
      return;
    }
    const finish = (settle: () => void): void => {
      signal?.removeEventListener('abort', aborted);
      watch.close();
      // Later: an event for this number that is already on its way must not meet another descriptor of the same number.
      setImmediate(() => closeSync(fd));
      settle();
    };
    const aborted = (): void => finish(() => reject(abortError(id, signal as AbortSignal)));
    const watch = watchDescriptor(fd, { readable: true, writable: false }, () => {
      if (!isAlive(id)) finish(resolve); // else the event was for an earlier descriptor of this number
    });
    signal?.addEventListener('abort', aborted, { once: true });
  });
}

function abortError(id: ProcessId, signal: AbortSignal): VeldError {
  const reason = signal.reason as Error | undefined;
  if (reason instanceof VeldError) return reason;
  if (reason?.name === 'TimeoutError') return new VeldError('timeout', `Process ${id.pid} did not end in time.`, { cause: reason });
  return new VeldError('operation.cancelled', `The wait for process ${id.pid} was cancelled.`, { cause: reason });
}
