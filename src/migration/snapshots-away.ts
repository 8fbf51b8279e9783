/** Snapshots of a VE that leaves: what is said of them, and what is sent. All of it goes before the VE stands: nothing of a snapshot changes any more. */
import { stateHasDroppable } from '../checkpoint/droppable.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { LayerRef, SnapshotRecord, TemplateRecord, VeRecord } from '../store/types.ts';
import type { VeContext } from '../ve/context.ts';
import { MOST } from './forms.ts';
import type { FrameStream } from './frames.ts';
import { bytesOf, sendState, sharedFiles, stateFiles, type SentFiles } from './state-files.ts';
import type { OfferedSnapshot } from './types.ts';

/** What goes along beside the VE. */
export interface Along {
  snapshots: OfferedSnapshot[];
  /** Layers that only the snapshots stand on. */
  layers: LayerRef[];
}

const HINT = 'Delete some of them, or leave all of them behind with --drop-snapshots: they are lost then.';

/** Refuse what could not be taken. @throws VeldError `migration.refused` */
export function checkSnapshotsLeave({ store, states }: VeContext, ve: VeRecord): void {
  const snapshots = store.listSnapshots(ve.uuid);
  if (snapshots.length > MOST.snapshots) throw new VeldError('migration.refused', `${ve.name} has ${snapshots.length} snapshots, and more than ${MOST.snapshots} do not go along.`, { hint: HINT });
  const broken = snapshots.find(({ id, engine }) => engine !== null && !states.isWholeSnapshot(id));
  if (broken) throw new VeldError('migration.refused', `The processes in the snapshot ${broken.name} of ${ve.name} are not whole.`, { hint: `It is of no use any more: \`veld snapshot delete ${ve.name} ${broken.name}\`.` });
}

/** What is said of the snapshots. Nothing of them is sent twice: neither layers, nor files of their states. */
export async function snapshotsOf({ store, states }: VeContext, ve: VeRecord, template: Pick<TemplateRecord, 'layers'>): Promise<Along> {
  const own = ve.layers.slice(template.layers.length);
  const places = new Map(own.map(({ id }, place) => [id, place]));
  const layers: LayerRef[] = [];
  const sent: SentFiles = new Map();
  const snapshots: OfferedSnapshot[] = [];
  for (const snapshot of store.listSnapshots(ve.uuid)) {
    const { id, name, description, parent, createdAt, properties, engine } = snapshot;
    const stack = snapshot.layers.slice(template.layers.length);
    for (const layer of stack) {
      if (places.has(layer.id)) continue;
      places.set(layer.id, own.length + layers.length);
      layers.push(layer);
    }
    snapshots.push({ id, name, description, parent, createdAt, properties, engine, layers: stack.map((layer) => places.get(layer.id)!), processor: [], memory: 0, ...engine !== null && await processesOf(states, snapshot, sent) });
  }
  if (layers.length > MOST.snapshotLayers) throw new VeldError('migration.refused', `The snapshots of ${ve.name} stand on ${layers.length} layers, and more than ${MOST.snapshotLayers} do not go along.`, { hint: HINT });
  return { snapshots, layers };
}

async function processesOf(states: VeContext['states'], { id }: SnapshotRecord, sent: SentFiles): Promise<Pick<OfferedSnapshot, 'processor' | 'memory' | 'droppable'>> {
  const state = states.snapshot(id);
  const files = await sharedFiles(state.dir, await stateFiles(state.dir), sent, id);
  return { processor: states.read(state).processor ?? [], memory: bytesOf(files), ...stateHasDroppable(state) && { droppable: true } };
}

/** Send the states of those that have one. @returns which files the target has now */
export async function sendSnapshots(link: FrameStream, { states }: VeContext, snapshots: readonly OfferedSnapshot[], progress: (sent: number, total: number) => void): Promise<SentFiles> {
  const sent: SentFiles = new Map();
  const total = snapshots.reduce((sum, { memory }) => sum + memory, 0);
  let before = 0;
  for (const { id, engine, memory } of snapshots) {
    if (engine === null) continue;
    faultPoint('migrate.snapshot');
    await sendState(link, states.snapshot(id).dir, (bytes) => progress(before + bytes, total), { type: 'snapshot', sent, name: id });
    before += memory;
  }
  return sent;
}
