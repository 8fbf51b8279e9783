/** Processes of the host, known by pid and start time: a pid alone may by now belong to somebody else. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

/** Who a process is, for as long as this boot lasts. */
export interface ProcessId {
  pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks between boot and the start of the process. */
  startTime: number;
}

export interface ProcessInfo extends ProcessId {
  /** One letter as in proc(5): R, S, D, T, Z (ended, not yet waited for), X, ... */
  state: string;
  /** Parent's pid, 0 when the parent is outside this pid namespace. */
  ppid: number;
  /** Name of the program, at most 15 bytes, whatever the process chose. */
  comm: string;
}

/** Read /proc/PID/stat. @returns undefined when there is no such process */
export function readProcess(pid: number): ProcessInfo | undefined {
  const stat = Number.isInteger(pid) && pid > 0 ? readProcessFile(pid, 'stat') : undefined;
  return stat === undefined ? undefined : parseStat(stat);
}

/** Read a file of /proc/PID. @param name `status`, `cmdline`, ... @returns undefined when there is no such process */
export function readProcessFile(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    // ESRCH: it ended between open and read; EINVAL: it is ending, and has no mounts any more.
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EINVAL') return undefined;
    throw error;
  }
}

/** What is read of a file whose length is the process's own choice (prctl(2), PR_SET_MM_MAP), in bytes. */
const HEAD = 65_536;

/** The same for the beginning of a file that a process may have made as long as it likes: `cmdline`, `environ`. */
export function readProcessFileHead(pid: number, name: string): string | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(`/proc/${pid}/${name}`, 'r');
    const buffer = Buffer.alloc(HEAD);
    return buffer.toString('utf8', 0, readSync(fd, buffer));
  } catch {
    return undefined; // it has ended, or is ending
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/**
 * Parse the content of /proc/PID/stat (format: proc_pid_stat(5)).
 * The second field is the program's name in parentheses and may itself hold spaces, parentheses and newlines: it ends at the last `)`.
 */
export function parseStat(stat: string): ProcessInfo | undefined {
  const open = stat.indexOf('(');
  const close = stat.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  const pid = Number(stat.slice(0, open));
  const fields = stat.slice(close + 2).split(' '); // fields[0] is field 3
  const [state, ppid] = fields;
  const startTime = Number(fields[19]);
  if (!Number.isInteger(pid) || !Number.isInteger(startTime) || !state) return undefined;
  return { pid, startTime, state, ppid: Number(ppid), comm: stat.slice(open + 1, close) };
}

/** Whether this very process still runs. One that has ended and waits for its parent (a zombie) does not. */
export function isAlive(id: ProcessId): boolean {
  const now = readProcess(id.pid);
  return now !== undefined && now.startTime === id.startTime && now.state !== 'Z' && now.state !== 'X';
}

/**
 * When the clock of the time since boot began that a process sees (CLOCK_BOOTTIME), in seconds after the host's boot.
 * @returns undefined when it is the host's own clock (format: time_namespaces(7))
 */
export function clockBegan(pid: number): number | undefined {
  const [, seconds, nanoseconds] = /^boottime\s+(-?\d+)\s+(\d+)/m.exec(readProcessFile(pid, 'timens_offsets') ?? '') ?? [];
  const offset = Number(seconds) + Number(nanoseconds) / 1e9;
  return Number.isNaN(offset) || offset === 0 ? undefined : -offset;
}

let boot: string | undefined;

/** The id of this boot (a UUID). What was written under another one about pids, mounts or links is void. */
export function bootId(): string {
  boot ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return boot;
}
