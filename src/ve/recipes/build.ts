/**
 * Builds a template from a recipe: a base (packages of a suite, or a template), a VE on it in which the rest is done, its tree as a layer, and a VE on that layer in which the tests run.
 *
 * Nothing of a recipe runs on the host. Until the template's record is written each thing here belongs to something that goes by itself: staged trees and layers without a record, and VEs
 * that are never ready, which a new daemon removes (recovery.ts); layers go with the last VE on them.
 */
import { basename } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import { faultPoint } from '../../lib/faults.ts';
import type { Task } from '../../ops/types.ts';
import type { LayerRecord, LayerRef, TemplateRecord } from '../../store/types.ts';
import type { LoadedRecipe } from '../../templates/recipes/catalogue.ts';
import { fingerprintOf, inspectTree } from '../../templates/tree.ts';
import type { VeContext } from '../context.ts';
import { dropUnusedLayers } from '../layers.ts';
import { findTemplate } from '../template-verbs.ts';
import type { BuildLog } from './log.ts';
import { benchFor, makeTree, takeTree, testTree } from './make.ts';
import { KEEPER } from './scripts.ts';
import { bootThrowAway, removeThrowAway } from './throw-away.ts';

/** Owners in a template are written as the VE sees them: from uid 0. */
const TEMPLATE_UID_BASE = 0;
/** Where the base is there, in percent of the whole build. */
const BASE = 60;

/** What the finished template stands on, and what is told of it. */
interface Base {
  fingerprint: string;
  layers: readonly LayerRef[];
  os: string;
  release: string;
  source: Record<string, unknown>;
}

export interface RecipeBuild {
  loaded: LoadedRecipe;
  /** Of the template. */
  name: string;
  mirror?: string;
  /** A template that has the name gives it up. */
  replace: boolean;
}

/**
 * Build it. The caller has the log, and closes it.
 * @returns the record, and the template whose place it takes, as that is called now
 * @throws VeldError `template.build_failed`, `template.name_taken`, ...
 */
export async function buildFromRecipe(context: VeContext, { loaded, name, mirror, replace }: RecipeBuild, log: BuildLog, task: Task): Promise<{ template: TemplateRecord; older?: TemplateRecord }> {
  const { store, volumes } = context;
  const { recipe } = loaded;
  const file = basename(loaded.file);
  const { size, memory } = recipe.limits;
  log.say(`${name}, of ${loaded.file}`);

  const base = await baseOf(context, loaded, mirror, log, task);
  task.phase('make');
  task.progress(BASE, 'making a VE to build in');
  const shop = await bootThrowAway(context, { template: base.fingerprint, layers: base.layers, space: size, memory, command: KEEPER }, task);
  const bench = benchFor(context, shop, log, task);
  await makeTree(bench, loaded, file, 'template' in recipe.from ? recipe.packages : [], task);
  task.phase('keep');
  const staged = await volumes.stageLayer();
  task.undo('staged', () => volumes.dropStaged(staged.id));
  await takeTree(bench, staged.path, size, task);
  faultPoint('recipe.taken');
  await removeThrowAway(context, shop.uuid);

  task.progress(89, 'taking the fingerprint');
  const hasInit = isBootable(staged.path);
  if (!hasInit && recipe.init !== 'none' && 'suite' in recipe.from) inspectTree(staged.path); // says what is missing
  const facts = inspectTree(staged.path, { init: hasInit });
  const fingerprint = await fingerprintOf(staged.path, task.signal);
  log.say(`its fingerprint is ${fingerprint}`);
  const same = store.findTemplate(fingerprint);
  if (same) {
    await volumes.dropStaged(staged.id);
    if (same.name !== name) throw new VeldError('template.name_taken', `The same content is already there as ${same.name}.`, { hint: `Use ${same.name}.` });
    log.say('the very same is there already; nothing was tried again');
    return { template: same };
  }

  task.phase('test');
  const layer = await keepLayer(context, staged.id, task);
  const template: TemplateRecord = {
    fingerprint, name, os: base.os, release: base.release, architecture: facts.architecture, createdAt: new Date().toISOString(), layers: [{ id: layer.id, uidBase: layer.uidBase }], size: layer.size,
    source: { ...base.source, kind: 'recipe', recipe: recipe.name, ...recipe.description !== '' && { description: recipe.description }, hash: loaded.hash, ...recipe.packages.length > 0 && { include: recipe.packages }, tests: recipe.tests.length },
  };
  task.progress(91, 'booting a VE of it');
  const trial = await bootThrowAway(context, { template: fingerprint, layers: template.layers, space: size, memory, command: hasInit ? null : KEEPER }, task);
  await testTree(benchFor(context, trial, log, task), loaded, file, hasInit, task);

  task.progress(97, 'keeping it');
  task.phase('commit');
  const has = replace ? store.listTemplates().find((one) => one.name === name) : undefined;
  const older = has && { ...has, name: freeName(context, has) };
  store.transaction(() => {
    if (older) store.updateTemplate(older.fingerprint, { name: older.name });
    store.insertTemplate(template);
  });
  task.commit();
  context.events.emit('template.created', { data: { name, fingerprint } });
  log.say('done');
  // Its layer is the template's by now.
  await removeThrowAway(context, trial.uuid).catch((error: unknown) => context.log.error({ ve: trial.uuid, err: error }, 'a VE in which a template was tried could not be removed; the next daemon tries again'));
  return { template, ...older && { older } };
}

/** The base: a layer with the packages of a suite, which goes with the VE that is made on it, or a template's layers. */
async function baseOf(context: VeContext, { recipe }: LoadedRecipe, mirror: string | undefined, log: BuildLog, task: Task): Promise<Base> {
  if ('template' in recipe.from) {
    const { fingerprint, name, layers, os, release } = findTemplate(context, recipe.from.template);
    return { fingerprint, layers, os, release, source: { base: name, baseFingerprint: fingerprint } };
  }
  task.phase('base');
  const staged = await context.volumes.stageLayer();
  task.undo('base', () => context.volumes.dropStaged(staged.id));
  log.say(`install ${recipe.from.suite}${recipe.packages.length > 0 ? ` with ${recipe.packages.join(' ')}` : ''}`);
  const used = mirror ?? recipe.mirror;
  let told = '';
  const made = await context.templates.build({ suite: recipe.from.suite, init: recipe.init, include: recipe.packages, ...used !== null && { mirror: used } }, { path: staged.path }, {
    ...task,
    progress(percent, message) {
      if (message !== told) log.write(Buffer.from(`${told = message}\n`));
      task.progress(percent * BASE / 100, message);
    },
  }).catch((error: unknown) => {
    const lines = error instanceof VeldError ? error.details?.lines : undefined;
    if (Array.isArray(lines)) log.write(Buffer.from(`${lines.join('\n')}\n`));
    throw error;
  });
  const layer = await keepLayer(context, staged.id, task);
  if (layer.size > recipe.limits.size) throw new VeldError('template.build_failed', `The packages alone take more than the ${Math.round(recipe.limits.size / 2 ** 20)} MiB that the recipe allows (limits.size).`, { hint: 'Let it have more, or less in it.' });
  return { fingerprint: made.fingerprint, layers: [{ id: layer.id, uidBase: layer.uidBase }], os: made.os, release: made.release, source: { ...made.source } };
}

/** A staged tree becomes a layer that VEs can stand on. Until something does, and when the operation fails, it goes. */
async function keepLayer(context: VeContext, staged: string, task: Task): Promise<LayerRecord> {
  const { store, volumes } = context;
  task.undo('layer', async () => {
    await dropUnusedLayers(context, [{ id: staged, uidBase: TEMPLATE_UID_BASE }]);
    if (!store.layer(staged)) await volumes.dropLayer(staged);
  });
  const layer = await volumes.commitLayer(staged, TEMPLATE_UID_BASE);
  store.insertLayer(layer);
  faultPoint('recipe.layer');
  return layer;
}

function isBootable(tree: string): boolean {
  try {
    inspectTree(tree);
    return true;
  } catch (error) {
    if (error instanceof VeldError && error.code === 'template.invalid') return false;
    throw error;
  }
}

/** What a template is called whose name another one takes: by the day on which it was made. */
function freeName({ store }: VeContext, { name, createdAt }: TemplateRecord): string {
  const wanted = `${name.slice(0, 48).replace(/[^a-z0-9]+$/, '')}-${createdAt.slice(0, 10).replaceAll('-', '')}`;
  for (let n = 1; ; n += 1) {
    const free = n === 1 ? wanted : `${wanted}-${n}`;
    if (!store.findTemplate(free)) return free;
  }
}
