/** A copy of a VE on another node: another VE, which begins here as that one was there. */
import { randomUUID } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import { otherInstances } from '../lib/instances.ts';
import type { StateFolder } from '../checkpoint/types.ts';
import type { Task } from '../ops/types.ts';
import { checkName } from '../spec/names.ts';
import { parseProperties, resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import { type Arrival, MAC, onPool, UUID } from './arrive.ts';
import { inherited } from './clone.ts';
import { reload, type VeContext } from './context.ts';
import { checkDisk } from './disk.ts';
import { nextNumber, randomMac } from './create.ts';
import { newHostKeys } from './host-keys.ts';
import { personalise } from './personalise.ts';
import { bringBack } from './resume.ts';
import { allocateRange, isRangeFree } from './uid-ranges.ts';

/**
 * The record that a copy would have here, with the name that was asked for; it is not in the store yet. Of the model's properties it has those that more than one can have.
 * @throws VeldError `ve.name_taken`, `name.invalid`, `address.*`, `property.*`, `network.*`, `migration.stream`: why it cannot come
 */
export function copyRecord(context: VeContext, { uuid, name, template, properties, mac, uidBase }: Arrival): VeRecord {
  const { store, network, resources, settings } = context;
  if (!UUID.test(uuid) || !MAC.test(mac)) throw new VeldError('migration.stream', 'The other node describes a VE that cannot be one.');
  checkName(name);
  const ves = store.listVes();
  if (ves.some((ve) => ve.name === name)) throw new VeldError('ve.name_taken', `There is already a VE named ${name} on that node.`, { hint: 'Give the copy another name: --as NAME.' });
  const set = onPool(context, parseProperties(inherited(properties)));
  resources.check(resolveProperties(set));
  checkDisk(context, resolveProperties(set));
  const others = otherInstances(settings.instance).flatMap(({ uids }) => (uids ? [{ start: uids.base, count: uids.count }] : []));
  const ve: VeRecord = {
    uuid: randomUUID(), name, template, mac: randomMac(), number: nextNumber(store), layers: [], properties: set, addresses: [], createdAt: new Date().toISOString(),
    uidBase: isRangeFree(store, uidBase, others) ? uidBase : allocateRange(store), desired: 'stopped', ready: false, guestDirty: true, lastExit: null, suspended: null, deployed: null, notStarted: null,
  };
  ve.addresses = network.assign(ve, ves);
  network.checkPublish(ve, ves);
  network.ready(ve);
  return ve;
}

/**
 * Make of the layers, and the state, that came a VE of its own; it stays out of sight. Its volume is empty: all that came lies below it.
 * @param state of the model; undefined for one that was stopped
 * @param running whether it is to run: its connections, which go on with the model, are closed in it
 */
export async function bringCopy(context: VeContext, ve: VeRecord, state: StateFolder | undefined, running: boolean, task: Task): Promise<void> {
  const { volumes, states } = context;
  const machineId = { path: '/etc/machine-id', content: `${ve.uuid.replaceAll('-', '')}\n`, mode: 0o444 };
  await volumes.seedVolume(ve.uuid, ve.uidBase, [machineId, ...running ? [] : await newHostKeys(context, ve, ve.layers)]);
  if (state) states.derive(state, ve, { closeTcp: true, flush: !running });
  if (!running) return;
  await bringBack(context, ve.uuid, task, { part: true });
  await personalise(context, reload(context.store, ve.uuid));
}

/** A copy that was made of a suspended VE, and has not run yet, is not one to be sent: only here is it known what it must not share. @throws VeldError `migration.refused` */
export function checkNotFreshCopy({ states }: VeContext, ve: VeRecord): void {
  const { derived } = states.manifest(ve.uuid);
  if (derived && derived.moved !== true) throw new VeldError('migration.refused', `${ve.name} is a copy of another VE that has not run yet.`, { hint: `Resume it first: \`veld resume ${ve.name}\`.` });
}
