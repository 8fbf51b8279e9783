/** `setquota`: change limits with words. Options: setquota(8). */
import { limitOf, readBlocks, readCount } from './layout.ts';
import { checkFileSystem, findAccount, FORMAT, KINDS, kindsOf, onlyRoot, readWords } from './words.ts';
import type { DiskLimits } from '../../storage/types.ts';
import type { AccountKind, Accounts, Tool } from './types.ts';
import { ToolFailure } from './types.ts';

const OPTIONS = {
  ...FORMAT, ...KINDS,
  'all': { type: 'boolean', short: 'a' }, 'prototype': { type: 'string', short: 'p' }, 'batch': { type: 'boolean', short: 'b' }, 'continue-batch': { type: 'boolean', short: 'c' }, 'edit-period': { type: 'boolean', short: 't' }, 'edit-times': { type: 'boolean', short: 'T' },
  'remote': { type: 'boolean', short: 'r' }, 'no-mixed-pathnames': { type: 'boolean', short: 'm' },
} as const;

const USAGE = 'Usage: setquota [-u|-g] NAME BLOCK-SOFT BLOCK-HARD INODE-SOFT INODE-HARD -a|FILESYSTEM; -p PROTOTYPE NAME -a|FILESYSTEM; -b -a|FILESYSTEM; -t BLOCK-GRACE INODE-GRACE -a|FILESYSTEM.';

export const setquota: Tool = async ({ words, text, caller, accounts }) => {
  const { values, positionals } = readWords(words, OPTIONS);
  onlyRoot(caller);
  const kinds = kindsOf(values);
  if (kinds.length > 1) throw new ToolFailure('give -u or -g, not both.');
  const kind = kinds[0]!;
  if (values['edit-times']) throw new ToolFailure('a time of grace of one user alone cannot be set; -t sets that of all.');
  const take = (count: number): string[] => {
    const file = positionals.slice(count);
    if (positionals.length < count || (file.length === 0) !== (values.all === true)) throw new ToolFailure(USAGE);
    checkFileSystem(file);
    return positionals.slice(0, count);
  };
  if (values['edit-period']) {
    const [blocks, inodes] = take(2).map(readSeconds) as [number, number];
    await setBoth(accounts, blocks, inodes);
    return { status: 0 };
  }
  if (values.batch) {
    take(0);
    return text === undefined ? { status: 0, input: true } : batch(accounts, kind, text, values['continue-batch'] === true);
  }
  if (values.prototype !== undefined) {
    const [who] = take(1) as [string];
    const model = findAccount(accounts, kind, values.prototype);
    accounts.limit(kind, findAccount(accounts, kind, who), limitsOf(accounts, kind, model));
    return { status: 0 };
  }
  const [who, ...figures] = take(5) as [string, string, string, string, string];
  accounts.limit(kind, findAccount(accounts, kind, who), readLimits(figures));
  return { status: 0 };
};

/** @param figures soft and hard limit of blocks, then of files */
export function readLimits([soft, hard, filesSoft, filesHard]: readonly string[]): DiskLimits {
  return { space: limitOf(readBlocks(soft ?? ''), readBlocks(hard ?? '')), inodes: limitOf(readCount(filesSoft ?? ''), readCount(filesHard ?? '')) };
}

/** Limits of an account; none where it has nothing. */
export function limitsOf(accounts: Accounts, kind: AccountKind, id: number): DiskLimits {
  return accounts.of(kind).find((one) => one.id === id)?.limits ?? { space: null, inodes: null };
}

/** Veld keeps one time of grace. @throws ToolFailure for two */
export async function setBoth(accounts: Accounts, blocks: number, inodes: number): Promise<void> {
  if (blocks !== inodes) throw new ToolFailure('one time of grace holds for blocks and inodes, and for users and groups; give the same one twice. Nothing is changed.');
  await accounts.setGrace(blocks);
}

function readSeconds(text: string): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) === 0) throw new ToolFailure(`${JSON.stringify(text.slice(0, 20))} is no time of grace; give seconds.`);
  return Number(text);
}

/** Lines of standard input: a name and its four limits, each. */
function batch(accounts: Accounts, kind: AccountKind, text: string, goOn: boolean): { status: number; err: string } {
  let err = '';
  for (const [index, line] of text.split('\n').entries()) {
    const words = line.trim().split(/\s+/);
    if (words[0] === '' || words[0]!.startsWith('#')) continue;
    try {
      if (words.length !== 5) throw new ToolFailure('a line is a name and four limits.');
      accounts.limit(kind, findAccount(accounts, kind, words[0]!), readLimits(words.slice(1)));
    } catch (error) {
      err += `setquota: line ${index + 1}: ${(error as Error).message}${goOn ? '' : ' The lines before it hold.'}\n`;
      if (!goOn) break;
    }
  }
  return { status: err === '' ? 0 : 1, err };
}
