/** `checkpoint --file` and `restore --file`: a VE with its processes in one file, and out of it. */
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { archiveKey, readArchive, writeArchive } from '../checkpoint/archive.ts';
import { VeldError } from '../lib/errors.ts';
import { recipient } from '../lib/sealed-file.ts';
import { engineByFingerprint } from '../kernel/engine.ts';
import { MAX_STACK } from '../kernel/mounts.ts';
import type { Task } from '../ops/types.ts';
import { checkName } from '../spec/names.ts';
import { copyTree } from '../storage/tree-copy.ts';
import type { LayerRef, TemplateRecord, VeRecord } from '../store/types.ts';
import { fingerprintOf } from '../templates/tree.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { reserveAgain, reserveVe } from './create.ts';
import { dropUnusedLayers } from './layers.ts';
import { personalise } from './personalise.ts';
import { bringBack } from './resume.ts';
import { askRoom } from './room.ts';
import { removeVe } from './destroy.ts';
import { bringUserQuotas, spaceOf, userQuotas, type UserQuotas } from './disk.ts';
import { createSnapshot, deleteSnapshot } from './snapshot.ts';
import { checkSuspendable, suspendNow } from './suspend.ts';
import { makeTemplate } from './template-verbs.ts';
import type { CheckpointRequest, RestoreRequest } from './types.ts';

/** What stands in an archive beside the state and the disk: `archive.json`. */
interface Contents {
  format: 1;
  name: string;
  /** Fingerprint of the template. */
  template: string;
  /** The template's record, when its layers are in the archive. */
  templateRecord?: Omit<TemplateRecord, 'layers' | 'size'>;
  /** How many layers the template has; the archive's own stand on these. */
  templateLayers: number;
  layers: LayerRef[];
  properties: Record<string, unknown>;
  addresses: string[];
  mac: string;
  /** Of its users and groups; absent where these have none. */
  quotas?: UserQuotas;
  /** Absent: `established`. */
  tcp?: 'established' | 'close';
}

const ENTRY = 'archive.json';

/** @throws VeldError `checkpoint.file` for a path that is not absolute */
export function checkArchiveFile(file: string): void {
  if (!isAbsolute(file)) throw new VeldError('checkpoint.file', `${JSON.stringify(file)} is not an absolute path.`);
}

const keyFile = ({ settings }: VeContext): string => join(settings.stateDir, 'checkpoint.key');

/** Write a VE into a file. */
export async function checkpointVe(context: VeContext, uuid: string, { file, keepRunning, tcp, compress = 'zstd', encrypt, withTemplate = false }: CheckpointRequest, task: Task): Promise<{ file: string; bytes: number }> {
  const { settings, states, store } = context;
  const ve = reload(store, uuid);
  if (existsSync(file)) throw new VeldError('checkpoint.file', `${file} is there already.`, { hint: 'Choose another name, or remove it first.' });
  const template = store.findTemplate(ve.template);
  if (!template) throw new VeldError('template.not_found', `The template of ${ve.name} is gone: there is nothing that it could be restored on.`);
  if (!keepRunning && !ve.suspended) {
    checkSuspendable(context, ve);
    await suspendNow(context, ve, task, `${ve.name} is being suspended.`);
  }
  const snapshot = await createSnapshot(context, uuid, `archive-${task.id}`, true, task);
  try {
    const contents: Contents = {
      format: 1, name: ve.name, template: ve.template, templateLayers: template.layers.length, layers: snapshot.layers, properties: ve.properties, addresses: ve.addresses, mac: ve.mac, ...tcp && { tcp },
      quotas: userQuotas(context, ve), ...withTemplate && { templateRecord: withoutLayers(template) },
    };
    const state = states.snapshot(snapshot.id);
    writeFileSync(join(state.dir, ENTRY), JSON.stringify(contents), { mode: 0o600 });
    // Each from the pool on which it lies.
    const layers = snapshot.layers.slice(withTemplate ? 0 : template.layers.length).map(({ id }) => {
      const path = `layers/${id}/fs`;
      return { folder: context.volumes.layerPath(id).slice(0, -path.length), path };
    });
    const files = [`snapshots/${snapshot.id}/${ENTRY}`, `snapshots/${snapshot.id}`].map((path) => ({ folder: settings.stateDir, path }));
    const bytes = await writeArchive({
      file, parts: [...files, ...layers], key: archiveKey(keyFile(context)), tar: context.engine().tar, packing: { compress, ...encrypt !== undefined && { encrypt: recipient(encrypt) } },
      signal: task.signal, onProgress: (size) => task.progress(95, `${Math.round(size / (1 << 20))} MiB written`),
    });
    return { file, bytes };
  } finally {
    await deleteSnapshot(context, snapshot);
  }
}

/**
 * Make a VE from a file. Its connections go on when it gets the addresses that it had.
 * @returns its record, running
 */
export async function restoreVe(context: VeContext, request: RestoreRequest, task: Task): Promise<VeRecord> {
  const { settings, states, store, volumes } = context;
  const incoming = join(settings.stateDir, 'incoming', task.id);
  task.undo('incoming', () => rm(incoming, { recursive: true, force: true }));
  task.progress(5, 'verifying');
  await readArchive(request.file, incoming, [archiveKey(keyFile(context))], context.engine().tar, task.signal, request.identity);
  const { contents, state } = readContents(incoming);
  const template = store.findTemplate(contents.template) ?? await bringTemplate(context, contents, incoming, task);
  if (!template) {
    throw new VeldError('template.not_found', `The checkpoint stands on a template that is not here: ${contents.template.slice(0, 12)}.`, { hint: 'Bring the template here first: its content must be the same. Or write the checkpoint --with-template.' });
  }
  const { engine } = states.read(state);
  engineByFingerprint(settings.stateDir, engine);
  task.progress(40, 'making the disk');
  const layers: LayerRef[] = [...template.layers];
  const made: LayerRef[] = [];
  task.undo('layers', () => dropUnusedLayers(context, made));
  for (const { id, uidBase } of contents.layers.slice(contents.templateLayers)) {
    const staged = await volumes.stageLayer();
    rmdirSync(staged.path);
    renameSync(join(incoming, 'layers', id, 'fs'), staged.path);
    const layer = await volumes.commitLayer(staged.id, uidBase);
    store.insertLayer(layer);
    made.push({ id: layer.id, uidBase: layer.uidBase });
  }
  layers.push(...made);
  const ve = reserve(context, request, contents, layers);
  task.undo('ve', () => (store.veByUuid(ve.uuid) ? removeVe(context, ve) : undefined));
  askRoom(context, ve, task);
  await volumes.createVolume(ve.uuid, ve.uidBase, ve.number, ve.layers, spaceOf(ve));
  const moved = request.name !== undefined && request.name !== contents.name;
  if (moved) await volumes.seedVolume(ve.uuid, ve.uidBase, [{ path: '/etc/machine-id', content: `${ve.uuid.replaceAll('-', '')}\n`, mode: 0o444 }]);
  bringUserQuotas(context, ve, contents.quotas);
  const sameAddresses = JSON.stringify(ve.addresses) === JSON.stringify(contents.addresses);
  states.derive(state, ve, { closeTcp: !sameAddresses || contents.tcp === 'close' || request.tcp === 'close' });
  updateVe(store, ve.uuid, { guestDirty: moved || !sameAddresses, ready: true, suspended: { at: new Date().toISOString(), engine } });
  await bringBack(context, ve.uuid, task, { part: true });
  if (moved) await personalise(context, reload(store, ve.uuid));
  await rm(incoming, { recursive: true, force: true });
  context.events.emit('ve.created', { ve: ve.uuid, data: { name: ve.name, number: ve.number } });
  return reload(store, ve.uuid);
}

function withoutLayers({ layers: _layers, size: _size, ...record }: TemplateRecord): Omit<TemplateRecord, 'layers' | 'size'> {
  return record;
}

/**
 * Keep the template that came along, once its content is what its fingerprint says. It stays, also when the VE cannot be restored.
 * @returns undefined when none came along
 */
async function bringTemplate(context: VeContext, { template, templateRecord, templateLayers, layers }: Contents, incoming: string, task: Task): Promise<TemplateRecord | undefined> {
  const below = layers.slice(0, templateLayers);
  if (!templateRecord || below.length === 0 || below.length > MAX_STACK) return undefined;
  const { store } = context;
  task.progress(20, 'checking its template');
  const from = below.map(({ id }) => join(incoming, 'layers', id, 'fs'));
  if (await fingerprintOf(from, task.signal) !== template) throw new VeldError('checkpoint.unusable', 'The template in the checkpoint is not what its fingerprint says.');
  const name = store.findTemplate(templateRecord.name) ? `${templateRecord.name}-${template.slice(0, 12)}` : templateRecord.name;
  // Its steps back are of this step alone: others may use the template from then on.
  const back: (() => void | Promise<void>)[] = [];
  try {
    await makeTemplate(context, async (staged) => {
      if (from.length > 1) await copyTree(from, staged.path, { signal: task.signal });
      else {
        rmdirSync(staged.path);
        renameSync(from[0]!, staged.path);
      }
      return { ...templateRecord, fingerprint: template, name };
    }, { ...task, undo: (_name, step) => void back.push(step), phase() {}, commit() {} });
  } catch (error) {
    for (const step of back.toReversed()) await step();
    throw error;
  }
  return store.findTemplate(template);
}

function readContents(incoming: string): { contents: Contents; state: ReturnType<VeContext['states']['snapshot']> } {
  const [id] = existsSync(join(incoming, 'snapshots')) ? readdirSync(join(incoming, 'snapshots')) : [];
  const dir = join(incoming, 'snapshots', id ?? 'none');
  const contents = existsSync(join(dir, ENTRY)) ? JSON.parse(readFileSync(join(dir, ENTRY), 'utf8')) as Contents : undefined;
  if (contents?.format !== 1) throw new VeldError('checkpoint.unusable', 'The checkpoint was written by a version of Veld that this one cannot read.');
  return { contents, state: { dir, images: join(dir, 'images'), runtime: join(dir, 'runtime'), config: join(dir, 'config.json') } };
}

/** With its own addresses and link-layer address where nobody else has them. */
function reserve(context: VeContext, request: RestoreRequest, contents: Contents, layers: LayerRef[]): VeRecord {
  const name = checkName(request.name ?? contents.name);
  const asked = request.addresses ?? (contents.properties['network.addresses'] as string[] | undefined) ?? contents.addresses;
  const taken = new Set(context.store.listVes().flatMap(({ addresses }) => addresses));
  const own = request.addresses !== undefined || asked.every((address) => !taken.has(address));
  const { 'network.addresses': _, 'network.publish': ports, ...rest } = contents.properties;
  const properties = { ...rest, ...(own && { ...(ports !== undefined && { 'network.publish': ports }), 'network.addresses': asked }) };
  const asIs = { name, template: contents.template, properties };
  return own ? reserveAgain(context, asIs, contents.mac, layers) : reserveVe(context, asIs, layers);
}

/** What an interrupted restore, or a migration, has left. */
export function removeTransfers({ settings }: VeContext): void {
  for (const folder of [join(settings.stateDir, 'incoming'), join(settings.stateDir, 'outgoing')]) rmSync(folder, { recursive: true, force: true });
}
