/** `quota`: the second level, users and groups of a VE. Accounts are the kernel's, of the ids that they have on the disk. */
import { VeldError } from '../lib/errors.ts';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import { parseValue } from '../spec/values.ts';
import { findProperty, resolveProperties } from '../spec/properties.ts';
import type { Quota } from '../spec/types.ts';
import type { DiskLimits, DiskUser } from '../storage/types.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { diskAccount } from './disk.ts';
import { MAX_ACCOUNT_FILE, UIDS, userNames } from './guest-users.ts';
import { readRunState } from './run-folder.ts';
import type { QuotaReport } from './types.ts';

/** Changes of the limits of one user or group. */
export interface QuotaChanges {
  space?: unknown;
  inodes?: unknown;
}

/**
 * What a VE and its users and groups may have on its disk, and have. Names are those of the VE's own files, while it runs.
 * @throws VeldError `property.unsupported` where its pool does not count users
 */
export async function quotaReport(context: VeContext, ve: VeRecord): Promise<QuotaReport> {
  const properties = resolveProperties(ve.properties);
  const on = properties['disk.users'] > 0;
  const { users, groups } = on ? context.volumes.users(ve.uuid, ve.uidBase) : { users: [], groups: [] };
  const names = on ? await accountNames(context, ve) : { users: new Map<number, string>(), groups: new Map<number, string>() };
  const named = (all: DiskUser[], of: Map<number, string>): QuotaReport['users'] => all.map((user) => ({ ...user, name: of.get(user.id) ?? null }));
  return {
    ve: { limits: { space: properties['disk.space'], inodes: properties['disk.inodes'] }, used: diskAccount(context, ve) ?? null, grace: properties['disk.grace'] },
    most: properties['disk.users'], users: named(users, names.users), groups: named(groups, names.groups),
  };
}

/**
 * Change the limits of a user or group, by name or number.
 * @returns the account as it is then
 * @throws VeldError `property.not_live` while disk.users is 0 or so many have limits already, `property.invalid`, `request.invalid`, `property.unsupported`
 */
export async function setUserQuota(context: VeContext, ve: VeRecord, kind: 'user' | 'group', who: string, changes: QuotaChanges): Promise<QuotaReport['users'][number]> {
  checkCounted(ve);
  const names = await accountNames(context, ve);
  const id = idOf(ve, kind, who, kind === 'user' ? names.users : names.groups);
  const before = context.volumes.users(ve.uuid, ve.uidBase)[`${kind}s`].find((one) => one.id === id)?.limits ?? { space: null, inodes: null };
  const read = (property: 'disk.space' | 'disk.inodes', input: unknown, else_: Quota | null): Quota | null => (input === undefined ? else_ : parseValue({ ...findProperty(property), type: SMALL[property] }, input) as Quota | null);
  const limits = { space: read('disk.space', changes.space, before.space), inodes: read('disk.inodes', changes.inodes, before.inodes) };
  limitAccount(context, ve, kind, id, limits);
  const after = context.volumes.users(ve.uuid, ve.uidBase)[kind === 'user' ? 'users' : 'groups'].find((one) => one.id === id);
  return { ...after ?? { id, limits, used: { space: 0, inodes: 0, spaceUntil: null, inodesUntil: null } }, name: (kind === 'user' ? names.users : names.groups).get(id) ?? null };
}

/** @throws VeldError `property.not_live` while its users are not counted */
function checkCounted(ve: VeRecord): number {
  const most = resolveProperties(ve.properties)['disk.users'];
  if (most === 0) throw new VeldError('property.not_live', `Users of ${ve.name} have no quotas of their own: disk.users is 0.`, { hint: `Switch them on: \`veld set ${ve.name} disk.users=1000\`.` });
  return most;
}

/**
 * Hold a user or group to limits, or to none, whoever asks for it.
 * @param id as the VE counts
 * @throws VeldError `property.not_live` while disk.users is 0 or so many have limits already, `property.unsupported`
 */
export function limitAccount(context: VeContext, ve: VeRecord, kind: 'user' | 'group', id: number, limits: DiskLimits): void {
  const most = checkCounted(ve);
  const { users, groups } = context.volumes.users(ve.uuid, ve.uidBase);
  const limited = [...users, ...groups].filter((one) => one.limits.space !== null || one.limits.inodes !== null);
  const has = limited.includes((kind === 'user' ? users : groups).find((one) => one.id === id)!);
  if (!has && (limits.space !== null || limits.inodes !== null) && limited.length >= most) throw new VeldError('property.not_live', `${limited.length} users and groups of ${ve.name} have quotas already, which is what disk.users allows.`, { hint: 'Raise disk.users, or take the limits of others away.' });
  context.volumes.limitUser(ve.uuid, ve.uidBase, kind, id, limits);
  context.events.emit('quota.changed', { ve: ve.uuid, data: { name: ve.name, kind, id } });
}

/** A user may be given less than a whole VE needs. */
const SMALL = {
  'disk.space': { kind: 'quota', of: 'bytes', min: 1024, unlimited: true },
  'disk.inodes': { kind: 'quota', of: 'items', min: 1, unlimited: true },
} as const;

function idOf(ve: VeRecord, kind: 'user' | 'group', who: string, names: Map<number, string>): number {
  const named = [...names].find(([, name]) => name === who)?.[0];
  const id = named ?? (/^\d{1,5}$/.test(who) ? Number(who) : undefined);
  if (id === undefined || id >= UIDS) {
    throw new VeldError('request.invalid', `${ve.name} has no ${kind} ${JSON.stringify(who.slice(0, 64))}.`, { hint: names.size === 0 ? 'While it does not run only numbers are known.' : `Name one of its /etc/${kind === 'user' ? 'passwd' : 'group'}, or a number.` });
  }
  return id;
}

/** Names of a running VE's own files, by number; of one that does not run none. */
export async function accountNames({ settings }: VeContext, ve: VeRecord): Promise<{ users: Map<number, string>; groups: Map<number, string> }> {
  const { init } = readRunState(settings, ve.number);
  const none = { users: new Map<number, string>(), groups: new Map<number, string>() };
  if (!init) return none;
  const root = await openGuestRoot(init);
  try {
    const read = async (path: string): Promise<Map<number, string>> => userNames((await root.readFile(path, MAX_ACCOUNT_FILE)).toString('utf8'));
    // Both files have the number third (passwd(5), group(5)).
    return { users: await read('/etc/passwd').catch(() => none.users), groups: await read('/etc/group').catch(() => none.groups) };
  } finally {
    root.close();
  }
}
