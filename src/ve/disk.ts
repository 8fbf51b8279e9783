/** Where a VE's disk lies, and what it may hold: both levels of its quota. */
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Properties } from '../spec/types.ts';
import type { DiskAccount, DiskLimits, DiskUser } from '../storage/types.ts';
import type { VeRecord } from '../store/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeContext } from './context.ts';

/** Properties of quotas, which a pool holds or does not. */
const LIMITS = ['disk.space', 'disk.inodes', 'disk.users'] as const;

/** Limits of the users and groups of a VE: they go where it goes. */
export interface UserQuotas {
  users: Pick<DiskUser, 'id' | 'limits'>[];
  groups: Pick<DiskUser, 'id' | 'limits'>[];
}

/**
 * Refuse a pool that is not there, and limits that it cannot hold.
 * @param changed only these; default all
 * @throws VeldError `pool.not_found`, `pool.unavailable`, `property.unsupported`
 */
export function checkDisk({ volumes }: VeContext, properties: Properties, changed?: readonly string[]): void {
  const wanted = LIMITS.filter((name) => changed?.includes(name) !== false && (name === 'disk.users' ? properties[name] > 0 : properties[name] !== null));
  if (wanted.length === 0 && changed !== undefined) return;
  const support = volumes.supportOf(properties['disk.pool']);
  for (const name of wanted) {
    const held = support[name];
    const soft = name === 'disk.users' ? false : properties[name]!.soft !== properties[name]!.hard;
    if (held === true && soft && support.soft !== true) throw new VeldError('property.unsupported', `${name} cannot have a soft limit of its own on the pool ${properties['disk.pool']}: ${support.soft}.`, { hint: 'Give one limit for both.' });
    if (held !== true) throw new VeldError('property.unsupported', `${name} cannot be held on the pool ${properties['disk.pool']}: ${held}.`, { hint: '`veld pool list` tells what each pool can hold.' });
  }
}

/** Bytes that a VE may write to its disk; null: nothing is said. */
export function spaceOf({ properties }: Pick<VeRecord, 'properties'>): number | null {
  return resolveProperties(properties)['disk.space']?.hard ?? null;
}

/**
 * Hold a VE to what its record says. Of what it has more than that nothing is taken away: it can write no more.
 * @param atRest it does not run
 * @throws VeldError `property.unsupported`
 */
export async function holdDisk({ volumes }: VeContext, ve: VeRecord, atRest: boolean): Promise<void> {
  const properties = resolveProperties(ve.properties);
  const limits: DiskLimits = { space: properties['disk.space'], inodes: properties['disk.inodes'] };
  await volumes.limit(ve.uuid, ve.uidBase, ve.number, limits, atRest);
  faultPoint('disk.held');
}

/**
 * Take the limits of a VE that does not run away, until it is back: files that were open for writing may be copied up then, which a full disk has no room for.
 * @returns holds it again, and until when it may have more than a soft limit stays what it was
 */
export async function liftDisk(context: VeContext, ve: VeRecord): Promise<() => Promise<void>> {
  const { volumes } = context;
  const properties = resolveProperties(ve.properties);
  if (properties['disk.space'] === null && properties['disk.inodes'] === null) return async () => {};
  const before = diskAccount(context, ve);
  await volumes.limit(ve.uuid, ve.uidBase, ve.number, { space: null, inodes: null }, true);
  faultPoint('disk.lifted');
  return async () => {
    await holdDisk(context, ve, false);
    const now = diskAccount(context, ve);
    const until = { ...before?.spaceUntil && now?.spaceUntil && { space: before.spaceUntil }, ...before?.inodesUntil && now?.inodesUntil && { inodes: before.inodesUntil } };
    if (Object.keys(until).length > 0) volumes.extend(ve.uuid, until);
  };
}

/** Where the upper of a VE lies, and from which number its owners are written. */
export function upperOf(volumes: Pick<VeContext['volumes'], 'mountPlan'>, ve: VeRecord): { path: string; base: number } {
  const { volume, upper, map } = volumes.mountPlan(ve.uuid, ve.uidBase, ve.layers);
  return { path: join(volume, upper), base: map === null ? ve.uidBase : 0 };
}

/** What it has written; undefined where its pool does not count, or is not there. */
export function diskAccount({ volumes, log }: VeContext, ve: VeRecord): DiskAccount | undefined {
  try {
    return volumes.account(ve.uuid);
  } catch (error) {
    log.debug({ ve: ve.uuid, err: error }, 'what a VE has on its disk could not be read');
    return undefined;
  }
}

/** What its users and groups are limited to; undefined where none is. */
export function userQuotas({ volumes }: VeContext, ve: VeRecord): UserQuotas | undefined {
  if (resolveProperties(ve.properties)['disk.users'] === 0) return undefined;
  const { users, groups } = volumes.users(ve.uuid, ve.uidBase);
  const limited = (all: DiskUser[]): UserQuotas['users'] => all.filter(({ limits }) => limits.space !== null || limits.inodes !== null).map(({ id, limits }) => ({ id, limits }));
  return { users: limited(users), groups: limited(groups) };
}

/** Hold the users and groups of a VE that has just been made to the limits that another one's have. */
export function bringUserQuotas({ volumes }: VeContext, ve: VeRecord, quotas: UserQuotas | undefined): void {
  if (quotas === undefined || resolveProperties(ve.properties)['disk.users'] === 0) return;
  for (const { id, limits } of quotas.users) volumes.limitUser(ve.uuid, ve.uidBase, 'user', id, limits);
  for (const { id, limits } of quotas.groups) volumes.limitUser(ve.uuid, ve.uidBase, 'group', id, limits);
}

/** Most users, or groups, of a VE: the size of its range. */
const IDS = 65_536;

/** Whether what came from elsewhere has the form of limits of users and groups. */
export function isUserQuotas(value: unknown): value is UserQuotas {
  const isObject = (one: unknown): one is Record<string, unknown> => typeof one === 'object' && one !== null && !Array.isArray(one);
  const isCount = (one: unknown): one is number => Number.isSafeInteger(one) && (one as number) >= 0;
  const amount = (one: unknown): boolean => one === null || isCount(one);
  const limit = (one: unknown): boolean => one === null || isObject(one) && amount(one.soft) && amount(one.hard);
  const all = (list: unknown): boolean => Array.isArray(list) && list.length <= IDS && new Set(list.map((one: { id?: unknown }) => one?.id)).size === list.length
    && list.every((one: unknown) => isObject(one) && isCount(one.id) && one.id < IDS && isObject(one.limits) && limit(one.limits.space) && limit(one.limits.inodes));
  return isObject(value) && all(value.users) && all(value.groups);
}
