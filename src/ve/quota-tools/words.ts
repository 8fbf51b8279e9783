/** The words that quota tools are called with. */
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';
import { UIDS } from '../guest-users.ts';
import type { AccountKind, Accounts, Caller } from './types.ts';
import { ToolFailure } from './types.ts';
import { DEVICE } from './layout.ts';

/** Names of the format of quota files, which say nothing here: there are none. */
export const FORMAT = { format: { type: 'string', short: 'F' } } as const;

/** -u and -g. */
export const KINDS = { user: { type: 'boolean', short: 'u' }, group: { type: 'boolean', short: 'g' } } as const;

/** @throws ToolFailure for an option that the tool has not */
export function readWords<T extends ParseArgsOptionsConfig>(words: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...words], options, allowPositionals: true });
  } catch (error) {
    throw new ToolFailure((error as Error).message.split('. ')[0]);
  }
}

/** Which of the two are meant; users, where nothing is said. */
export function kindsOf({ user, group }: { user?: boolean | undefined; group?: boolean | undefined }): AccountKind[] {
  return [...(user === true || group !== true ? ['user' as const] : []), ...(group === true ? ['group' as const] : [])];
}

/** The only disk of a VE that has quotas. @throws ToolFailure for another one */
export function checkFileSystem(names: readonly string[]): void {
  const other = names.find((name) => name !== '/' && name !== DEVICE);
  if (other !== undefined) throw new ToolFailure(`Mountpoint (or device) ${other.slice(0, 80)} not found or has no quota enabled; here / has.`);
}

/** @throws ToolFailure where the VE has no such user or group */
export function findAccount(accounts: Accounts, kind: AccountKind, who: string): number {
  const named = [...accounts.names(kind)].find(([, name]) => name === who)?.[0];
  const id = named ?? (/^\d{1,5}$/.test(who) && Number(who) < UIDS ? Number(who) : undefined);
  if (id === undefined) throw new ToolFailure(`${kind} ${who.slice(0, 64)} does not exist.`);
  return id;
}

/** @throws ToolFailure for anybody but root */
export function onlyRoot({ uid }: Caller): void {
  if (uid !== 0) throw new ToolFailure('only root may do that.');
}
