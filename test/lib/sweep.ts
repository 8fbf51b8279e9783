/** Removes an instance from the host by force, without any help of Veld: for tests that failed or were interrupted. */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountsBelow } from '../../src/kernel/mounts.ts';
import { lives } from './guard.ts';
import { cgroupsOf, processesOf, tracesOf } from './leftovers.ts';
import type { Trace } from './leftovers.ts';
import { FOLDER_PREFIX, instanceNames } from './names.ts';

/** Kill what the instance runs and remove all that carries its name. @returns what could not be removed */
export async function sweepInstance(name: string): Promise<Trace[]> {
  if (!/^[a-z]{5}$/.test(name)) throw new Error(`${name} is not a test instance`);
  for (let round = 0; round < 40; round++) {
    const groups = cgroupsOf(name);
    for (const group of groups) {
      attempt(() => writeFileSync(`${group}/cgroup.freeze`, '0'));
      attempt(() => writeFileSync(`${group}/freezer.state`, 'THAWED'));
      attempt(() => writeFileSync(`${group}/cgroup.kill`, '1'));
    }
    const processes = processesOf(name);
    for (const { pid } of processes) if (pid !== undefined) attempt(() => process.kill(pid, 'SIGKILL'));
    for (const group of groups.reverse()) attempt(() => rmdirSync(group));
    if (processes.length === 0 && cgroupsOf(name).length === 0) break;
    await sleep(50);
  }
  for (const trace of tracesOf(name)) {
    if (trace.kind === 'link') spawnSync('ip', ['link', 'del', trace.what]);
    if (trace.kind === 'nft' && /^table \S+ \S+$/.test(trace.what)) spawnSync('nft', ['delete', ...trace.what.split(' ')]);
    if (trace.kind === 'neighbour') spawnSync('ip', ['neigh', 'del', ...trace.what.split(' ')]);
    if (trace.kind === 'route') {
      const [family = '', type = '', dst = '', , dev = '', , table = ''] = trace.what.split(' ');
      if (family.startsWith('-')) spawnSync('ip', [family, 'route', 'del', type, dst, ...(dev === '-' ? [] : ['dev', dev]), 'table', table]);
    }
    if (trace.kind === 'mount' && trace.what.startsWith('host: ')) {
      const point = trace.what.slice(6).split(' ')[2] ?? '';
      if (point.includes(name)) spawnSync('umount', ['-l', point]);
    }
  }
  for (const trace of tracesOf(name)) if (trace.kind === 'file' && trace.what.includes(name)) attempt(() => rmSync(trace.what, { recursive: true, force: true }));
  return tracesOf(name);
}

function attempt(work: () => void): void {
  try {
    work();
  } catch { /* gone already, or next round */ }
}

/** Where the storage drivers' conformance suite works, with the number of its process (`src/storage/conformance.ts`). */
const STORAGE_PREFIX = '/var/tmp/veld-storage-';

/** Remove the folders of conformance suites that were interrupted, and what they had mounted. @returns their paths */
export function sweepStorage(): string[] {
  return globSync(`${STORAGE_PREFIX}*`).filter((dir) => {
    const pid = /^(\d+)-/.exec(dir.slice(STORAGE_PREFIX.length))?.[1];
    if (pid !== undefined && existsSync(`/proc/${pid}`)) return false;
    for (const target of mountsBelow(dir).toReversed()) spawnSync('umount', ['--', target]);
    attempt(() => rmSync(dir, { recursive: true, force: true }));
    return true;
  });
}

/** Sweep instances whose `./check` is gone, and those of `owner`. @returns names */
export async function sweepAll(owner?: string): Promise<string[]> {
  const swept: string[] = [];
  for (const name of instanceNames()) {
    const file = `${FOLDER_PREFIX}${name}/owner`;
    const its = existsSync(file) ? readFileSync(file, 'utf8') : '';
    // A folder without an owner is being made or removed just now, or was left half removed.
    const forgotten = its === '' && Date.now() - (statSync(FOLDER_PREFIX + name, { throwIfNoEntry: false })?.mtimeMs ?? Infinity) > 600_000;
    if (its === owner || forgotten || (its !== '' && !lives(its))) {
      await sweepInstance(name);
      swept.push(name);
    }
  }
  return [...swept, ...sweepStorage()];
}
