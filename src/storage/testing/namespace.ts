/** Test helper: runs a job (see in-namespace.ts) in a mount namespace of its own. */
import { fileURLToPath } from 'node:url';
import { run } from '../../lib/run.ts';
import type { RunResult } from '../../lib/run.ts';
import type { Job } from './in-namespace.ts';

/** @returns status 1 when the job failed, with the error's code first in stderr */
export function inNamespace(job: Job): Promise<RunResult> {
  const helper = fileURLToPath(new URL('in-namespace.ts', import.meta.url));
  return run('/usr/bin/unshare', ['--mount', '--propagation', 'private', process.execPath, helper], { input: JSON.stringify(job), allow: [1], timeout: 30_000 });
}
