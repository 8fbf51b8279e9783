/** Proves that a restored VE works: that processes are there proves nothing, for services may be unable to start or stop. */
import { VeldError } from '../lib/errors.ts';
import type { ProcessId } from '../kernel/process.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { execInVe } from './exec.ts';
import { initKind } from './inits.ts';

/** Seconds that init gets for starting a unit. */
const PATIENCE = 30;

/**
 * Have init start a unit that does nothing, where it is systemd; others are asked to run a command, which needs no init.
 * @throws VeldError `restore.unhealthy`; the VE runs on
 */
export async function proveHealth(context: VeContext, ve: VeRecord, init: ProcessId): Promise<void> {
  const command = initKind(init) === 'systemd' ? ['timeout', String(PATIENCE), 'systemd-run', '--quiet', '--collect', '--wait', 'true'] : ['true'];
  const session = await execInVe(context, ve, { command });
  session.stdin.end();
  let said = '';
  for (const stream of [session.stdout, session.stderr]) stream?.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-500); });
  const code = await session.exit;
  if (code === 0) return;
  throw new VeldError('restore.unhealthy', `${ve.name} is back, but its init starts no unit: ${said.trim() || `status ${code}`}.`);
}
