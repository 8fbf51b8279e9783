/**
 * Door to dnsmasq(8), one process for each folder. It is nobody's child for long and outlives the daemon; the next one knows it by the
 * pid in its folder together with its command line, so never takes another process for it.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, readlinkSync, rmSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { VeldError } from '../lib/errors.ts';
import { signalProcess, waitProcessEnd } from './pidfd.ts';
import { readProcess } from './process.ts';
import type { ProcessId } from './process.ts';

/** Where Debian's dnsmasq-base has it. */
const PROGRAMS = ['/usr/sbin/dnsmasq', '/usr/bin/dnsmasq'];
/** How long it may take to end when asked to, in milliseconds. */
const PATIENCE = 1000;

/** Bytes after which the log begins anew. */
const LOG_MAX = 1 << 20;

/** The program, or undefined where it is not installed. */
export function dnsmasqProgram(): string | undefined {
  return PROGRAMS.find((path) => existsSync(path));
}

/** The process of a folder, while it lives, with what it was started on. */
export function runningDnsmasq(folder: string): ProcessId & { config: string; outdated: boolean } | undefined {
  const pid = Number(readIfExists(join(folder, 'pid')) ?? 0);
  const found = identify(folder, pid);
  if (!found) return undefined;
  try {
    const outdated = readlinkSync(`/proc/${pid}/exe`).endsWith(' (deleted)'); // the package was upgraded under it
    return { ...found, config: readIfExists(configFile(folder)) ?? '', outdated };
  } catch {
    return undefined; // it ended meanwhile
  }
}

/** All of a folder: it forks for TCP, and what it forked lives on without it, and keeps its port. */
function allOf(folder: string): ProcessId[] {
  return readdirSync('/proc').flatMap((entry) => identify(folder, Number(entry)) ?? []);
}

/** The process of this pid, when it is one of the folder's: by its command line, which also its children have. */
function identify(folder: string, pid: number): ProcessId | undefined {
  const found = readProcess(pid);
  if (!found || found.state === 'Z' || found.state === 'X') return undefined;
  try {
    if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(`--conf-file=${configFile(folder)}`)) return undefined;
    // In the host's own namespace: a process of a VE may call itself what it likes.
    return readlinkSync(`/proc/${pid}/ns/pid`) === readlinkSync('/proc/self/ns/pid') ? { pid, startTime: found.startTime } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Start it, in the place of the one that runs.
 * @param config in its own language
 * @param groups control group directories that it is put into first
 * @returns the process; whether it answers is for the caller to see
 * @throws VeldError `command.failed` when it is not installed
 */
export async function startDnsmasq(folder: string, config: string, groups: readonly string[]): Promise<ProcessId | undefined> {
  const program = dnsmasqProgram();
  if (program === undefined) throw new VeldError('command.failed', 'dnsmasq is not installed.');
  await stopDnsmasq(folder);
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  writeFileAtomic(configFile(folder), config, 0o644);
  trimDnsmasqLog(folder);
  const log = openSync(logFile(folder), 'a', 0o600);
  // The shell writes its pid, joins the groups, and becomes dnsmasq: a daemon that is killed at any time leaves none that is not known.
  const child = spawn('/bin/sh', ['-c', 'echo $$ >"$1"; shift; for group; do shift; [ "$group" = -- ] && break; echo 0 >"$group/cgroup.procs" || exit 1; done; exec "$@"', 'dnsmasq',
    join(folder, 'pid'), ...groups, '--', 'setpriv', '--no-new-privs', program, '--keep-in-foreground', '--log-facility=-', `--conf-file=${configFile(folder)}`],
  { cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }, stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  child.on('error', () => {}); // no shell: it will not answer, and that is said
  child.unref();
  return child.pid === undefined ? undefined : readProcess(child.pid);
}

/** End it with all that it forked. Nothing happens when it does not run. */
export async function stopDnsmasq(folder: string): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const running = allOf(folder);
    for (const process of running) signalProcess(process, signal);
    const patience = AbortSignal.timeout(PATIENCE);
    await Promise.all(running.map((process) => waitProcessEnd(process, patience).catch(() => {})));
  }
  rmSync(join(folder, 'pid'), { force: true });
}

/** Empty its log when that is long: it is written by appending, so goes on at the beginning. */
export function trimDnsmasqLog(folder: string): void {
  if ((statSync(logFile(folder), { throwIfNoEntry: false })?.size ?? 0) > LOG_MAX) truncateSync(logFile(folder));
}

/** The end of what it said, for messages. */
export function dnsmasqWords(folder: string): string {
  return readIfExists(logFile(folder))?.trim().split('\n').slice(-3).join(' / ').slice(-500) ?? '';
}

function configFile(folder: string): string {
  return join(folder, 'dnsmasq.conf');
}

function logFile(folder: string): string {
  return join(folder, 'dnsmasq.log');
}
