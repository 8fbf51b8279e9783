/** A command in a VE for the manager's own sake: nobody talks to it, and what it says is kept for the error. */
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { execInVe } from './exec.ts';

/** Most characters that are kept of what it says: the last ones. */
const WORDS = 2000;

/** @returns its exit status, and the end of what it said on both outputs @throws VeldError when it could not be begun, or was ended from outside */
export async function runInVe(context: VeContext, ve: VeRecord, command: readonly string[], env: Record<string, string> = {}): Promise<{ code: number; said: string }> {
  const session = await execInVe(context, ve, { command: [...command], env });
  session.stdin.end();
  let said = '';
  for (const stream of [session.stdout, session.stderr]) stream?.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-WORDS); });
  const code = await session.exit;
  return { code, said: said.trim() };
}
