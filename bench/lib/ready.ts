/** Waits until systemd in a VE has finished its boot, in one way for all who are measured: not by their own exec, which costs each of them something else. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Contestant } from '../contestants/types.ts';
import { initOf } from './processes.ts';

/** systemctl answers at once until there is a bus to wait at. */
const WAIT = 'until s=$(systemctl is-system-running --wait 2>/dev/null); case $s in running|degraded|maintenance) ;; *) false ;; esac; do sleep 0.005; done; echo "$s"';

/** @throws Error when systemd does not come up, or with failed units */
export async function untilRunning(contestant: Contestant, ve: string): Promise<void> {
  const group = await contestant.group(ve);
  let init = initOf(group);
  for (let tries = 0; init === undefined; tries++) {
    if (tries > 1000) throw new Error(`${contestant.name}: ${ve} has no init`);
    await sleep(2);
    init = initOf(group);
  }
  const word = await insideOf(init, ['timeout', '60', 'sh', '-c', WAIT]);
  if (word.trim() !== 'running') throw new Error(`${contestant.name}: ${ve} is ${word.trim() || 'dead'}`);
}

/** Output of a command in the namespaces of a process, as root of its user namespace. */
export function insideOf(pid: number, command: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', ['--target', String(pid), '--all', '--setuid', '0', '--setgid', '0', '--', ...command],
      { cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }, stdio: ['ignore', 'pipe', 'ignore'] });
    const out: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.on('error', reject);
    child.on('close', () => resolve(Buffer.concat(out).toString('utf8')));
  });
}
