/**
 * Speaks to sysvinit through its FIFO, which pid 1 holds open: the way of telinit(8), without a process in the VE.
 *
 * The FIFO is opened through the descriptor in /proc/PID/fd, never by its name: no path of the VE is followed. Whoever pretends to be sysvinit gets
 * 384 bytes into a FIFO of its own.
 * Format: struct init_request of sysvinit's initreq.h: magic, command, runlevel, sleep time (native 32-bit integers), then 368 bytes unused here.
 */
import { closeSync, constants, fstatSync, openSync, readdirSync, readlinkSync, statSync, writeSync } from 'node:fs';

const MAGIC = 0x03091969;
const COMMAND_RUNLEVEL = 1;
const REQUEST_SIZE = 384;

/** Seconds between SIGTERM and SIGKILL for what the new runlevel has no use for; telinit's own default. */
const SLEEP_TIME = 3;

/** The descriptor of a process that is sysvinit's FIFO (`/run/initctl`, before 2.89 `/dev/initctl`), or undefined. */
export function findInitctl(pid: number): string | undefined {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).map((fd) => `${folder}/${fd}`).find((fd) => /^\/(run|dev)\/initctl$/.test(readlinkSync(fd)) && statSync(fd).isFIFO());
  } catch {
    return undefined; // it has ended, or closed the descriptor just now
  }
}

/**
 * Ask sysvinit for a runlevel; `0` is power off.
 * @returns false when this process does not listen
 */
export function requestRunlevel(pid: number, runlevel: '0' | '6'): boolean {
  const path = findInitctl(pid);
  if (path === undefined) return false;
  const request = Buffer.alloc(REQUEST_SIZE);
  [MAGIC, COMMAND_RUNLEVEL, runlevel.charCodeAt(0), SLEEP_TIME].forEach((value, i) => request.writeInt32LE(value, i * 4));
  let fd: number | undefined;
  try {
    // A FIFO that nobody reads must not hold us up, nor a full one.
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    return fstatSync(fd).isFIFO() && writeSync(fd, request) === REQUEST_SIZE;
  } catch {
    return false;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
