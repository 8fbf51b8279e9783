/** Waits until the system inside a VE has come up. */
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError, toVeldError } from '../lib/errors.ts';
import type { Context } from './context.ts';
import { segment } from './values.ts';

/** Answer of the API's exec route. */
interface ExecResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** Seconds that a boot may take unless the user says otherwise. */
const DEFAULT_TIMEOUT = 90;

/**
 * Ask systemd inside until it says `running` or `degraded`. An init that is not systemd counts as up.
 * @param timeout seconds
 * @throws VeldError `timeout`; `ve.not_running` when it stopped meanwhile
 */
export async function waitUntilUp(context: Context, ve: string, timeout = DEFAULT_TIMEOUT): Promise<void> {
  const client = await context.client();
  const end = Date.now() + timeout * 1000;
  let state = '';
  for (let pause = 50; Date.now() < end; pause = Math.min(pause * 1.5, 1000)) {
    const left = Math.max(1, Math.ceil((end - Date.now()) / 1000));
    // timeout(1) inside, since a wait that nobody waits for any more would stay in the VE.
    let result: ExecResult;
    try {
      result = await client.request<ExecResult>('POST', `/v1/ves/${segment(ve)}/exec`,
        { command: ['timeout', String(left), 'systemctl', 'is-system-running', '--wait'] });
    } catch (error) {
      if (toVeldError(error).code === 'exec.not_found') return;
      throw error;
    }
    state = result.stdout.trim();
    if (state === 'running') return;
    if (state === 'degraded') {
      context.err(`veld: ${ve} is up, but units have failed. See \`veld exec ${ve} -- systemctl --failed\`.\n`);
      return;
    }
    // offline: systemctl is there, but another init runs, or the one command of an application VE.
    if (state === 'offline' || result.exitCode === 127 || result.exitCode === 126) return;
    // Before its bus listens, systemctl ends at once with 'Failed to connect': ask again.
    await sleep(pause);
  }
  throw new VeldError('timeout', `${ve} did not come up within ${timeout} s${state === '' ? '' : `; it is ${state}`}.`, { hint: `See \`veld logs ${ve}\`.` });
}
