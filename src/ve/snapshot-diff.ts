/** `snapshot diff`: what has changed on a VE's disk between two moments. */
import { join } from 'node:path';
import { differences, type Difference } from '../storage/differences.ts';
import type { SnapshotRecord, VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';

/**
 * Compare a snapshot with another one, or with the VE as it is now; it may be running.
 * @throws VeldError `storage.failed`
 */
export async function snapshotDiff({ volumes }: VeContext, ve: VeRecord, from: SnapshotRecord, to: SnapshotRecord | undefined): Promise<Difference[]> {
  const stack = (layers: VeRecord['layers']): string[] => layers.map(({ id }) => volumes.layerPath(id));
  const { volume, upper } = volumes.mountPlan(ve.uuid, ve.uidBase, []);
  return differences(stack(from.layers), to ? stack(to.layers) : [...stack(ve.layers), join(volume, upper)]);
}
