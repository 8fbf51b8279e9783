/** The VEs of a node, as the sampler must know them. */
import { resolveProperties } from '../spec/properties.ts';
import type { VeContext } from '../ve/context.ts';
import type { ScheduledVe } from './backups.ts';
import type { GraceVe } from './disk-grace.ts';
import type { OrderedVe } from './oom-order.ts';
import type { SampledVe } from './sampler.ts';

/** All that are whole, running or not. */
export function sampledVes({ store, network }: Pick<VeContext, 'store' | 'network'>): SampledVe[] {
  return store.listVes().filter(({ ready }) => ready).map((ve) => ({
    uuid: ve.uuid, number: ve.number, name: ve.name, links: network.plan(ve).links.map(({ link }) => link), memoryLimit: resolveProperties(ve.properties)['memory.limit'],
  }));
}

/** And what the order of their processes must know (oom-order.ts). */
export function orderedVes({ store }: Pick<VeContext, 'store'>): OrderedVe[] {
  return store.listVes().filter(({ ready }) => ready).map(({ uuid, number, name, properties }) => ({ uuid, number, name, oomGuarantee: resolveProperties(properties)['memory.oom_guarantee'] }));
}

/** Those with a soft limit of their disk, or with users that may have one (disk-grace.ts). */
export function graceVes({ store }: Pick<VeContext, 'store'>): GraceVe[] {
  return store.listVes().filter(({ ready }) => ready).flatMap(({ uuid, name, uidBase, properties }) => {
    const { 'disk.space': space, 'disk.inodes': inodes, 'disk.grace': grace, 'disk.users': users, 'disk.users_grace': usersGrace } = resolveProperties(properties);
    const soft = [space, inodes].some((limit) => limit !== null && limit.soft !== limit.hard);
    return soft || users > 0 ? [{ uuid, name, grace: soft ? grace : null, users: users > 0 ? { grace: usersGrace, uidBase } : null }] : [];
  });
}

/** Those that are backed up by themselves (backups.ts). */
export function scheduledVes({ store }: Pick<VeContext, 'store'>): ScheduledVe[] {
  return store.listVes().filter(({ ready }) => ready).flatMap(({ uuid, name, properties }) => {
    const { 'backup.repository': repository, 'backup.schedule': schedule } = resolveProperties(properties);
    return repository === '' ? [] : [{ uuid, name, repository, schedule }];
  });
}
