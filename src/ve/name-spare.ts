/** How a spare VE becomes somebody's: the last and only part of a deploy for which its user waits. */
import { setHostname } from '../kernel/uts.ts';
import { faultPoint } from '../lib/faults.ts';
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import type { Personal } from '../spec/personal.ts';
import type { VeRecord } from '../store/types.ts';
import { updateVe, type VeContext } from './context.ts';
import { layPersonal } from './personal/lay.ts';
import { follow } from './set.ts';
import { askRoom } from './room.ts';
import { readRunState } from './run-folder.ts';
import { runInVe } from './run-in-ve.ts';

/**
 * Give a spare the name, the address and the limits of the VE that it has become in the records.
 * @param spare its record as it was
 * @param ve and as it is: still invisible, and visible afterwards
 * @param personal what its user wants in it: there before its address is
 * @throws VeldError when it does not run any more, or not well
 */
export async function nameSpare(context: VeContext, spare: VeRecord, ve: VeRecord, task: Task, personal?: Personal): Promise<void> {
  const { init } = readRunState(context.settings, ve.number);
  if (!init) throw new VeldError('ve.not_running', 'The spare VE has ended.');
  askRoom(context, ve, task);
  task.progress(10, 'naming a spare VE');
  if (personal) await layPersonal(ve, init, personal);
  faultPoint('deploy.personal');
  context.network.ready(ve);
  faultPoint('deploy.spare');
  // None is left alone when another fails. The host name first: the others' programs see it.
  await setHostname(init.pid, ve.properties.hostname as string | undefined ?? ve.name);
  const results = await Promise.allSettled([follow(context, spare, ve, init, true), greet(context, ve)]);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  updateVe(context.store, ve.uuid, { ready: true });
}

/**
 * Programs that keep the host name in mind hear of it (systemd and journald watch it). That init answers, and has nothing to complain of, is the proof that
 * the VE works.
 */
const GREET = `
word=$(systemctl is-system-running)
[ "$word" = running ] || { echo "it is $word"; exit 1; }
[ ! -s /run/rsyslogd.pid ] || systemctl kill -s HUP rsyslog.service || true
`;

async function greet(context: VeContext, ve: VeRecord): Promise<void> {
  const { code, said } = await runInVe(context, ve, ['sh', '-c', GREET], { patience: 10_000 });
  if (code !== 0) throw new VeldError('restore.unhealthy', `The spare VE does not work: ${said.slice(-500) || `status ${code}`}.`);
}
