/** The trees of a VE at the side to which it comes: its template, its layers, and the rounds of its disk, each unpacked while it comes. */
import { closeSync } from 'node:fs';
import { openIdmapped, parseIdmaps } from '../kernel/mounts.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import { mapInto } from '../storage/folders.ts';
import { syncTree, unpackTree, type TreeUnpack } from '../storage/transfer.ts';
import type { LayerRef, TemplateRecord, VeRecord } from '../store/types.ts';
import { fingerprintOf } from '../templates/tree.ts';
import { updateVe, type VeContext } from '../ve/context.ts';
import { makeTemplate } from '../ve/template-verbs.ts';
import { spaceOf, upperOf } from '../ve/disk.ts';
import type { FrameStream } from './frames.ts';
import type { MemoryReceived } from './memory-received.ts';
import { NAMES, removal } from './removal.ts';
import { LEFT, type BetweenMessage, type Offer, type TreeMessage } from './types.ts';

/** Rounds of a disk; ours has fewer. */
const ROUNDS = 32;

/** What is allowed beyond what was announced, in bytes: a VE writes on. */
export const MORE = 4 * 2 ** 30;
const ENTRIES = 5_000_000;

/** Where a tree goes. `base`: first of the ids of its owners as they come; `written`: on the disk, where they become others there; `shared`: a folder of the file system whose room others need, too, where that is another one. */
interface Place {
  path: string;
  base: number;
  written?: number;
  shared?: string;
}

/** A tree, or a round of one, into a folder. @returns the message that came before it */
async function receiveTree(link: FrameStream, type: TreeMessage['type'], { path, base, written = base, shared = path }: Place, bytes: number, task: Task, memory?: MemoryReceived): Promise<TreeMessage> {
  const most = 2 * bytes + MORE;
  const map = mapInto(base, written);
  const mount = map === undefined ? undefined : await openIdmapped(path, parseIdmaps(map), { readOnly: false });
  // Begun before there is anything to unpack: nobody waits for it then.
  const unpacker = unpackTree(path, {
    uidBase: base, ...mount !== undefined && { mapped: { mount, base: written } }, limits: { entries: ENTRIES, bytes: most, leave: { bytes: LEFT.disk, on: shared }, ...type === 'template' && { whole: most } }, signal: task.signal,
  });
  unpacker.ended.catch(() => {}); // whoever waits hears of it
  try {
    return await fill(link, type, path, unpacker, task.signal, memory);
  } finally {
    unpacker.cancel();
    await unpacker.ended.catch(() => {}); // or it would write to what is removed
    if (mount !== undefined) closeSync(mount);
  }
}

/** @param memory takes what comes of the memory before the tree */
async function fill(link: FrameStream, type: TreeMessage['type'], target: string, unpacker: TreeUnpack, signal: AbortSignal, memory: MemoryReceived | undefined): Promise<TreeMessage> {
  const next = (): Promise<TreeMessage | BetweenMessage> => link.receive<TreeMessage | BetweenMessage>(type, ...memory ? BETWEEN : []);
  let message = await next();
  for (; isBetween(message); message = await next()) await memory!.take(link, message);
  const { removes = 0, last = false } = message;
  if (!Number.isSafeInteger(removes) || removes < 0 || removes > NAMES || (removes > 0 && type !== 'round')) throw new VeldError('migration.stream', 'The other node wants more removed than it may.');
  if (typeof last !== 'boolean') throw new VeldError('migration.stream', 'The other node does not say whether this is all.');
  if (removes > 0) await link.receiveBulk(removal(target, removes, signal));
  await link.receiveBulk(unpacker.input);
  const { conflicts: found, adopted } = await unpacker.ended;
  const conflicts = found + adopted;
  if (conflicts > 0 && (type !== 'round' || message.last)) throw new VeldError('migration.stream', `${conflicts} names of a tree that does not change could not be put where they belong.`);
  return message;
}

/** @returns its record, which stays also when the VE does not */
export async function receiveTemplate(context: VeContext, link: FrameStream, { ve, template: record }: Offer, task: Task): Promise<TemplateRecord> {
  const { store } = context;
  const fingerprint = ve.template;
  const name = store.findTemplate(record.name) ? `${record.name}-${fingerprint.slice(0, 12)}` : record.name;
  // It stays, also when the VE does not: its steps back are of this step alone.
  const back: (() => void | Promise<void>)[] = [];
  try {
    await makeTemplate(context, async (staged) => {
      await receiveTree(link, 'template', { path: staged.path, base: 0 }, record.size, task);
      if (await fingerprintOf(staged.path, task.signal) !== fingerprint) throw new VeldError('migration.stream', 'The template that came along is not what its fingerprint says.');
      return { ...record, fingerprint, name };
    }, { ...task, undo: (_name, step) => void back.push(step), phase() {}, commit() {} });
  } catch (error) {
    for (const step of back.toReversed()) await step();
    throw error;
  }
  link.send({ type: 'done' });
  return store.findTemplate(fingerprint)!;
}

export async function receiveLayer({ store, volumes }: VeContext, link: FrameStream, uidBase: number, bytes: number, task: Task): Promise<LayerRef> {
  const staged = await volumes.stageLayer();
  try {
    await receiveTree(link, 'layer', { path: staged.path, base: uidBase }, bytes, task);
    const layer = await volumes.commitLayer(staged.id, uidBase);
    store.insertLayer(layer);
    link.send({ type: 'done' });
    return { id: layer.id, uidBase: layer.uidBase };
  } catch (error) {
    await volumes.dropStaged(staged.id);
    throw error;
  }
}

/**
 * The rounds of the disk: the upper of the VE, whose owners get their place in the range that it has here while they are written. That of a copy stays empty, and it becomes a layer.
 * @param memory takes what comes of the memory between them
 * @returns `synced` settles when it is on the disk
 */
export async function receiveDisk({ store, volumes }: VeContext, link: FrameStream, { diskBase, disk, copy }: Offer, ve: VeRecord, made: LayerRef[], memory: MemoryReceived | undefined, task: Task): Promise<{ synced: Promise<void> }> {
  const { uuid } = ve;
  await volumes.createVolume(uuid, ve.uidBase, ve.number, ve.layers, spaceOf(ve), copy ? 0 : disk);
  const upper = upperOf(volumes, ve);
  // (What is a copy's own is laid into its upper.)
  const staged = copy ? await volumes.stageLayer() : undefined;
  const target: Place = staged ? { path: staged.path, base: diskBase } : { path: upper.path, base: diskBase, written: upper.base, shared: volumes.folderOf(uuid) };
  const rounds = async (): Promise<void> => {
    for (let [last, round] = [false, 1]; !last; round++) {
      faultPoint('migrate-in.disk');
      if (round > ROUNDS) throw new VeldError('migration.stream', `The other node sends the disk again and again: ${ROUNDS} times so far.`);
      ({ last = false } = await receiveTree(link, 'round', target, disk, task, memory));
      if (last && staged) {
        const layer = await volumes.commitLayer(staged.id, diskBase);
        store.insertLayer(layer);
        made.push({ id: layer.id, uidBase: layer.uidBase });
        updateVe(store, uuid, { layers: [...ve.layers, { id: layer.id, uidBase: layer.uidBase }] });
      }
      link.send({ type: 'done' });
    }
  };
  try {
    // What it has it may have, also where that is more than its limit.
    await (staged ? rounds() : volumes.unheld(uuid, rounds));
  } catch (error) {
    if (staged) await volumes.dropStaged(staged.id);
    throw error;
  }
  // While its memory is under way.
  const synced = staged ? Promise.resolve() : syncTree(target.path);
  synced.catch(() => {}); // whoever waits hears of it
  return { synced };
}

const BETWEEN: BetweenMessage['type'][] = ['memory', 'part', 'anew'];

function isBetween(message: TreeMessage | BetweenMessage): message is BetweenMessage {
  return (BETWEEN as string[]).includes(message.type);
}
