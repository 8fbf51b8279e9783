/** A command in a VE for the manager's own sake: nobody talks to it, and what it says is kept for the error. */
import { VeldError } from '../lib/errors.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { execInVe } from './exec.ts';
import type { ExecSession } from './types.ts';

/** Most characters that are kept of what it says: the last ones. */
const WORDS = 2000;

/** How long such a command may take unless said otherwise, in milliseconds: it is the VE's own program, which may do whatever it likes. */
const PATIENCE = 120_000;

/** @returns its exit status, and the end of what it said on both outputs @throws VeldError when it could not be begun, or was ended from outside */
export async function runInVe(context: VeContext, ve: VeRecord, command: readonly string[], { env = {}, patience = PATIENCE, descriptors = [] }: { env?: Record<string, string>; patience?: number; descriptors?: readonly number[] } = {}): Promise<{ code: number; said: string }> {
  const session = await execInVe(context, ve, { command: [...command], env }, descriptors);
  session.stdin.end();
  let said = '';
  for (const stream of [session.stdout, session.stderr]) stream?.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-WORDS); });
  const code = await withDeadline(session, patience, command);
  return { code, said: said.trim() };
}

/** Its exit status; it is killed when that does not come in time, and nobody waits for what it has left behind. */
function withDeadline(session: ExecSession, patience: number, command: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      session.kill('SIGKILL');
      reject(new VeldError('timeout', `\`${command[0]}\` in the VE did not end within ${patience / 1000} s, and was killed.`));
    }, patience);
    session.exit.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
