/** `template build|import|delete`: a staged tree becomes a layer, and the layer a template. */
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import type { TemplateRecord, WarmImage } from '../store/types.ts';
import type { Staging } from '../templates/types.ts';
import type { VeContext } from './context.ts';
import type { TemplateView } from './types.ts';
import { dropWarmImage, warmImageOf } from './warm-image.ts';

/** Owners in a template are written as the VE sees them: from uid 0. */
const TEMPLATE_UID_BASE = 0;

/** @throws VeldError `template.not_found` */
export function findTemplate(context: VeContext, key: string): TemplateRecord {
  const template = context.store.findTemplate(key);
  if (!template) throw new VeldError('template.not_found', `There is no template ${JSON.stringify(key.slice(0, 80))}.`);
  return template;
}

/** @param spares how many VEs of it stand ready */
export function viewTemplate(context: VeContext, template: TemplateRecord, spares = 0): TemplateView {
  return { ...template, uses: context.store.listVes().filter((ve) => ve.ready && ve.template === template.fingerprint).length, spares, warm: usableImage(context, template.fingerprint)?.createdAt ?? null };
}

/** The template's warm image, if it can be used; without an engine none can. */
function usableImage(context: VeContext, template: string): WarmImage | undefined {
  try {
    return warmImageOf(context, template);
  } catch {
    return undefined;
  }
}

/**
 * Make a template from whatever `fill` puts into a staged layer.
 * @param how.replaced the one that has its name, what that is called from then on, and what is noted of it
 * @param how.below the template on whose layers the new one stands
 * @param how.kept called in the transaction that keeps it
 */
export async function makeTemplate(
  context: VeContext,
  fill: (staging: Staging) => Promise<Omit<TemplateRecord, 'layers' | 'size'>>,
  task: Task,
  how: { replaced?: Pick<TemplateRecord, 'fingerprint' | 'name' | 'source'>; below?: TemplateRecord; kept?: (template: TemplateRecord) => void } = {},
): Promise<TemplateView> {
  const { replaced, below } = how;
  const { volumes, store } = context;
  const staged = await volumes.stageLayer();
  task.undo('staged', () => volumes.dropStaged(staged.id));
  task.phase('fill');
  const made = await fill({ path: staged.path });
  const same = store.findTemplate(made.fingerprint);
  if (same) {
    await volumes.dropStaged(staged.id);
    // A newer version with the same content is a newer version.
    if (replaced !== undefined && same.fingerprint === replaced.fingerprint) store.updateTemplate(same.fingerprint, { source: made.source });
    if (same.name === made.name) return viewTemplate(context, findTemplate(context, same.fingerprint));
    throw new VeldError('template.name_taken', `The same content is already there as ${same.name}.`, { hint: `Use ${same.name}.` });
  }
  task.progress(97, 'keeping it');
  task.undo('layer', () => volumes.dropLayer(staged.id));
  task.phase('commit');
  const layer = await volumes.commitLayer(staged.id, TEMPLATE_UID_BASE);
  const template: TemplateRecord = { ...made, layers: [...below?.layers ?? [], { id: layer.id, uidBase: layer.uidBase }], size: (below?.size ?? 0) + layer.size };
  store.transaction(() => {
    store.insertLayer(layer);
    if (replaced !== undefined) store.updateTemplate(replaced.fingerprint, { name: replaced.name, source: replaced.source });
    store.insertTemplate(template);
    how.kept?.(template);
  });
  task.commit();
  context.events.emit('template.created', { data: { name: template.name, fingerprint: template.fingerprint } });
  return viewTemplate(context, template);
}

/** Longest description of how a template was made, in characters. */
const SOURCE = 256 << 10;

/** Whether what came from elsewhere has the form of a template's record. Its name is not looked at. @param fingerprint that it must have */
export function isTemplateRecord(value: unknown, fingerprint: string): value is Omit<TemplateRecord, 'layers' | 'size'> {
  const isObject = (one: unknown): one is Record<string, unknown> => typeof one === 'object' && one !== null && !Array.isArray(one);
  if (!isObject(value) || value.fingerprint !== fingerprint || typeof value.name !== 'string' || !isObject(value.source)) return false;
  const { createdAt, os, release, architecture } = value;
  if (typeof createdAt !== 'string' || Number.isNaN(Date.parse(createdAt)) || new Date(createdAt).toISOString() !== createdAt) return false;
  if (![os, release, architecture].every((text) => typeof text === 'string' && /^[\w.-]{1,64}$/.test(text))) return false;
  const source = JSON.stringify(value.source);
  // eslint-disable-next-line no-control-regex
  return source.length <= SOURCE && !/\\u00(?!0a|09)[01]|\\[bfr]|[\x7f-\x9f]/.test(source);
}

/** Delete a template and the layers that nothing else needs: those on which other templates stand, stay. @throws VeldError `template.in_use` */
export async function deleteTemplate(context: VeContext, fingerprint: string, task: Task): Promise<void> {
  const { store, volumes } = context;
  const template = findTemplate(context, fingerprint);
  const checkUnused = (): void => {
    const others = new Set(store.listTemplates().flatMap((other) => (other.fingerprint === fingerprint ? [] : other.layers.map(({ id }) => id))));
    const own = new Set(template.layers.map(({ id }) => id).filter((id) => !others.has(id)));
    const users = store.listVes().filter((ve) => ve.template === fingerprint || ve.layers.some(({ id }) => own.has(id)));
    if (users.length === 0) return;
    throw new VeldError('template.in_use', `The template ${template.name} is used by ${users.slice(0, 5).map((ve) => ve.name).join(', ')}${users.length > 5 ? ` and ${users.length - 5} more` : ''}.`);
  };
  checkUnused();
  task.phase('delete');
  task.commit();
  await dropWarmImage(context, fingerprint);
  const unused = store.transaction(() => {
    checkUnused(); // somebody may have begun one meanwhile
    store.deleteTemplate(fingerprint);
    const layers = template.layers.filter((layer) => store.layerUses(layer.id) === 0);
    for (const layer of layers) store.deleteLayer(layer.id);
    return layers;
  });
  for (const layer of unused) await volumes.dropLayer(layer.id);
  context.events.emit('template.deleted', { data: { name: template.name, fingerprint } });
}
