/** `edquota`: change limits with an editor. Options and what is edited: edquota(8). */
import { QUOTA_BLOCK } from '../../kernel/quota.ts';
import { DEVICE, pairOf } from './layout.ts';
import { limitsOf, readLimits, setBoth } from './setquota.ts';
import { checkFileSystem, findAccount, FORMAT, KINDS, kindsOf, onlyRoot, readWords } from './words.ts';
import type { DiskLimits } from '../../storage/types.ts';
import type { AccountKind, Accounts, Tool } from './types.ts';
import { ToolFailure } from './types.ts';

const OPTIONS = {
  ...FORMAT, ...KINDS,
  'prototype': { type: 'string', short: 'p' }, 'edit-period': { type: 'boolean', short: 't' }, 'edit-times': { type: 'boolean', short: 'T' }, 'filesystem': { type: 'string', short: 'f', multiple: true },
  'remote': { type: 'boolean', short: 'r' }, 'no-mixed-pathnames': { type: 'boolean', short: 'm' },
} as const;

export const edquota: Tool = async ({ words, text, caller, accounts }) => {
  const { values, positionals } = readWords(words, OPTIONS);
  onlyRoot(caller);
  checkFileSystem(values.filesystem ?? []);
  const kinds = kindsOf(values);
  if (kinds.length > 1) throw new ToolFailure('give -u or -g, not both.');
  const kind = kinds[0]!;
  if (values['edit-times']) throw new ToolFailure('a time of grace of one user alone cannot be set; -t sets that of all.');
  if (values['edit-period']) {
    if (text === undefined) return { status: 0, edit: graceText(accounts, kind) };
    await setBoth(accounts, ...readGrace(text));
    return { status: 0 };
  }
  if (positionals.length === 0) throw new ToolFailure('name whose limits are to change.');
  const ids = positionals.map((who) => findAccount(accounts, kind, who));
  if (values.prototype !== undefined) {
    const limits = limitsOf(accounts, kind, findAccount(accounts, kind, values.prototype));
    for (const id of ids) accounts.limit(kind, id, limits);
    return { status: 0 };
  }
  if (text === undefined) return { status: 0, edit: ids.map((id) => accountText(accounts, kind, id)).join('\n') };
  // All of it is read before any of it holds.
  for (const [id, limits] of readAccounts(text, kind, ids)) accounts.limit(kind, id, limits);
  return { status: 0 };
};

const COLUMNS = `  Filesystem${['blocks', 'soft', 'hard', 'inodes', 'soft', 'hard'].map((name, i) => name.padStart(i === 0 ? 21 : 11)).join('')}\n`;

function accountText(accounts: Accounts, kind: AccountKind, id: number): string {
  const { limits, used } = accounts.of(kind).find((one) => one.id === id) ?? { limits: { space: null, inodes: null }, used: { space: 0, inodes: 0 } };
  const space = pairOf(limits.space);
  const inodes = pairOf(limits.inodes);
  const figures = [...[used.space, space.soft, space.hard].map((bytes) => Math.ceil(bytes / QUOTA_BLOCK)), used.inodes ?? 0, inodes.soft, inodes.hard];
  return `Disk quotas for ${kind} ${accounts.names(kind).get(id) ?? `#${id}`} (${kind[0]}id ${id}):\n${COLUMNS}  ${DEVICE.padEnd(10)}${figures.map((value, i) => String(value).padStart(i === 0 ? 21 : 11)).join('')}\n`;
}

/** @throws ToolFailure for a text that is not of that form: nothing of it is taken */
function readAccounts(text: string, kind: AccountKind, ids: readonly number[]): Map<number, DiskLimits> {
  const found = new Map<number, DiskLimits>();
  let id: number | undefined;
  for (const line of text.split('\n')) {
    const title = /^Disk quotas for (user|group) .* \([ug]id (\d{1,5})\):/.exec(line);
    const words = line.trim().split(/\s+/);
    if (title) {
      id = Number(title[2]);
      if (title[1] !== kind || !ids.includes(id)) throw new ToolFailure(`the limits of ${title[1]} ${id} were not to be edited; nothing is changed.`);
    } else if (words[0] === DEVICE) {
      if (id === undefined || words.length !== 7) throw new ToolFailure('a line of limits has six figures after the name of the file system; nothing is changed.');
      found.set(id, readLimits([words[2]!, words[3]!, words[5]!, words[6]!]));
    } else if (words[0] !== '' && words[0] !== 'Filesystem') {
      throw new ToolFailure(`the line ${JSON.stringify(line.slice(0, 60))} is not understood; nothing is changed.`);
    }
  }
  return found;
}

const UNITS: Record<string, number> = { second: 1, minute: 60, hour: 3600, day: 86_400 };

function graceText({ grace }: Accounts, kind: AccountKind): string {
  const [unit, size] = Object.entries(UNITS).toReversed().find(([, seconds]) => grace % seconds === 0)!;
  const shown = `${grace / size}${unit}s`;
  return `Grace period before enforcing soft limits for ${kind}s:\nTime units may be: days, hours, minutes, or seconds\n  Filesystem             Block grace period     Inode grace period\n  ${DEVICE.padEnd(17)}${shown.padStart(20)}${shown.padStart(23)}\n`;
}

function readGrace(text: string): [blocks: number, inodes: number] {
  const words = text.split('\n').map((line) => line.trim().split(/\s+/)).find(([name]) => name === DEVICE)?.slice(1) ?? [];
  // "7days" or "7 days".
  const times = [...words.join(' ').matchAll(/(\d{1,9}) ?(second|minute|hour|day)s?\b/g)].map(([, count, unit]) => Number(count) * UNITS[unit!]!);
  if (times.length !== 2 || times.includes(0)) throw new ToolFailure('two times of grace are wanted, such as 7days or 12hours; nothing is changed.');
  return times as [number, number];
}
