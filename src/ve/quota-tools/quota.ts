/** `quota`: what a user has and may have. Options and format: quota(1). */
import { DEVICE, figuresOf, type Figures } from './layout.ts';
import { checkFileSystem, findAccount, FORMAT, KINDS, kindsOf, readWords } from './words.ts';
import type { AccountKind, Accounts, Tool } from './types.ts';
import { ToolFailure } from './types.ts';

const OPTIONS = {
  ...FORMAT, ...KINDS,
  'verbose': { type: 'boolean', short: 'v' }, 'human-readable': { type: 'boolean', short: 's' }, 'raw-grace': { type: 'boolean', short: 'p' }, 'quiet': { type: 'boolean', short: 'q' },
  'filesystem': { type: 'string', short: 'f', multiple: true },
  // About other file systems than the only one here, and how wide its name may be.
  'local-only': { type: 'boolean', short: 'l' }, 'no-wrap': { type: 'boolean', short: 'w' }, 'no-autofs': { type: 'boolean', short: 'i' }, 'all-nfs': { type: 'boolean', short: 'A' }, 'no-mixed-pathnames': { type: 'boolean', short: 'm' }, 'show-mntpoint': { type: 'boolean' }, 'hide-device': { type: 'boolean' },
} as const;

/** Anybody may see the own account, and those of the own groups; root all of them. */
export const quota: Tool = ({ words, caller, accounts }) => {
  const { values, positionals } = readWords(words, OPTIONS);
  checkFileSystem(values.filesystem ?? []);
  const kinds = kindsOf(values);
  if (positionals.length > 0 && kinds.length > 1) throw new ToolFailure('-u and -g do not go with names.');
  const wanted = kinds.flatMap((kind): [AccountKind, number][] => {
    if (positionals.length > 0) return positionals.map((who) => [kind, findAccount(accounts, kind, who)]);
    return kind === 'user' ? [[kind, caller.uid]] : caller.groups.map((id) => [kind, id]);
  });
  for (const [kind, id] of wanted) {
    const own = kind === 'user' ? id === caller.uid : caller.groups.includes(id);
    if (!own && caller.uid !== 0) throw new ToolFailure(`Permission denied: only root may see the quotas of other ${kind}s.`);
  }
  let out = '';
  let over = false;
  for (const [kind, id] of wanted) {
    const account = accounts.of(kind).find((one) => one.id === id) ?? { id, limits: { space: null, inodes: null }, used: { space: 0, inodes: 0, spaceUntil: null, inodesUntil: null } };
    const figures = figuresOf(account, accounts.now, values['human-readable'], values['raw-grace']);
    over ||= figures.over || figures.filesOver;
    const limited = account.limits.space !== null || account.limits.inodes !== null;
    const title = `Disk quotas for ${kind} ${accounts.names(kind).get(id) ?? `#${id}`} (${kind[0]}id ${id}): `;
    if (values.quiet) out += quietLines(title, figures);
    else if (!limited && !values.verbose) out += `${title}none\n`;
    else out += `${title}\n${HEAD}${row(figures)}`;
  }
  return { status: over ? 1 : 0, out };
};

const HEAD = '     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n';

function row({ used, soft, hard, grace, files, filesSoft, filesHard, filesGrace, over, filesOver }: Figures): string {
  const right = (text: string): string => text.padStart(8);
  return `${DEVICE.padStart(15)}${right(used)}${over ? '*' : ' '}${soft.padStart(7)}${right(hard)}${right(grace)}${right(files)}${filesOver ? '*' : ' '}${filesSoft.padStart(7)}${right(filesHard)}${right(filesGrace)}\n`;
}

function quietLines(title: string, figures: Figures): string {
  const of = (what: string, over: boolean, grace: string): string => (!over ? '' : `\t${grace === '' ? `${what} limit reached on` : grace === 'none' ? `Over ${what.toLowerCase()} quota on` : `In ${what.toLowerCase()} grace period on`} /\n`);
  const lines = of('Block', figures.over, figures.grace) + of('File', figures.filesOver, figures.filesGrace);
  return lines === '' ? '' : `${title.trimEnd()}\n${lines}`;
}

/** The accounts of a kind that have more than they should. */
export function thoseOver(accounts: Accounts, kind: AccountKind): { id: number; figures: Figures }[] {
  return accounts.of(kind).map((account) => ({ id: account.id, figures: figuresOf(account, accounts.now) })).filter(({ figures }) => figures.over || figures.filesOver);
}
