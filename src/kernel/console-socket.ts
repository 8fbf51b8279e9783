/** Receives the terminal of a container: the socket for `crun --console-socket`. */
import { chmodSync, closeSync, fstatSync, rmSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { VeldError } from '../lib/errors.ts';
import { watchDescriptor } from './syscalls.ts';
import type { Watch } from './syscalls.ts';
import { acceptUnix, listenUnix, receiveDescriptors } from './unix-sockets.ts';
import { terminalStream } from './terminal-stream.ts';

/** A terminal that was handed over. */
export interface Terminal {
  /** What the terminal shows, and what is typed. Ends when the last process has closed the other side. */
  stream: Duplex;
  readonly resize: (columns: number, rows: number) => void;
}

export interface ConsoleSocket {
  /** Resolves with the terminal. Rejects with `operation.cancelled` after {@link close}, `exec.failed` when the sender sent none. */
  accepted: Promise<Terminal>;
  /** Stop listening and remove the socket. A terminal that was received lives on. May be called again. */
  close(): void;
}

/**
 * Listen for a terminal. One sender is served; it sends the pty's master by SCM_RIGHTS (runtime-spec, "consoleSocket").
 * Nothing here waits in a thread: a sender that dies leaves nothing stuck, {@link ConsoleSocket.close} ends the wait.
 * @param path of the new socket, at most 107 bytes, in a folder that only root can enter
 * @param signal closes it, too
 */
export async function openConsoleSocket(path: string, signal?: AbortSignal): Promise<ConsoleSocket> {
  signal?.throwIfAborted();
  const listener = listenUnix(path);
  chmodSync(path, 0o600);
  const { promise, resolve, reject } = Promise.withResolvers<Terminal>();
  promise.catch(() => {}); // whoever closed it early does not wait for it
  const open: { fd: number; watch: Watch }[] = [];
  let connected = false;

  const close = (): void => {
    if (open.length > 0) rmSync(path, { force: true });
    for (const { fd, watch } of open.splice(0)) {
      watch.close();
      closeSync(fd);
    }
    signal?.removeEventListener('abort', close);
    reject(new VeldError('operation.cancelled', 'The wait for a terminal was cancelled.')); // nothing when it was settled before
  };
  const guard = (step: () => void) => (): void => {
    try {
      step();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return;
      reject(error);
      close();
    }
  };
  const add = (fd: number, step: () => void): void => {
    open.push({ fd, watch: watchDescriptor(fd, { readable: true, writable: false }, guard(step)) });
  };

  add(listener, () => {
    if (connected) return;
    const connection = acceptUnix(listener);
    connected = true;
    open[0]?.watch.want({ readable: false, writable: false });
    add(connection, () => {
      const master = takeMaster(connection);
      const stream = terminalStream(master);
      resolve({ stream, resize: stream.resize });
      close();
    });
  });
  signal?.addEventListener('abort', close, { once: true });
  return { accepted: promise, close };
}

/** The one descriptor of the message, if it is a pty's master; all others are closed. */
function takeMaster(connection: number): number {
  const { bytes, descriptors, truncated } = receiveDescriptors(connection);
  const [master] = descriptors;
  if (master !== undefined && descriptors.length === 1 && !truncated && isMaster(master)) return master;
  for (const fd of descriptors) closeSync(fd);
  if (bytes === 0) throw new VeldError('exec.failed', 'The runtime ended without handing over a terminal.');
  throw new VeldError('exec.failed', `The runtime handed over ${descriptors.length} descriptors, which are not one terminal.`);
}

/** Masters of all devpts instances are opened through the ptmx device, 5:2 (Documentation/admin-guide/devices.txt). */
export function isMaster(fd: number): boolean {
  const stat = fstatSync(fd);
  // rdev as glibc makes it: minor in bits 0-7 and 20-31, major in bits 8-19.
  return stat.isCharacterDevice() && ((stat.rdev >> 8) & 0xfff) === 5 && (stat.rdev & 0xff) === 2;
}
