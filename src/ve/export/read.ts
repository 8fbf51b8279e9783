/**
 * A VE out of the stream of an export, which anybody may have made: each header of its trees is checked before anything is written (storage/tree-unpack.ts), its properties are
 * looked at as if they were set here, and nobody sees the VE before all of it has come. Its owners get their place in the range that the VE has here while they are written.
 */
import { closeSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { VeldError } from '../../lib/errors.ts';
import { faultPoint } from '../../lib/faults.ts';
import { writeTo } from '../../lib/streams.ts';
import { openIdmapped, parseIdmaps } from '../../kernel/mounts.ts';
import { openGuestRoot } from '../../kernel/guest-tree.ts';
import type { Task } from '../../ops/types.ts';
import { checkName, checkTemplateName } from '../../spec/names.ts';
import { DEFAULT_POOL } from '../../spec/disk-properties.ts';
import { resolveProperties } from '../../spec/properties.ts';
import { mapInto } from '../../storage/folders.ts';
import { NameRemover, syncTree, unpackTree } from '../../storage/transfer.ts';
import type { TemplateRecord, VeRecord } from '../../store/types.ts';
import { fingerprintOf } from '../../templates/tree.ts';
import { reload, updateVe, type VeContext } from '../context.ts';
import { reserveAgain } from '../create.ts';
import { removeVe } from '../destroy.ts';
import { bringUserQuotas, isUserQuotas, spaceOf, upperOf } from '../disk.ts';
import { HOST_KEY, newHostKeys, sshHostKeys } from '../host-keys.ts';
import { askRoom } from '../room.ts';
import { isTemplateRecord, makeTemplate } from '../template-verbs.ts';
import { broken, PartReader } from './parts.ts';
import type { Contents, ImportChoices } from './types.ts';

/** Bounds of a stream: names, and bytes that stay free. */
const ENTRIES = 5_000_000;
const LEAVE = 256 << 20;
/** Bytes of a template with its holes: somebody will read them all. */
const TEMPLATE = 2 ** 38;

/**
 * Make a VE of an export. Nobody sees it before {@link finishImport}.
 * @throws VeldError `export.unusable`, `template.not_found`, `migration.stream`, `disk.full`, and those of a `create`
 */
export async function importVe(context: VeContext, stream: Readable, choices: ImportChoices, task: Task): Promise<VeRecord> {
  const { store, volumes } = context;
  const parts = new PartReader(stream);
  task.progress(2, 'looking what it is');
  const contents = checkContents(await parts.message());
  const template = await templateOf(context, contents, parts, task);
  const ve = reserveAgain(context, { template: contents.template, ...wanted(context, contents, choices, task) }, contents.mac);
  task.undo('ve', () => (store.veByUuid(ve.uuid) ? removeVe(context, ve) : undefined));
  askRoom(context, ve, task);
  await volumes.createVolume(ve.uuid, ve.uidBase, ve.number, ve.layers, spaceOf(ve), contents.bytes);
  faultPoint('import.volume');
  await volumes.unheld(ve.uuid, () => readDisk({ ...upperOf(volumes, ve), shared: volumes.folderOf(ve.uuid) }, contents, parts, task));
  const another = choices.name !== undefined && choices.name !== contents.name;
  if (another) await giveIdentity(context, ve, template);
  bringUserQuotas(context, ve, contents.quotas);
  task.progress(96, 'bringing it to the disk');
  await syncTree(upperOf(volumes, ve).path, { signal: task.signal });
  faultPoint('import.whole');
  return reload(store, ve.uuid);
}

/** Whoever has given the stream says that it was whole: the VE is there, and stopped. */
export function finishImport({ store, events }: VeContext, ve: VeRecord, task: Task): VeRecord {
  const done = store.transaction(() => {
    task.phase('ready');
    return updateVe(store, ve.uuid, { guestDirty: true, ready: true });
  });
  task.commit();
  events.emit('ve.created', { ve: ve.uuid, data: { name: ve.name, number: ve.number } });
  return done;
}

/** The disk, until its end. */
async function readDisk({ path, base, shared }: { path: string; base: number; shared: string }, { bytes }: Contents, parts: PartReader, task: Task): Promise<void> {
  for (let [come, trees] = [0, 0]; ;) {
    const message = await parts.message();
    if (message.type === 'end') {
      if (trees === 0) throw broken('ends before its disk does');
      return parts.end();
    }
    if (message.type === 'remove') {
      const remover = new NameRemover(path, task.signal);
      for await (const block of parts.bulk()) await remover.take(block);
      remover.end();
      continue;
    }
    if (message.type !== 'tree' || !isBase(message.base) || typeof message.last !== 'boolean') throw broken(`holds a message of the kind ${JSON.stringify(message.type.slice(0, 40))}, which does not belong there`);
    trees += 1;
    const conflicts = await takeTree({ path, from: message.base, to: base, shared }, parts, task.signal, (length) => {
      come += length;
      task.progress(Math.min(95, 20 + 75 * come / Math.max(bytes, 1)), `${Math.round(come / (1 << 20))} MiB of its disk`);
    });
    if (message.last && conflicts > 0) throw broken(`has ${conflicts} names that do not fit to each other`);
    faultPoint('import.tree');
  }
}

/** @param from, to ids from which its owners are counted in the stream, and on the disk @param shared folder of the file system whose room others need, too @returns names that could not be put where they belong */
async function takeTree({ path, from, to, shared = path, whole }: { path: string; from: number; to: number; shared?: string; whole?: number }, parts: PartReader, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<number> {
  const map = mapInto(from, to);
  const mount = map === undefined ? undefined : await openIdmapped(path, parseIdmaps(map), { readOnly: false });
  const unpacker = unpackTree(path, { uidBase: from, ...mount !== undefined && { mapped: { mount, base: to } }, limits: { entries: ENTRIES, bytes: Number.MAX_SAFE_INTEGER, leave: { bytes: LEAVE, on: shared }, ...whole !== undefined && { whole } }, signal });
  unpacker.ended.catch(() => {}); // told below
  try {
    for await (const block of parts.bulk()) {
      if (unpacker.input.destroyed) break;
      onProgress(block.length);
      await writeTo(unpacker.input, block);
    }
    unpacker.input.end();
    return (await unpacker.ended).conflicts;
  } finally {
    unpacker.cancel();
    await unpacker.ended.catch(() => {}); // or it would write to what is removed
    if (mount !== undefined) closeSync(mount);
  }
}

const FINGERPRINT = /^[0-9a-f]{64}$/;

function checkContents(message: { type: string } & Record<string, unknown>): Contents {
  const { type, format, name, template, templateName, bytes, properties, addresses, mac, quotas, templateRecord, createdAt, ve } = message;
  if (type !== 'veld-export') throw broken('is none of a VE');
  if (format !== 1) throw new VeldError('export.unusable', 'The export was written by a version of Veld that this one cannot read.');
  const isText = (value: unknown): boolean => typeof value === 'string' && value.length <= 200;
  if (![name, templateName, mac, createdAt, ve].every(isText) || typeof template !== 'string' || !FINGERPRINT.test(template) || !Number.isSafeInteger(bytes)) throw broken('does not say what it is of');
  if (typeof properties !== 'object' || properties === null || Array.isArray(properties) || !Array.isArray(addresses) || addresses.length > 64 || !addresses.every(isText)) throw broken('does not say what its VE was');
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac as string)) throw broken('does not say what its VE was');
  if (quotas !== undefined && !isUserQuotas(quotas)) throw broken('holds limits of users that are none');
  if (templateRecord !== undefined) {
    if (!isTemplateRecord(templateRecord, template)) throw broken('holds a template that is none');
    checkTemplateName(templateRecord.name);
  }
  checkName(name);
  return message as unknown as Contents;
}

/** Its properties here, and its name. Addresses and ports that others have by now are left out, unless they were asked for. */
function wanted({ store, volumes }: VeContext, contents: Contents, { name, addresses, properties = {} }: ImportChoices, task: Task): { name: string; properties: Record<string, unknown> } {
  const before = { ...contents.properties, ...properties };
  for (const [key, value] of Object.entries(before)) if (value === null) delete before[key];
  const asked = addresses ?? (before['network.addresses'] as string[] | undefined) ?? contents.addresses;
  const taken = new Set(store.listVes().flatMap((ve) => ve.addresses));
  const own = addresses !== undefined || properties['network.addresses'] !== undefined || asked.every((address) => !taken.has(address));
  const { 'network.addresses': _, 'network.publish': ports, ...rest } = before;
  if (!own) task.warn(`Another VE has ${asked.find((address) => taken.has(address))} by now: it gets other addresses${ports === undefined ? '' : ', and publishes no ports'}.`);
  // Whether it may have folders of this host is for whoever asks for it here to say, never for the file.
  if (![undefined, '[]'].includes(JSON.stringify(rest['disk.mounts'])) && properties['disk.mounts'] === undefined) {
    delete rest['disk.mounts'];
    task.warn('Folders of the host that it had (disk.mounts) are left out: name them here, with --set, if it is to have them.');
  }
  const pool = rest['disk.pool'];
  if (pool !== undefined && properties['disk.pool'] === undefined && (typeof pool !== 'string' || !knows(volumes, pool))) {
    delete rest['disk.pool'];
    task.warn(`There is no pool ${JSON.stringify(typeof pool === 'string' ? pool.slice(0, 40) : pool)} here: its disk lies on the pool ${DEFAULT_POOL}.`);
  }
  return { name: checkName(name ?? contents.name), properties: { ...rest, ...own && { ...ports !== undefined && { 'network.publish': ports }, 'network.addresses': asked } } };
}

function knows(volumes: VeContext['volumes'], pool: string): boolean {
  try {
    volumes.of(pool);
    return true;
  } catch {
    return false;
  }
}

/** @throws VeldError `template.not_found` when it is neither here nor in the export */
async function templateOf(context: VeContext, contents: Contents, parts: PartReader, task: Task): Promise<TemplateRecord> {
  const { store } = context;
  const here = store.findTemplate(contents.template);
  const record = contents.templateRecord;
  if (record) {
    const message = await parts.message();
    if (message.type !== 'template') throw broken('lacks the template that it should have');
  }
  if (here) {
    if (record) for await (const _ of parts.bulk()); // it is here already
    return here;
  }
  if (!record) {
    throw new VeldError('template.not_found', `The export stands on a template that is not here: ${contents.template.slice(0, 12)} (${JSON.stringify(contents.templateName.slice(0, 60))}).`, { hint: 'Bring the template here first: its content must be the same. Or export the VE --with-template.' });
  }
  task.progress(5, 'its template');
  const name = `${record.name}-${contents.template.slice(0, 12)}`; // not the name alone: somebody may take it for another
  // It stays, also when the VE does not: its steps back are of this step alone.
  const back: (() => void | Promise<void>)[] = [];
  try {
    await makeTemplate(context, async (staged) => {
      await takeTree({ path: staged.path, from: 0, to: 0, whole: TEMPLATE }, parts, task.signal, () => {});
      if (await fingerprintOf(staged.path, task.signal) !== contents.template) throw broken('holds a template that is not what its fingerprint says');
      return { ...record, fingerprint: contents.template, name };
    }, { ...task, undo: (_name, step) => void back.push(step), phase() {}, commit() {} });
  } catch (error) {
    for (const step of back.toReversed()) await step();
    throw error;
  }
  return store.findTemplate(contents.template)!;
}

/** Another VE than it was: a machine-id and host keys of its own. */
async function giveIdentity(context: VeContext, ve: VeRecord, template: TemplateRecord): Promise<void> {
  const root = await openGuestRoot(upperOf(context.volumes, ve).path);
  let own: boolean;
  try {
    own = await root.exists(HOST_KEY) || await root.exists('/usr/sbin/sshd');
  } finally {
    root.close();
  }
  const keys = own ? sshHostKeys(`root@${resolveProperties(ve.properties).hostname ?? ve.name}`) : await newHostKeys(context, ve, template.layers);
  await context.volumes.seedVolume(ve.uuid, ve.uidBase, [{ path: '/etc/machine-id', content: `${ve.uuid.replaceAll('-', '')}\n`, mode: 0o444 }, ...keys]);
}

function isBase(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= 2 ** 32 - 2 * 65_536;
}
