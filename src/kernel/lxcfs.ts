/**
 * lxcfs as a process: serves /proc/meminfo, cpuinfo, stat, ... as the limits of the reader's control groups have them.
 *
 * It lives apart from the daemon (a session, a control group and a log of its own), because each VE holds binds into its mount: if it ends, they
 * answer ENOTCONN until lxcfs-mend.ts has exchanged them. It is known by pid, start time and boot.
 *
 * A newer one takes its place at the same path. The old one serves on whoever still has a file of it, and ends by itself with the last of them:
 * nobody has to ask it to, and nobody may (by SIGTERM it would unmount the path, which is another's by then).
 *
 * Nothing here reads from the mount in the daemon itself: a server that hangs would keep a thread for ever, and Node has four.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { VeldError } from '../lib/errors.ts';
import { bootId, isAlive, readProcess } from './process.ts';
import type { ProcessId } from './process.ts';
import { currentLxcfs } from './lxcfs-build.ts';
import type { LxcfsRoot } from './lxcfs-build.ts';
import { lxcfsDevice, lxcfsSource } from './lxcfs-mounts.ts';
import { signalProcess } from './pidfd.ts';
import { attachMount, cloneMount, detachMount } from './syscalls.ts';

/** How long lxcfs may take to answer, in milliseconds. */
const PATIENCE = 5000;

/** What lxcfs is doing. */
export interface LxcfsStatus {
  /** `running`; `absent`: none was built; `stopped`; `broken`: the mount does not answer. */
  state: 'running' | 'absent' | 'stopped' | 'broken';
  pid: number | null;
  version: string | null;
  /** Folder to bind from, only when running. */
  path: string | null;
}

interface Marker extends ProcessId {
  boot: string;
  fingerprint: string;
  version: string;
}

/** Where lxcfs is mounted. */
export function lxcfsPath(runDir: string): string {
  return join(runDir, 'lxcfs');
}

/** Where it is started: `instance` is shown in the mount table; `groups`: control group directories it is put into before it starts (the monitors' group). */
export interface LxcfsOptions {
  stateDir: string;
  runDir: string;
  instance: string;
  groups?: readonly string[];
}

/**
 * Start lxcfs unless the current one runs already. One of an earlier build is replaced; when the newer one cannot, it stays.
 * @returns what it is doing then; `absent` when none was built for this host
 * @throws VeldError `engine.failed` when it does not come up
 */
export async function startLxcfs(options: LxcfsOptions): Promise<LxcfsStatus> {
  const { stateDir, runDir } = options;
  const before = await lxcfsStatus(options);
  const root = currentLxcfs(stateDir);
  const marker = readMarker(runDir);
  if (root === undefined || (before.state === 'running' && marker?.fingerprint === root.fingerprint)) return before;
  const path = lxcfsPath(runDir);
  if (before.state !== 'running' || marker === undefined) {
    await stopLxcfs(runDir);
    await launch(options, root);
    return lxcfsStatus(options);
  }
  const wayBack = cloneMount(path);
  try {
    detachMount(path);
    rmSync(markerFile(runDir), { force: true }); // whoever is killed here leaves none rather than a wrong one
    await launch(options, root);
  } catch (error) {
    attachMount(wayBack, path);
    writeMarker(runDir, marker);
    throw error;
  } finally {
    closeSync(wayBack);
  }
  return lxcfsStatus(options);
}

/** Start the process where nothing is mounted, and wait until it answers. On failure nothing is left of it. */
async function launch({ runDir, instance, groups = [] }: LxcfsOptions, root: LxcfsRoot): Promise<void> {
  const path = lxcfsPath(runDir);
  mkdirSync(path, { recursive: true, mode: 0o755 });
  const logFile = join(runDir, 'lxcfs.log');
  if (existsSync(logFile)) renameSync(logFile, `${logFile}.1`); // the last words of the one before
  const log = openSync(logFile, 'w', 0o600);
  const lockFile = join(runDir, 'lxcfs.lock');
  rmSync(lockFile, { force: true }); // a replaced one may still hold it
  // The shell joins the groups and then becomes lxcfs: the pid stays.
  const child = spawn('/bin/sh', ['-c', 'for group; do shift; [ "$group" = -- ] && break; echo 0 >"$group/cgroup.procs" || exit 1; done; exec "$@"', 'lxcfs',
    ...groups, '--', root.lxcfs, '--foreground', '--enable-loadavg', '--enable-cfs', '--enable-pidfd', `--pidfile=${lockFile}`,
    '-o', `fsname=${lxcfsSource(instance)}`, path],
  { cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }, stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  const failed = new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('exit', (code, signal) => resolve(`it ended with ${signal ?? `status ${code}`}`));
  });
  child.unref();
  const me = child.pid === undefined ? undefined : readProcess(child.pid);
  if (me) writeMarker(runDir, { pid: me.pid, startTime: me.startTime, boot: bootId(), fingerprint: root.fingerprint, version: root.manifest.version });
  const gaveUp = new AbortController();
  const why = await Promise.race([failed, answers(path, PATIENCE, gaveUp.signal)]);
  gaveUp.abort();
  if (why === undefined) return;
  await stopLxcfs(runDir);
  throw new VeldError('engine.failed', `lxcfs ${root.manifest.version} did not start: ${why}. ${lastLxcfsWords(runDir)}`);
}

/** The end of what the present or last lxcfs printed, on one line. */
export function lastLxcfsWords(runDir: string): string {
  return readIfExists(join(runDir, 'lxcfs.log'))?.trim().split('\n').slice(-3).join(' / ').slice(-600) ?? '';
}

/** The process that serves, while it lives. */
export function lxcfsProcess(runDir: string): ProcessId | undefined {
  const marker = readMarker(runDir);
  return marker && { pid: marker.pid, startTime: marker.startTime };
}

/** What lxcfs is doing now. */
export async function lxcfsStatus(options: { stateDir: string; runDir: string }): Promise<LxcfsStatus> {
  const marker = readMarker(options.runDir);
  const path = lxcfsPath(options.runDir);
  if (marker === undefined) return { state: currentLxcfs(options.stateDir) ? 'stopped' : 'absent', pid: null, version: null, path: null };
  if ((await answers(path, 1000)) !== undefined) return { state: 'broken', pid: marker.pid, version: marker.version, path: null };
  return { state: 'running', pid: marker.pid, version: marker.version, path };
}

/** Like {@link lxcfsStatus}, from what can be known without asking lxcfs itself: the folder to bind from while it lives, else null. */
export function lxcfsFolder(runDir: string): string | null {
  return readMarker(runDir) === undefined || !isMounted(lxcfsPath(runDir)) ? null : lxcfsPath(runDir);
}

/** End lxcfs and take its mount away. VEs that bind from it lose these files. Nothing happens when it does not run. */
export async function stopLxcfs(runDir: string): Promise<void> {
  const marker = readMarker(runDir);
  if (marker) {
    signalProcess(marker, 'SIGTERM');
    // Its load average thread sleeps up to 5 s before it looks; nothing is lost by not waiting for it.
    for (let i = 0; i < 20 && isAlive(marker); i++) await sleep(10);
    signalProcess(marker, 'SIGKILL');
  }
  // Also the mount of one that was killed.
  for (let i = 0; i < 3 && isMounted(lxcfsPath(runDir)); i++) detachMount(lxcfsPath(runDir));
  rmSync(markerFile(runDir), { force: true });
  rmSync(join(runDir, 'lxcfs.lock'), { force: true });
}

/**
 * End those that were replaced and live on, because a mount namespace somewhere on the host has a copy of their mount. For the removal of an
 * installation: what still reads from them gets errors.
 */
export function endReplacedLxcfs(runDir: string): void {
  const current = readMarker(runDir)?.pid;
  for (const pid of readdirSync('/proc').map(Number).filter((n) => n > 0 && n !== current)) {
    const me = readProcess(pid);
    if (me?.comm === 'lxcfs' && readIfExists(`/proc/${pid}/cmdline`)?.endsWith(`\0${lxcfsPath(runDir)}\0`) === true) signalProcess(me, 'SIGKILL');
  }
}

function markerFile(runDir: string): string {
  return join(runDir, 'lxcfs.json');
}

function writeMarker(runDir: string, marker: Marker): void {
  writeFileAtomic(markerFile(runDir), JSON.stringify(marker));
}

/** The marker of an lxcfs that lives, in this boot. */
function readMarker(runDir: string): Marker | undefined {
  const text = readIfExists(markerFile(runDir));
  if (text === undefined) return undefined;
  const marker = JSON.parse(text) as Marker;
  return marker.boot === bootId() && isAlive(marker) && isLxcfs(marker.pid) ? marker : undefined;
}

/** Pid and start time are those of the shell that became lxcfs; one that never did is not lxcfs. */
function isLxcfs(pid: number): boolean {
  try {
    // Its build may have been removed meanwhile.
    return /\/lxcfs( \(deleted\))?$/.test(readlinkSync(`/proc/${pid}/exe`)) || readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('/bin/sh');
  } catch {
    return false;
  }
}

/** Whether an lxcfs is mounted there; a statfs would hang or fail on a dead one, so the table is read. */
function isMounted(path: string): boolean {
  return lxcfsDevice(path) !== undefined;
}

/** Wait until lxcfs answers at `path`. @returns undefined when it does, else why not */
async function answers(path: string, patience: number, signal?: AbortSignal): Promise<string | undefined> {
  let why = 'nothing is mounted';
  for (const end = Date.now() + patience; Date.now() < end; await sleep(10)) {
    if (signal?.aborted) break;
    if (!isMounted(path)) {
      if (patience < PATIENCE) return why;
      continue;
    }
    const answer = await askLxcfs(path, end - Date.now());
    if (answer === undefined) return undefined;
    why = answer;
  }
  return `${why} within ${patience / 1000} s`;
}

/**
 * Read a file of lxcfs' once, in a process of its own.
 * @param patience milliseconds
 * @returns undefined when it answers, else why not
 */
export function askLxcfs(path: string, patience: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn('/usr/bin/head', ['-c', '9', '--', join(path, 'proc/meminfo')], { cwd: '/', env: { LC_ALL: 'C' }, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    let complaint = '';
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      // Whoever waits for FUSE can be killed; where not, its end is not waited for.
      child.unref();
      resolve('it does not answer');
    }, patience);
    child.stdout.on('data', (chunk: Buffer) => { said += chunk.toString('latin1'); });
    child.stderr.on('data', (chunk: Buffer) => { complaint += chunk.toString('utf8'); });
    child.on('error', (error) => {
      clearTimeout(timer);
      resolve(error.message);
    });
    child.on('close', () => {
      clearTimeout(timer);
      resolve(said === 'MemTotal:' ? undefined : complaint.trim().split(': ').at(-1) || 'its meminfo is empty');
    });
  });
}
