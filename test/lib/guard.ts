/**
 * The guard of destructive tests: they run only as root, and only when `./check` says so by a guard file that names its own living
 * process. A stray `node --test` on somebody's server does nothing.
 */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';

const GUARD_DIR = '/run/veld-test';

/** Time at which a process started, in clock ticks since boot; with the pid it names a process for good. Undefined when it is gone. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** `PID STARTTIME` of this process. */
export function identity(pid = process.pid): string {
  return `${pid} ${startTime(pid) ?? '?'}`;
}

/** Whether the process that {@link identity} named still lives. */
export function lives(id: string): boolean {
  const [pid, start] = id.trim().split(' ');
  return /^\d+$/.test(pid ?? '') && start !== undefined && startTime(Number(pid)) === start;
}

/** Allow destructive tests to processes that get `VELD_TEST_OK` with the returned path. */
export function writeGuard(): string {
  mkdirSync(GUARD_DIR, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(GUARD_DIR)) {
    // Of runs that were killed.
    const owner = readFileSync(`${GUARD_DIR}/${name}`, 'utf8');
    if (owner !== '' && !lives(owner)) rmSync(`${GUARD_DIR}/${name}`, { force: true });
  }
  const file = `${GUARD_DIR}/guard.${process.pid}`;
  writeFileSync(file, identity(), { mode: 0o600 });
  return file;
}

/** Take the permission back. */
export function removeGuard(file: string): void {
  rmSync(file, { force: true });
}

/**
 * Refuse to go on unless destructive tests are allowed here.
 * @returns identity of the `./check` that allowed it: owner of all that the test makes
 */
export function requireGuard(): string {
  if (process.getuid?.() !== 0) throw new Error('System tests need root. Run them by `./check system`.');
  const file = process.env.VELD_TEST_OK;
  let owner: string | undefined;
  try {
    owner = file?.startsWith(`${GUARD_DIR}/`) ? readFileSync(file, 'utf8') : undefined;
  } catch { /* no guard */ }
  if (owner === undefined || !lives(owner)) throw new Error('System tests make and destroy VEs, links and cgroups. Run them by `./check system [FILE...]`.');
  return owner;
}
