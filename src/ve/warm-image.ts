/**
 * Warm images: a VE of a template as it was just after its boot, kept as a state and a layer. What the boot did need not be done again: a new VE of the
 * template is made of both (deploy.ts). An image is of one kernel, one kind of processor and one engine; one that does not fit is thrown away.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { arch, release, version } from 'node:os';
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import { PROPERTIES, resolveProperties } from '../spec/properties.ts';
import type { Properties } from '../spec/types.ts';
import type { TemplateRecord, WarmImage } from '../store/types.ts';
import { bootVe } from './boot.ts';
import { reload, type VeContext } from './context.ts';
import { makeVolume, reserveVe } from './create.ts';
import { removeVe } from './destroy.ts';
import { initKind } from './inits.ts';
import { dropUnusedLayers } from './layers.ts';
import { runInVe } from './run-in-ve.ts';
import { suspendNow } from './suspend.ts';

/** Changes with what this file puts into an image. */
const FORMAT = 1;

/** Seconds that all services of a template get to be up. */
const PATIENCE = 60;

/** What a VE must be allowed, or bringing a whole model back at once may be too much for it where a boot, bit by bit, is not: bytes, processes. */
const LEAST = { memory: 128 << 20, pids: 128 };

/** Properties that take effect at a boot, and are none of the image's business all the same: they are in files, or the kernel is told. */
const IN_FILES = new Set(['hostname', 'network.dns', 'network.search']);
/** Properties that can change at any time, and decide all the same how the links of a boot are made. */
const OF_LINKS = new Set(['network.mode', 'network.interfaces']);

/**
 * In the model, when all of it is up. What holds keys is stopped, and begins with each VE that is made of the image; so are the keys gone. (What a VE
 * must have of its own beside that is written by deploy.ts.)
 */
const PREPARE = `
word=$(timeout ${PATIENCE} systemctl is-system-running --wait)
[ "$word" = running ] || { echo "it is $word: $(systemctl --failed --plain --no-legend | head -n 3)"; exit 1; }
set -e
for unit in ssh.service sshd.service; do
  systemctl --quiet is-active $unit || continue
  systemctl stop $unit
  echo $unit >>/run/veld-start
done
systemctl stop veld-ssh-keys.service 2>/dev/null || true
rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
`;

/** Where a state of now could be brought back. */
export function hostMark(engine: string): string {
  const known = marks.get(engine);
  if (known !== undefined) return known;
  const processor = /^(flags|Features)\s*:.*$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[0] ?? '';
  const mark = createHash('sha256').update(JSON.stringify([FORMAT, release(), version(), arch(), processor, engine])).digest('hex');
  marks.set(engine, mark);
  return mark;
}

/** By engine: the rest does not change while the host runs. */
const marks = new Map<string, string>();

/** Whether a VE with these properties begins where the image's model was: else it must boot. */
export function suitsWarmImage(properties: Properties): boolean {
  if ((properties['memory.limit'] ?? Infinity) < LEAST.memory || (properties['pids.limit'] ?? Infinity) < LEAST.pids) return false;
  const defaults = resolveProperties({});
  return PROPERTIES.every(({ name, change }) => (change === 'restart' && !IN_FILES.has(name) || OF_LINKS.has(name)
    ? JSON.stringify(properties[name as keyof Properties]) === JSON.stringify(defaults[name as keyof Properties]) : true));
}

/** The template's image, if it can be used here and now. */
export function warmImageOf({ store, settings, states, engine }: VeContext, template: string): WarmImage | undefined {
  if (!settings.deploy.warm) return undefined;
  const image = store.listWarmImages().find((one) => one.template === template);
  return image !== undefined && image.host === hostMark(engine().fingerprint) && states.isWholeSnapshot(image.id) ? image : undefined;
}

/** Throw away a template's image, if it has one. VEs that were made of it keep its layer. */
export async function dropWarmImage({ store, states, volumes }: VeContext, template: string): Promise<void> {
  const image = store.listWarmImages().find((one) => one.template === template);
  if (!image) return;
  store.deleteWarmImage(template);
  await states.removeSnapshot(image.id);
  await dropUnusedLayers({ store, volumes }, [image.layer]);
}

/** Boot a VE of the template, out of sight, and keep it as the template's image. @throws VeldError `template.cold` when this does not work with it */
export async function makeWarmImage(context: VeContext, template: TemplateRecord, task: Task): Promise<WarmImage> {
  const { store, states, volumes } = context;
  const name = `warm-${template.fingerprint.slice(0, 12)}-${randomBytes(2).toString('hex')}`;
  const model = reserveVe(context, { name, template: template.fingerprint, properties: {} }); // never ready: the next daemon would remove it
  try {
    task.phase('boot');
    task.progress(5, 'making a model');
    await makeVolume(context, model);
    const init = await bootVe(context, model, task);
    if (!init || initKind(init) !== 'systemd') throw cold(template, 'its init is not systemd');
    task.progress(50, 'waiting until all of it is up');
    const { code, said } = await runInVe(context, model, ['sh', '-c', PREPARE]);
    if (code !== 0) throw cold(template, said || `it could not be prepared: status ${code}`);
    await suspendNow(context, model, task, 'A warm image is being made.');
    task.progress(90, 'keeping it');
    const [id, layer] = [randomBytes(16).toString('hex'), randomBytes(16).toString('hex')];
    const kept = states.snapshot(id);
    states.copy(states.folder(model.uuid), kept);
    const frozen = await volumes.freezeUpper(model.uuid, model.uidBase, layer);
    const { engine, createdAt } = states.read(kept);
    const image: WarmImage = { template: template.fingerprint, id, layer: { id: layer, uidBase: frozen.uidBase }, host: hostMark(engine), engine, createdAt };
    const older = store.transaction(() => {
      const before = store.listWarmImages().find((one) => one.template === template.fingerprint);
      store.insertLayer(frozen);
      store.setWarmImage(image);
      return before;
    });
    if (older) {
      await states.removeSnapshot(older.id);
      await dropUnusedLayers(context, [older.layer]);
    }
    context.events.emit('template.warmed', { data: { name: template.name, fingerprint: template.fingerprint } });
    return image;
  } finally {
    await removeVe(context, reload(store, model.uuid));
  }
}

function cold(template: TemplateRecord, why: string): VeldError {
  return new VeldError('template.cold', `VEs of ${template.name} must boot: ${why}.`);
}
