/** A VE that comes from another node: it keeps who it is, and gets of this node what only a node can give. */
import { isIP } from 'node:net';
import { VeldError } from '../lib/errors.ts';
import { otherInstances } from '../lib/instances.ts';
import { checkName } from '../spec/names.ts';
import { parseProperties, parseProperty, resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { nextNumber } from './create.ts';
import { checkDisk } from './disk.ts';
import { resolversOf } from './identity-files.ts';
import { allocateRange, isRangeFree } from './uid-ranges.ts';

/** What another node says of a VE. That each is of its type was checked; nothing else of it is believed before it was checked here. */
export interface Arrival {
  uuid: string;
  name: string;
  /** Fingerprint. */
  template: string;
  properties: Record<string, unknown>;
  addresses: string[];
  mac: string;
  uidBase: number;
  createdAt: string;
  /** Its files are not what its record says: they are to be written before its next boot. */
  guestDirty: boolean;
  /** What its file of resolvers says: it is compared with what it would say here, and no more. */
  resolvers: string;
}

export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** Unicast: the lowest bit of the first octet is clear (IEEE 802). */
export const MAC = /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/;

/**
 * The record that a VE would have here; it is not in the store yet, and what it stands on is for the caller to say.
 * @throws VeldError `ve.name_taken`, `address.taken`, `port.taken`, `property.*`, `network.*`, `migration.refused`: why it cannot come
 */
export function arrivalRecord(context: VeContext, { uuid, name, template, properties, addresses, mac, uidBase, createdAt, guestDirty, resolvers }: Arrival): VeRecord {
  const { store, network } = context;
  if (!UUID.test(uuid) || !MAC.test(mac)) throw new VeldError('migration.stream', 'The other node describes a VE that cannot be one.');
  checkName(name);
  const ves = store.listVes();
  const twin = ves.find((ve) => ve.uuid === uuid);
  if (twin) throw new VeldError('migration.refused', `${name} is here already, as ${twin.name}.`, { hint: 'Two nodes must not have the same VE: find out which of them is the right one, and destroy the other.' });
  if (ves.some((ve) => ve.name === name)) throw new VeldError('ve.name_taken', `There is already a VE named ${name} on that node.`, { hint: `Rename one of the two: \`veld rename ${name} OTHER\`.` });
  if (ves.some((ve) => ve.mac === mac)) throw new VeldError('migration.refused', `Another VE on that node has the link-layer address ${mac} of ${name}.`);
  const others = otherInstances(context.settings.instance).flatMap(({ uids }) => (uids ? [{ start: uids.base, count: uids.count }] : []));
  const set = onPool(context, parseProperties(properties));
  context.resources.check(resolveProperties(set));
  checkDisk(context, resolveProperties(set));
  const ve: VeRecord = {
    uuid, name, template, mac, number: nextNumber(store), layers: [], properties: set, addresses: [], createdAt,
    uidBase: isRangeFree(store, uidBase, others) ? uidBase : allocateRange(store), desired: 'stopped', ready: false, guestDirty, lastExit: null, suspended: null, deployed: null, notStarted: null,
  };
  // Those that it had from a pool there it keeps, too, as if they had been given by hand: somebody talks to them.
  const routed = resolveProperties(set)['network.mode'] === 'routed';
  const wanted = routed ? { ...ve, properties: { ...set, 'network.addresses': addressesOf(addresses) } } : ve;
  ve.addresses = network.assign(wanted, ves);
  network.checkPublish(ve, ves);
  network.ready(ve);
  if (resolversOf(context, ve) !== resolvers) ve.guestDirty = true;
  return ve;
}

/** Its disk lies on the pool of the name that it had there, where there is one here. */
export function onPool({ store }: Pick<VeContext, 'store'>, set: Record<string, unknown>): Record<string, unknown> {
  const { 'disk.pool': pool, ...rest } = set;
  return pool === undefined || store.listPools().some(({ name }) => name === pool) ? set : rest;
}

/** @throws VeldError `migration.stream`, `property.invalid` */
function addressesOf(addresses: readonly string[]): string[] {
  if (!addresses.every((address) => isIP(address) !== 0)) throw new VeldError('migration.stream', 'The other node describes a VE with addresses that are none.');
  return parseProperty('network.addresses', addresses) ?? [];
}
