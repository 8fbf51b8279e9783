/**
 * VEs in which a template is made, and tried: nobody sees them, since their records are never `ready`, and a daemon that finds one of an earlier daemon removes it. The layers that only
 * they stand on go with them.
 */
import { randomBytes } from 'node:crypto';
import type { Task } from '../../ops/types.ts';
import type { LayerRef, VeRecord } from '../../store/types.ts';
import { bootVe } from '../boot.ts';
import { reload, updateVe, type VeContext } from '../context.ts';
import { reserveVe } from '../create.ts';
import { removeVe } from '../destroy.ts';
import { spaceOf } from '../disk.ts';

/** Least that such a VE may write, in bytes, whatever the limit of its tree: a boot writes some. */
const LEAST_SPACE = 64 << 20;

export interface ThrowAwayRequest {
  /** Fingerprint of what it stands on; there need not be a template of it. */
  template: string;
  layers: readonly LayerRef[];
  /** Bytes that it may write, where the pool can hold it to that. */
  space: number;
  /** Bytes of memory; null: as any VE. */
  memory: number | null;
  /** What it runs; null: the init of its tree. */
  command: readonly string[] | null;
}

/** Make such a VE and boot it. When the operation fails it goes. @throws VeldError what a boot can fail with, `capacity.exceeded` among it */
export async function bootThrowAway(context: VeContext, { template, layers, space, memory, command }: ThrowAwayRequest, task: Task): Promise<VeRecord> {
  const { store, volumes } = context;
  const held = volumes.supportOf('default')['disk.space'] === true;
  const properties = {
    hostname: 'localhost', 'boot.start': false, ...held && { 'disk.space': String(Math.max(space, LEAST_SPACE)) }, ...memory !== null && { 'memory.limit': String(memory) }, ...command !== null && { 'boot.command': [...command] },
  };
  const { uuid } = reserveVe(context, { name: `build-${randomBytes(6).toString('hex')}`, template, properties }, layers);
  task.undo('throw-away', () => removeThrowAway(context, uuid));
  // Its own names and addresses get into it as into any VE that was renamed; for a command alone nothing of the tree is touched.
  const ve = command === null ? updateVe(store, uuid, { guestDirty: true }) : reload(store, uuid);
  await volumes.createVolume(ve.uuid, ve.uidBase, ve.number, ve.layers, spaceOf(ve));
  await bootVe(context, ve, task);
  return reload(store, uuid);
}

/** Remove it, and the layers that nothing else stands on. Idempotent. */
export async function removeThrowAway(context: VeContext, uuid: string): Promise<void> {
  const ve = context.store.veByUuid(uuid);
  if (ve) await removeVe(context, ve);
}
