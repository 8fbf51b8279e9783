/** Proves that a restored VE works: that processes are there proves nothing, for services may be unable to start or stop. */
import { VeldError } from '../lib/errors.ts';
import type { ProcessId } from '../kernel/process.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { initKind } from './inits.ts';
import { runInVe } from './run-in-ve.ts';

/** Seconds that init gets for starting a unit. */
const PATIENCE = 30;

/**
 * Have init start a unit that does nothing, where it is systemd; others are asked to run a command, which needs no init.
 * @throws VeldError `restore.unhealthy`; the VE runs on
 */
export async function proveHealth(context: VeContext, ve: VeRecord, init: ProcessId): Promise<void> {
  const command = initKind(init) === 'systemd' ? ['timeout', String(PATIENCE), 'systemd-run', '--quiet', '--collect', '--wait', 'true'] : ['true'];
  const { code, said } = await runInVe(context, ve, command);
  if (code !== 0) throw new VeldError('restore.unhealthy', `${ve.name} is back, but its init starts no unit: ${said.slice(-500) || `status ${code}`}.`);
}
