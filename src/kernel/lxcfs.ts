/**
 * lxcfs as a process: serves /proc/meminfo, cpuinfo, stat, ... as the limits of the reader's control groups have them.
 *
 * It lives apart from the daemon (a session, a control group and a log of its own), because each VE holds binds into its mount: if it ends, they
 * answer ENOTCONN until the VE is started again. It is known by pid, start time and boot.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../lib/run.ts';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { VeldError } from '../lib/errors.ts';
import { bootId, isAlive, readProcess } from './process.ts';
import type { ProcessId } from './process.ts';
import { currentLxcfs } from './lxcfs-build.ts';

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

/**
 * Start lxcfs unless it runs already.
 * @param options `instance` is shown in the mount table; `groups`: control group directories it is put into before it starts (the monitors' group)
 * @returns what it is doing then; `absent` when none was built for this host
 * @throws VeldError `engine.failed` when it does not come up
 */
export async function startLxcfs(options: { stateDir: string; runDir: string; instance: string; groups?: readonly string[] }): Promise<LxcfsStatus> {
  const before = await lxcfsStatus(options);
  if (before.state === 'running') return before;
  const root = currentLxcfs(options.stateDir);
  if (root === undefined) return before;
  await stopLxcfs(options.runDir);
  const path = lxcfsPath(options.runDir);
  mkdirSync(path, { recursive: true, mode: 0o755 });
  const log = openSync(join(options.runDir, 'lxcfs.log'), 'w', 0o600);
  // The shell joins the groups and then becomes lxcfs: the pid stays.
  const child = spawn('/bin/sh', ['-c', 'for group; do shift; [ "$group" = -- ] && break; echo 0 >"$group/cgroup.procs" || exit 1; done; exec "$@"', 'lxcfs',
    ...(options.groups ?? []), '--', root.lxcfs, '--foreground', '--enable-loadavg', '--enable-cfs', '--enable-pidfd',
    `--pidfile=${join(options.runDir, 'lxcfs.lock')}`, '-o', `fsname=lxcfs-${options.instance}`, path],
  { cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }, stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  const failed = new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('exit', (code, signal) => resolve(`it ended with ${signal ?? `status ${code}`}`));
  });
  child.unref();
  const me = child.pid === undefined ? undefined : readProcess(child.pid);
  if (me) {
    const marker: Marker = { pid: me.pid, startTime: me.startTime, boot: bootId(), fingerprint: root.fingerprint, version: root.manifest.version };
    writeFileAtomic(markerFile(options.runDir), JSON.stringify(marker));
  }
  const gaveUp = new AbortController();
  const why = await Promise.race([failed, answers(path, PATIENCE, gaveUp.signal)]);
  gaveUp.abort();
  if (why === undefined) return lxcfsStatus(options);
  await stopLxcfs(options.runDir);
  const said = readIfExists(join(options.runDir, 'lxcfs.log'))?.trim().split('\n').slice(-3).join(' / ') ?? '';
  throw new VeldError('engine.failed', `lxcfs ${root.manifest.version} did not start: ${why}. ${said}`);
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
    process.kill(marker.pid, 'SIGTERM');
    // Its load average thread sleeps up to 5 s before it looks; nothing is lost by not waiting for it.
    for (let i = 0; i < 20 && isAlive(marker); i++) await sleep(10);
    if (isAlive(marker)) process.kill(marker.pid, 'SIGKILL');
  }
  // Also the mount of one that was killed: nothing but a lazy unmount gets rid of it while somebody binds from it.
  for (let i = 0; i < 3 && isMounted(lxcfsPath(runDir)); i++) await run('/usr/bin/umount', ['--lazy', '--', lxcfsPath(runDir)], { allow: true });
  rmSync(markerFile(runDir), { force: true });
  rmSync(join(runDir, 'lxcfs.lock'), { force: true });
}

function markerFile(runDir: string): string {
  return join(runDir, 'lxcfs.json');
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
    return readlinkSync(`/proc/${pid}/exe`).endsWith('/lxcfs') || readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('/bin/sh');
  } catch {
    return false;
  }
}

/** Whether something of type fuse.lxcfs is mounted there; a statfs would hang or fail on a dead one, so the table is read. */
function isMounted(path: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').split('\n').some((line) => line.split(' ')[4] === path && line.includes(' - fuse'));
}

/** Wait until lxcfs answers at `path`. @returns undefined when it does, else why not */
async function answers(path: string, patience: number, signal?: AbortSignal): Promise<string | undefined> {
  let why = 'nothing is mounted';
  for (const end = Date.now() + patience; Date.now() < end; await sleep(20)) {
    if (signal?.aborted) break;
    if (!isMounted(path)) {
      if (patience < PATIENCE) return why;
      continue;
    }
    try {
      // Never read synchronously: a hanging FUSE server would hang the daemon.
      const text = await readFile(join(path, 'proc/meminfo'), { encoding: 'utf8', signal: AbortSignal.timeout(1000) });
      if (text.startsWith('MemTotal:')) return undefined;
      why = 'its meminfo is empty';
    } catch (error) {
      why = (error as Error).message;
    }
  }
  return `${why} within ${patience / 1000} s`;
}
