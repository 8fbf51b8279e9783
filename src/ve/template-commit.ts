/**
 * `template commit`: a template of a VE that is at rest. What is the VE's own on its disk becomes one layer above those of its template, of which nothing is copied; without what belongs to that VE alone,
 * and with owners counted from 0. The VE itself is only read.
 *
 * The fingerprint is that of the whole tree, as for any template: one that was made in layers here is the same as one that comes in one piece to another node.
 */
import { MAX_STACK } from '../kernel/mounts.ts';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { mib } from '../lib/mib.ts';
import type { Task } from '../ops/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import { copyMerged, type Place } from '../storage/tree-copy.ts';
import { mergeTrees, stacked, type StackedTree } from '../storage/tree-stack.ts';
import { scanTree, treeChanges } from '../storage/transfer.ts';
import type { TemplateRecord, VeRecord } from '../store/types.ts';
import { planCleaning, type Cleaned } from '../templates/cleaning.ts';
import { findSecrets, type Secret, type SecretReport } from '../templates/secrets.ts';
import { fingerprintOf, inspectTree } from '../templates/tree.ts';
import { settled } from './clean-up.ts';
import { reload, type VeContext } from './context.ts';
import { upperOf } from './disk.ts';
import { filesOf } from './identity-files.ts';
import { treeOf } from './layers.ts';
import { readRunState } from './run-folder.ts';
import { findTemplate, makeTemplate } from './template-verbs.ts';
import { succession } from './template-versions.ts';
import type { TemplateView } from './types.ts';

export interface CommitRequest {
  /** Of the template to be. */
  name: string;
  /** The name is that of a template, whose next version it is. */
  replace?: boolean;
  /** What it is for, one line. */
  description?: string;
  /** What looks like a secret may be in it. */
  allowSecrets?: boolean;
  /** Patterns of paths that are not cleaned away; see cleaning.ts. */
  keep?: string[];
}

export interface Committed extends TemplateView {
  /** Bytes of the new layer. */
  layerSize: number;
  /** What was left out, the first {@link TOLD} of it, and how much there was. */
  cleaned: Cleaned[];
  cleanedCount: number;
  /** What looks like a secret, and was allowed. */
  secrets: Secret[];
}

/** How many names an answer holds. */
const TOLD = 200;
/** Most names of a disk: more do not fit into the memory of the daemon. */
const NAMES = 2_000_000;
/** Largest file of accounts that is read, in bytes. */
const ACCOUNTS = 4 << 20;

/** Refuse what cannot be committed. @throws VeldError `ve.running`, `ve.suspended`, `template.not_found`, `template.name_taken`, `template.invalid` */
export function checkCommit(context: VeContext, ve: VeRecord, { name, replace = false }: CommitRequest): { base: TemplateRecord; old: TemplateRecord | undefined } {
  const { init, between } = readRunState(context.settings, ve.number);
  if (init || between) throw new VeldError('ve.running', `${ve.name} is running: its files are being written.`, { hint: `Stop it first: \`veld stop ${ve.name}\`.` });
  if (ve.suspended) throw new VeldError('ve.suspended', `${ve.name} is suspended: its processes have not written all of their files.`, { hint: `\`veld resume ${ve.name}\`, then \`veld stop ${ve.name}\`.` });
  const base = findTemplate(context, ve.template);
  if (base.layers.length >= MAX_STACK) {
    throw new VeldError('template.invalid', `The template ${base.name} stands on ${base.layers.length} layers, and more are not taken.`, { hint: `Make one of them: \`veld template export ${base.name} --file FILE\`, \`veld template import FILE NAME\`; and VEs of that.` });
  }
  const named = context.store.findTemplate(name);
  const old = named?.name === name ? named : undefined;
  if (old && !replace) throw new VeldError('template.name_taken', `There is a template named ${name} already.`, { hint: 'Choose another name; or, to make its next version, use --replace.' });
  if (!old && replace) throw new VeldError('template.not_found', `There is no template named ${name} that could be replaced.`, { hint: 'Leave --replace out.' });
  return { base, old };
}

/** Make the template. */
export async function commitVe(context: VeContext, uuid: string, request: CommitRequest, task: Task): Promise<Committed> {
  const { store, volumes } = context;
  await settled(context, reload(store, uuid).number);
  const ve = reload(store, uuid);
  const { base, old } = checkCommit(context, ve, request);
  const { signal } = task;
  const below = treeOf(context, base);

  let told: { cleaned: Cleaned[]; report: SecretReport } | undefined;
  const template = await makeTemplate(context, async ({ path }) => {
    task.progress(1, 'looking at its disk');
    const places: Place[] = [...ve.layers.slice(base.layers.length).map(({ id, uidBase }) => ({ path: volumes.layerPath(id), base: uidBase })), upperOf(volumes, ve)];
    const trees: StackedTree[] = [];
    for (const place of places) trees.push(await stacked(place.path, await scanTree(place.path, { signal, most: NAMES })));
    const merged = mergeTrees(trees);
    const { keep } = request;
    const plan = planCleaning(merged.tree, { own: filesOf(context, ve, resolveProperties(ve.properties)).map((file) => file.path), ...keep !== undefined && { keep } });
    const names = treeChanges(new Map(), merged.tree).send.filter((name) => !plan.out.has(name.path));
    const total = names.reduce((sum, name) => sum + (name.type === 'file' ? merged.tree.get(name.path)!.size : 0), 0);
    let bytes = 0;
    await copyMerged(places, merged, names, { path, base: 0 }, {
      signal, onProgress(length) {
        bytes += length;
        task.progress(5 + 45 * Math.min(1, bytes / Math.max(total, 1)), `${mib(bytes)} of ${mib(Math.max(total, bytes))}`);
      },
    });
    await writeEmpty(path, plan.empty, below);
    faultPoint('commit.copied');

    task.progress(50, 'looking for secrets');
    const report = await findSecrets(path, await scanTree(path, { signal }), (file) => readBelow(below, file), signal);
    if (report.skipped > 0) task.warn(`${report.skipped} large ${report.skipped === 1 ? 'file was' : 'files were'} not looked into for secrets.`);
    if (report.secrets.length > 0 && request.allowSecrets !== true) throw refusal(ve, report.secrets);
    faultPoint('commit.scanned');

    task.progress(60, 'its fingerprint');
    const whole = [...below, path];
    const facts = inspectTree(whole, { init: false });
    const fingerprint = await fingerprintOf(whole, signal);
    if (fingerprint === base.fingerprint) throw new VeldError('template.unchanged', `${ve.name} has nothing that its template ${base.name} has not: there is nothing to commit.`);
    told = { cleaned: plan.cleaned, report };
    const { description } = request;
    return {
      ...facts, fingerprint, name: request.name, createdAt: new Date().toISOString(),
      source: { kind: 'commit', ve: ve.name, base: base.fingerprint, baseName: base.name, ...description !== undefined && { description }, ...report.secrets.length > 0 && { secrets: report.secrets.length } },
    };
  }, task, { below: base, ...old && succession(store, old) });
  const { cleaned, report } = told!;
  return { ...template, layerSize: store.layer(template.layers.at(-1)!.id)?.size ?? 0, cleaned: cleaned.slice(0, TOLD), cleanedCount: cleaned.length, secrets: report.secrets.slice(0, TOLD) };
}

/** Empty files, where what is below has not the same. @param path of the new layer, which nobody has seen yet */
async function writeEmpty(path: string, names: readonly string[], below: readonly string[]): Promise<void> {
  const [layer, base] = [await openGuestRoot(path), await openGuestRoot(below)];
  try {
    for (const name of names) {
      const file = `/${name}`;
      if (await base.exists(file) && (await base.readFile(file, ACCOUNTS).catch(() => undefined))?.length === 0) continue;
      await layer.writeFile(file, '', { mode: 0o444, uid: 0, gid: 0 });
    }
  } finally {
    layer.close();
    base.close();
  }
}

async function readBelow(below: readonly string[], file: string): Promise<string> {
  const root = await openGuestRoot(below);
  try {
    return (await root.readFile(file, ACCOUNTS)).toString('latin1');
  } catch {
    return ''; // it has none
  } finally {
    root.close();
  }
}

function refusal(ve: VeRecord, secrets: readonly Secret[]): VeldError {
  const shown = secrets.slice(0, 5).map(({ path, what }) => `${JSON.stringify(path.slice(0, 120)).slice(1, -1)} (${what})`).join(', ');
  return new VeldError('template.secrets', `${ve.name} holds ${secrets.length === 1 ? 'what looks like a secret' : `${secrets.length} things that look like secrets`}: ${shown}${secrets.length > 5 ? ` and ${secrets.length - 5} more` : ''}.`,
    { details: { secrets: secrets.slice(0, TOLD), count: secrets.length } });
}
