/**
 * The terminal of which another process of ours (conmon) holds the master: typing into it and telling it its size.
 *
 * Not through conmon's attach socket: what the terminal does not take (nobody reads it, and its queue is full) conmon tries to write again and
 * again, at the cost of a whole CPU, for as long as it lives. A duplicate of the descriptor (pidfd_getfd(2)) asks nothing of conmon.
 */
import { spawn } from 'node:child_process';
import { closeSync, readdirSync, readlinkSync, writeSync } from 'node:fs';
import { SAFE_PATH } from '../lib/run.ts';
import { isMaster } from './console-socket.ts';
import { openPidfd } from './pidfd.ts';
import type { ProcessId } from './process.ts';
import { pidfdGetfd, pollNow, setNonBlocking, setWindowSize } from './syscalls.ts';

export interface ConsoleMaster {
  /** Whether any process has the terminal open at this moment. */
  held(): boolean;
  /** Type. Never waits, where nobody else can change how the terminal is open. @returns how many bytes the terminal has taken */
  type(bytes: Uint8Array): number;
  /**
   * The same, by a process that is killed when it has to wait: whoever else has this very terminal open can make any write wait.
   * @param patience milliseconds
   */
  typeApart(bytes: Uint8Array, patience: number): Promise<void>;
  resize(columns: number, rows: number): void;
  close(): void;
}

/** The terminal that the process holds; undefined when it has ended or holds none. To be closed soon: it keeps the terminal alive. */
export function openConsoleMaster(holder: ProcessId): ConsoleMaster | undefined {
  const fd = duplicateMaster(holder);
  if (fd === undefined) return undefined;
  setNonBlocking(fd); // conmon shares this, and does not mind: it reads when there is something
  return {
    held: () => !pollNow(fd).hungUp,
    type(bytes) {
      try {
        return writeSync(fd, bytes);
      } catch (error) {
        if (['EAGAIN', 'EIO', 'EINTR'].includes((error as NodeJS.ErrnoException).code ?? '')) return 0;
        throw error;
      }
    },
    typeApart: (bytes, patience) => new Promise((done) => {
      const child = spawn('cat', { stdio: ['pipe', fd, 'ignore'], timeout: patience, killSignal: 'SIGKILL', env: { PATH: SAFE_PATH } });
      child.on('error', () => done());
      child.on('exit', () => done());
      child.stdin?.on('error', () => {}); // it did not take all
      child.stdin?.end(bytes);
    }),
    resize: (columns, rows) => setWindowSize(fd, columns, rows),
    close: () => closeSync(fd),
  };
}

/** A duplicate of the master that the process holds, close-on-exec; undefined when it has ended or holds none. */
export function duplicateMaster(holder: ProcessId): number | undefined {
  const pidfd = openPidfd(holder);
  if (pidfd === undefined) return undefined;
  try {
    return findMaster(pidfd, holder.pid);
  } catch {
    return undefined; // it ended meanwhile
  } finally {
    closeSync(pidfd);
  }
}

/** Links of terminals' masters end so whatever devpts they are of; what the descriptor is says the kernel. */
function findMaster(pidfd: number, pid: number): number | undefined {
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    if (!readlinkSync(`/proc/${pid}/fd/${name}`).endsWith('/ptmx')) continue;
    const fd = pidfdGetfd(pidfd, Number(name));
    if (isMaster(fd)) return fd;
    closeSync(fd);
  }
  return undefined;
}
