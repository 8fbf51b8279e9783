/** Snapshots that come with a VE: what is said of them is checked, and so is what is sent; they become records beside the VE's, which nobody sees before it is ours. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { hasDroppable } from '../kernel/droppable.ts';
import { engineByFingerprint } from '../kernel/engine.ts';
import { processorExtensions } from '../kernel/processor.ts';
import { putManifest, readReceived } from '../checkpoint/received.ts';
import type { Manifest, StateFolder } from '../checkpoint/types.ts';
import type { Task } from '../ops/types.ts';
import { parseProperties } from '../spec/properties.ts';
import { syncTree } from '../storage/transfer.ts';
import type { LayerRef, VeRecord } from '../store/types.ts';
import type { VeContext } from '../ve/context.ts';
import { plain } from './forms.ts';
import type { FrameStream } from './frames.ts';
import { receiveFiles } from './state-files.ts';
import type { Offer, OfferedSnapshot, SnapshotMessage } from './types.ts';

/**
 * Look at what is said of snapshots, whose form was checked.
 * @returns which of them could not be rolled back to here, in sentences
 * @throws VeldError `migration.refused`, `property.*`: why they cannot come
 */
export function checkSnapshotsCome(context: VeContext, { snapshots }: Offer): string[] {
  const here = new Set(processorExtensions());
  return snapshots.flatMap(({ id, name, properties, engine, processor, droppable }) => {
    checkFree(context, id, name);
    parseProperties(properties);
    if (engine === null) return [];
    if (!hasEngine(context, engine)) return [`The processes in the snapshot ${name} can be brought back there only by the engine ${engine.slice(0, 12)}, which is not on that node.`];
    if (droppable && !hasDroppable()) return [`The processes in the snapshot ${name} have memory of a kind that the kernel of that node does not have (MAP_DROPPABLE): they cannot be brought back there.`];
    return processor.every((extension) => here.has(extension)) ? [] : [`The processes in the snapshot ${name} may use what the processor of that node has not: they cannot be brought back there.`];
  });
}

/** States of snapshots and of warm images are in one folder. @throws VeldError `migration.refused` */
function checkFree({ store, states }: VeContext, id: string, name: string): void {
  if (!existsSync(states.snapshot(id).dir) && ![...store.listSnapshots(), ...store.listWarmImages()].some((other) => other.id === id)) return;
  throw new VeldError('migration.refused', `A snapshot with the id of ${name} is on that node already.`, { hint: `Delete one of the two, or leave the snapshots behind with --drop-snapshots.` });
}

function hasEngine({ settings }: VeContext, fingerprint: string): boolean {
  try {
    engineByFingerprint(settings.stateDir, fingerprint);
    return true;
  } catch {
    return false;
  }
}

/**
 * Take the snapshots of a VE that has a record. When this resolves they are on the disk.
 * @param folder for what comes
 * @param layers template's, the VE's own, and those of the snapshots, as these came
 * @param more bytes that may come beyond what was announced
 */
export async function receiveSnapshots(context: VeContext, link: FrameStream, { snapshots, ve: { uidBase } }: Offer, ve: VeRecord, { folder, layers, own, more }: { folder: string; layers: readonly LayerRef[]; own: readonly LayerRef[]; more: number }, task: Task): Promise<void> {
  const { states, store } = context;
  for (const snapshot of snapshots) {
    const state = snapshot.engine === null ? undefined : await receiveState(link, snapshot, { ve: ve.uuid, uidBase }, folder, more);
    // From here to the record nobody else has a turn: two may come with the same id at the same time.
    checkFree(context, snapshot.id, snapshot.name);
    const { id, name, description = '', parent = null, createdAt, properties, engine } = snapshot;
    try {
      if (state) states.derive(state, ve, { closeTcp: false, moved: true, flush: false, to: states.snapshot(id) });
      store.insertSnapshot({ id, ve: ve.uuid, name, description: plain(description), parent, createdAt, engine, properties: parseProperties(properties), layers: [...layers, ...snapshot.layers.map((place) => own[place]!)] });
    } catch (error) {
      await states.removeSnapshot(id); // no record leads there
      throw error;
    }
    faultPoint('migrate-in.snapshot');
    if (!state) continue;
    // With the images on which it stands.
    await syncTree(states.snapshot(id).dir, { signal: task.signal });
    await states.secure(states.snapshot(id));
    link.send({ type: 'done' });
  }
}

async function receiveState(link: FrameStream, { id, engine, memory }: OfferedSnapshot, of: Pick<Manifest, 've' | 'uidBase'>, folder: string, more: number): Promise<StateFolder> {
  const dir = join(folder, id);
  const { files } = await link.receive<SnapshotMessage>('snapshot');
  await receiveFiles(link, files, dir, 2 * memory + more, { earlier: folder });
  const state = { dir, images: join(dir, 'images'), runtime: join(dir, 'runtime'), config: join(dir, 'config.json') };
  const manifest = await readReceived(state);
  if (manifest.ve !== of.ve || manifest.uidBase !== of.uidBase || manifest.engine !== engine) throw new VeldError('migration.stream', 'The processes that came are not those of the snapshot that was offered.');
  putManifest(state, manifest);
  return state;
}
