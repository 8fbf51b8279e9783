/**
 * `create --start`: a new VE is a spare of its template that gets its name, or is brought to life from the template's warm image, or is booted: the first of
 * these that there is, and that works.
 */
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import { mustBoot, type Personal } from '../spec/personal.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord, WarmImage } from '../store/types.ts';
import { cleanUpRun } from './clean-up.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { createVe, makeVolume } from './create.ts';
import { removeVe } from './destroy.ts';
import { nameSpare } from './name-spare.ts';
import { personalRows } from './personal/lay.ts';
import { bringBack } from './resume.ts';
import { askRoom } from './room.ts';
import { runInVe } from './run-in-ve.ts';
import { startVe } from './start.ts';
import { dropWarmImage, suitsWarmImage, warmImageOf } from './warm-image.ts';

/**
 * Create a reserved VE and start it. An image that cannot be brought back is thrown away, and the VE boots.
 * @param how.spare the record of the spare that was taken for it, as it was before
 * @param how.personal what its user wants in it
 */
export async function deployVe(context: VeContext, ve: VeRecord, task: Task, { spare, personal }: { spare?: VeRecord | undefined; personal?: Personal | undefined } = {}): Promise<void> {
  const forget = () => (context.store.veByUuid(ve.uuid) ? removeVe(context, reload(context.store, ve.uuid)) : undefined);
  askRoom(context, ve, task); // not a fault of the spare, or of the image
  if (personal) {
    task.undo('record', forget);
    await personalRows(context, ve, ve.layers, personal); // nor is what does not fit the template
  }
  if (spare) {
    task.undo('spare', forget);
    try {
      await nameSpare(context, spare, ve, task, personal);
      return;
    } catch (error) {
      task.signal.throwIfAborted();
      context.log.warn({ ve: ve.uuid, name: ve.name, err: error }, 'a spare VE could not be used: another one is made');
      ve = await backToNothing(context, ve);
    }
  }
  const image = !mustBoot(personal) && suitsWarmImage(resolveProperties(ve.properties)) ? warmImageOf(context, ve.template) : undefined;
  if (image) {
    task.undo('record', forget);
    try {
      await bringToLife(context, ve, image, task, personal);
      updateVe(context.store, ve.uuid, { ready: true });
      return;
    } catch (error) {
      task.signal.throwIfAborted();
      context.log.warn({ ve: ve.uuid, name: ve.name, err: error }, 'the warm image of its template could not be used: the VE boots');
      await backToNothing(context, ve);
      await blame(context, image, error);
    }
  }
  await createVe(context, ve, task, personal);
  await startVe(context, ve.uuid, task);
}

/** Bring a reserved VE to life from an image. Its record stays invisible. */
export async function bringToLife(context: VeContext, ve: VeRecord, image: WarmImage, task: Task, personal?: Personal): Promise<void> {
  const { store, states } = context;
  context.resources.expectMoves(500); // in milliseconds, at least
  task.phase('volume');
  task.progress(5, 'making the disk');
  await makeVolume(context, ve, { anew: true, layers: [...ve.layers, image.layer], personal });
  states.derive(states.snapshot(image.id), ve, { closeTcp: true });
  faultPoint('deploy.state');
  updateVe(store, ve.uuid, { layers: [...ve.layers, image.layer], deployed: 'warm', suspended: { at: image.createdAt, engine: image.engine } });
  await bringBack(context, ve.uuid, task, { prove: personalise, part: true });
}

/** What an attempt has made goes. @returns the record, as one that is only reserved */
async function backToNothing(context: VeContext, ve: VeRecord): Promise<VeRecord> {
  await cleanUpRun(context, ve);
  await context.states.remove(ve.uuid);
  await context.volumes.destroyVolume(ve.uuid);
  const layers = [...context.store.findTemplate(ve.template)?.layers ?? ve.layers];
  return updateVe(context.store, ve.uuid, { layers, ready: false, deployed: null, suspended: null, desired: 'stopped' });
}

/** An image with which no VE comes back goes. */
async function blame(context: VeContext, image: WarmImage, error: unknown): Promise<void> {
  const code = error instanceof VeldError ? error.code : undefined;
  if ((code === 'restore.failed' || code === 'restore.unhealthy') && context.store.listWarmImages().some(({ id }) => id === image.id)) await dropWarmImage(context, image.template);
}

/**
 * What the model had in memory of who it is begins anew, and what was stopped because it holds keys begins. Host name, machine-id and the files that carry
 * the VE's network were its own before anything ran. That init does all this is the proof that the VE works. (How much clones share beyond that, such as the
 * states of random generators in programs that ran on, stands in docs/explanation/checkpoint.md.)
 */
const PERSONALISE = `
systemctl try-restart systemd-journald.service rsyslog.service systemd-networkd.service systemd-resolved.service 2>/dev/null &
if [ -s /run/veld-start ]; then systemctl start $(cat /run/veld-start); else systemd-run --quiet --collect --wait true; fi || exit 1
wait
rm -f /run/veld-start
read -r id </etc/machine-id
for journal in /run/log/journal/* /var/log/journal/*; do
  case $journal in */"$id" | */\\*) ;; *) rm -rf "$journal" ;; esac
done
`;

async function personalise(context: VeContext, ve: VeRecord): Promise<void> {
  const { code, said } = await runInVe(context, ve, ['timeout', '30', 'sh', '-c', PERSONALISE]);
  if (code !== 0) throw new VeldError('restore.unhealthy', `${ve.name} is there, but its services do not start: ${said.slice(-500) || `status ${code}`}.`);
}

