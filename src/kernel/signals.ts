/** Which signals a process listens to. */
import { constants } from 'node:os';
import { readProcessFile } from './process.ts';

/**
 * Whether a process handles a signal, or has it blocked to take it by signalfd(2) or sigwait(3). To pid 1 of a namespace the kernel
 * delivers no other: so an init that does not listen to a signal cannot be asked by it.
 * One that waits in sigwait(3) just now counts as listening to all: for that time the kernel takes what it waits for out of the mask.
 */
export function listensTo(pid: number, signal: NodeJS.Signals): boolean {
  const status = readProcessFile(pid, 'status');
  if (status === undefined) return false;
  return isHandled(status, constants.signals[signal]) || (readProcessFile(pid, 'wchan') ?? '').startsWith('do_sigtimedwait');
}

/** The same from the content of /proc/PID/status (proc_pid_status(5), SigBlk and SigCgt: a bit per signal, the first is signal 1). */
export function isHandled(status: string, signal: number): boolean {
  const mask = (name: string): bigint => BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0'}`);
  return (((mask('SigBlk') | mask('SigCgt')) >> BigInt(signal - 1)) & 1n) === 1n;
}
