/**
 * The stream of an export: a VE's properties and what is its own on its disk, as one tree whatever layers it lies in. Of a VE that runs the disk is carried in rounds, and the
 * last one while its processes stand, so that all of it is of one instant; it is not taken away for that, and need not be one that can be suspended.
 */
import { createReadStream, createWriteStream, openSync, mkdirSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { VeldError } from '../../lib/errors.ts';
import type { TreeRoot } from '../../kernel/mounts.ts';
import { faultPoint } from '../../lib/faults.ts';
import { mib } from '../../lib/mib.ts';
import type { Piped } from '../../lib/piped.ts';
import type { Task } from '../../ops/types.ts';
import { isEnough } from '../../storage/rounds.ts';
import { packTree, prepareScan, scanTree, syncTree, treeChanges, type Tree, type TreePack } from '../../storage/transfer.ts';
import { packs, type Place } from '../../storage/tree-copy.ts';
import { mergeTrees, stacked, type Merged, type StackedTree } from '../../storage/tree-stack.ts';
import type { TemplateRecord, VeRecord } from '../../store/types.ts';
import { settled } from '../clean-up.ts';
import { reload, type VeContext } from '../context.ts';
import { upperOf, userQuotas } from '../disk.ts';
import { treeOf } from '../layers.ts';
import { readRunState } from '../run-folder.ts';
import { PartWriter } from './parts.ts';
import { LONGEST, whileStanding } from './stand.ts';
import type { Contents, Exported, TreeMessage } from './types.ts';

/** Bytes that stay free of the node's own disk, and after how many it is looked at. */
const LEAVE = 256 << 20;
const LOOK = 16 << 20;
/** Most names of a disk: more do not fit into the memory of the daemon. */
const NAMES = 2_000_000;

/** Begin an export. @returns the stream, and what it has come to when it has ended */
export function exportStream(context: VeContext, uuid: string, { withTemplate = false }: { withTemplate?: boolean }, task: Task): Piped & { exported: Promise<Exported> } {
  const output = new PassThrough({ highWaterMark: 1 << 20 });
  const exported = write(context, uuid, withTemplate, output, task);
  exported.then(() => output.end(), (error: unknown) => output.destroy(error as Error));
  output.on('error', () => {}); // `ended` tells
  const ended = exported.then(() => {});
  ended.catch(() => {}); // whoever waits hears of it
  return { output, ended, exported };
}

async function write(context: VeContext, uuid: string, withTemplate: boolean, output: PassThrough, task: Task): Promise<Exported> {
  const { settings, store, volumes } = context;
  await settled(context, reload(store, uuid).number);
  const ve = reload(store, uuid);
  const template = store.findTemplate(ve.template);
  if (!template) throw new VeldError('template.not_found', `The template of ${ve.name} is gone: there is nothing that it could stand on elsewhere.`);
  const parts = new PartWriter(output);
  const own = ve.layers.slice(template.layers.length);
  const places: Place[] = [...own.map(({ id, uidBase }) => ({ path: volumes.layerPath(id), base: uidBase })), upperOf(volumes, ve)];
  const upper = places.at(-1)!.path;
  const running = readRunState(settings, ve.number).init !== undefined;
  const { signal } = task;

  task.progress(1, 'looking at its disk');
  const below: StackedTree[] = [];
  for (const { path } of places.slice(0, -1)) below.push(await stacked(path, await scanTree(path, { signal, most: NAMES })));
  const merged = async (tree: Tree): Promise<Merged> => mergeTrees([...below, below.length === 0 ? { tree, opaque: new Set() } : await stacked(upper, tree)]);
  let now = await merged(await scanTree(upper, { signal, most: NAMES }));
  const total = bytesOf(now.tree, now.tree.keys());
  await parts.message(contentsOf(context, ve, template, total, withTemplate));
  if (withTemplate) {
    await parts.message({ type: 'template' });
    await sendTemplate(parts, treeOf(context, template), task);
  }

  let bytes = 0;
  const told = (done: number): void => {
    bytes += done;
    task.progress(Math.min(95, 20 + 75 * bytes / Math.max(total, 1)), `${mib(bytes)} of ${mib(Math.max(total, bytes))}`);
  };
  let have: Tree = new Map();
  for (let round = 1, before = Infinity; ; round++) {
    const changes = treeChanges(have, now.tree);
    const left = bytesOf(now.tree, changes.send.map(({ path }) => path));
    if (running && round > 1 && isEnough(left, before, round)) break;
    faultPoint('export.disk');
    // Between scan and reading, so that no later write is missed: see storage/transfer.ts.
    if (running) await syncTree(upper, { signal });
    await sendNames(parts, changes.remove);
    for (const { base, pack } of packs(places, now, changes, signal)) await sendTree(parts, { type: 'tree', base, last: !running }, pack, told);
    if (!running) break;
    [have, before] = [now.tree, left];
    now = await merged(await scanTree(upper, { signal, most: NAMES }));
  }
  const stood = running ? await sendRest(context, ve, { parts, places, have, merged }, task) : null;
  await parts.message({ type: 'end' });
  return { bytes: total, stood };
}

/** What has changed since the last round, of a VE that stands. It stands while that is read; it is written when it goes on. @returns milliseconds */
async function sendRest(context: VeContext, ve: VeRecord, { parts, places, have, merged }: { parts: PartWriter; places: readonly Place[]; have: Tree; merged: (tree: Tree) => Promise<Merged> }, task: Task): Promise<number> {
  const folder = join(context.settings.stateDir, 'outgoing', task.id);
  const upper = places.at(-1)!.path;
  // Their programs wait: nothing is begun while it stands.
  const [scan, pack] = [prepareScan(upper, { most: NAMES }), packTree(upper, { signal: task.signal })];
  pack.ended.catch(() => {}); // also when it is not used
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    task.progress(96, 'the rest, while it stands');
    const { result, stood } = await whileStanding(context, ve, async () => {
      faultPoint('export.standing');
      const until = performance.now() + LONGEST;
      const now = await merged(await scan.run());
      const changes = treeChanges(have, now.tree);
      const kept: { base: number; file: string }[] = [];
      for (const { base, pack: one } of packs(places, now, changes, task.signal, pack)) {
        const file = join(folder, String(kept.length));
        kept.push({ base, file });
        await gathered(one, (data) => pipeline(data, bounded(context.settings.stateDir, ve, until), createWriteStream('', { fd: openSync(file, 'wx', 0o600) })));
      }
      return { remove: changes.remove, kept };
    });
    await sendNames(parts, result.remove);
    for (const { base, file } of result.kept) {
      await parts.message({ type: 'tree', base, last: true } satisfies TreeMessage);
      await parts.bulk(createReadStream(file, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>);
    }
    return stood;
  } finally {
    scan.cancel();
    pack.cancel();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Passes on what is read while a VE stands: neither for longer than that may be, nor at the cost of the node's own disk. */
function bounded(stateDir: string, { name }: VeRecord, until: number): Transform {
  let looked = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      looked -= chunk.length;
      if (looked <= 0) {
        looked = LOOK;
        const { bavail, bsize } = statfsSync(stateDir);
        if (bavail * bsize < LEAVE) return done(new VeldError('disk.full', `${name} has changed more while it was read than this node has room for.`));
      }
      if (performance.now() > until) return done(new VeldError('timeout', `${name} changes its disk faster than that can be read: it stood for ${LONGEST / 1000} s, and goes on.`, { hint: 'Try again when it is quieter, or stop it for that.' }));
      done(null, chunk);
    },
  });
}

function contentsOf(context: VeContext, ve: VeRecord, template: TemplateRecord, bytes: number, withTemplate: boolean): Contents {
  const { layers: _layers, size: _size, ...record } = template;
  const quotas = userQuotas(context, ve);
  const { uuid, name, properties, addresses, mac } = ve;
  return {
    type: 'veld-export', format: 1, createdAt: new Date().toISOString(), ve: uuid, name, template: ve.template, templateName: template.name, ...withTemplate && { templateRecord: record },
    bytes, properties, addresses, mac, ...quotas && { quotas },
  };
}

async function sendTree(parts: PartWriter, message: TreeMessage, pack: TreePack, onProgress: (bytes: number) => void): Promise<void> {
  await parts.message(message);
  await gathered(pack, (data) => parts.bulk(data, onProgress));
}

async function sendTemplate(parts: PartWriter, path: TreeRoot, task: Task): Promise<void> {
  const { signal } = task;
  const tree = await scanTree(path, { signal });
  const pack = packTree(path, { signal });
  pack.send(treeChanges(new Map(), tree).send).catch(() => {}); // `output` tells
  task.progress(10, 'its template');
  await gathered(pack, (data) => parts.bulk(data));
}

/** Have somebody take all of a stream. */
async function gathered(pack: TreePack, take: (data: TreePack['output']) => Promise<void>): Promise<void> {
  try {
    await take(pack.output);
    await pack.ended;
  } finally {
    pack.cancel();
  }
}

async function sendNames(parts: PartWriter, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  await parts.message({ type: 'remove' });
  await parts.bulk([Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1')]);
}

function bytesOf(tree: Tree, paths: Iterable<string>): number {
  let bytes = 0;
  for (const path of paths) {
    const entry = tree.get(path);
    if (entry?.type === 'file') bytes += entry.size;
  }
  return bytes;
}
