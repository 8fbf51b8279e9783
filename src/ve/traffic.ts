/** What VEs have received and sent, by class, and their connections. */
import { findVe, type VeContext } from './context.ts';
import type { ConnectionUse } from '../network/types.ts';
import type { TrafficReport } from './types.ts';

/**
 * @param key of one VE; default: all that are whole
 * @throws VeldError `ve.not_found`, `network.failed`
 */
export async function veTraffic({ store, network }: Pick<VeContext, 'store' | 'network'>, key?: string): Promise<TrafficReport> {
  const ves = key === undefined ? store.listVes().filter(({ ready }) => ready) : [findVe(store, key)];
  const of = await network.accounting.read();
  return { classes: [...network.accounting.classes], ves: ves.map((ve) => ({ uuid: ve.uuid, number: ve.number, name: ve.name, classes: of(ve) })) };
}

/** @throws VeldError `ve.not_found`, `network.failed` */
export async function veConnections({ store, network }: Pick<VeContext, 'store' | 'network'>, key: string): Promise<ConnectionUse> {
  const ve = findVe(store, key);
  return (await network.connections([ve]))(ve);
}
