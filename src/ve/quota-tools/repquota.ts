/** `repquota`: all users and groups. Options and format: repquota(8). */
import { DEVICE, figuresOf, timeLeft, type Figures } from './layout.ts';
import { checkFileSystem, FORMAT, KINDS, kindsOf, onlyRoot, readWords } from './words.ts';
import type { AccountKind, Accounts, Tool } from './types.ts';
import { ToolFailure } from './types.ts';

const OPTIONS = {
  ...FORMAT, ...KINDS,
  'all': { type: 'boolean', short: 'a' }, 'verbose': { type: 'boolean', short: 'v' }, 'human-readable': { type: 'boolean', short: 's' }, 'raw-grace': { type: 'boolean', short: 'p' }, 'no-names': { type: 'boolean', short: 'n' },
  'output': { type: 'string', short: 'O' }, 'truncate-names': { type: 'boolean', short: 't' },
  // How names are looked up, and on which file systems: there is one way, and one file system.
  'cache': { type: 'boolean', short: 'C' }, 'no-cache': { type: 'boolean', short: 'c' }, 'no-autofs': { type: 'boolean', short: 'i' },
} as const;

export const repquota: Tool = ({ words, caller, accounts }) => {
  const { values, positionals } = readWords(words, OPTIONS);
  onlyRoot(caller);
  checkFileSystem(positionals);
  if (positionals.length === 0 && values.all !== true) throw new ToolFailure('bad number of arguments: name a file system, or give -a.');
  if (values.output !== undefined && values.output !== 'default' && values.output !== 'csv') throw new ToolFailure(`the output ${values.output.slice(0, 20)} is not known: default or csv.`);
  const rows = kindsOf(values).map((kind) => ({ kind, rows: rowsOf(accounts, kind, values) }));
  if (values.output === 'csv') return { status: 0, out: rows.map(({ kind, rows }) => csv(kind, rows)).join('') };
  return { status: 0, out: rows.map(({ kind, rows }) => report(kind, rows, accounts.grace, values['truncate-names'] === true)).join('\n') };
};

interface Row {
  name: string;
  figures: Figures;
}

function rowsOf(accounts: Accounts, kind: AccountKind, { verbose, 'human-readable': human, 'raw-grace': raw, 'no-names': numbers }: { 'verbose'?: boolean; 'human-readable'?: boolean; 'raw-grace'?: boolean; 'no-names'?: boolean }): Row[] {
  return accounts.of(kind)
    .filter(({ used, limits }) => verbose === true || used.space > 0 || (used.inodes ?? 0) > 0 || limits.space !== null || limits.inodes !== null)
    .map((account) => ({ name: (numbers === true ? undefined : accounts.names(kind).get(account.id)) ?? `#${account.id}`, figures: figuresOf(account, accounts.now, human, raw) }));
}

/** Letters of the two marks, as the format has them. */
function marks({ over, filesOver }: Figures): string {
  return `${over ? '+' : '-'}${filesOver ? '+' : '-'}`;
}

function report(kind: AccountKind, rows: Row[], grace: number, truncate: boolean): string {
  const width = 9;
  const title = kind === 'user' ? 'User' : 'Group';
  const lines = rows.map(({ name, figures }) => {
    const { used, soft, hard, grace, files, filesSoft, filesHard, filesGrace } = figures;
    return `${(truncate ? name.slice(0, width) : name).padEnd(width)} ${marks(figures)}${[used, soft, hard].map((text) => text.padStart(8)).join('')} ${grace.padStart(6)}${files.padStart(8)}${[filesSoft, filesHard].map((text) => text.padStart(6)).join('')} ${filesGrace.padStart(6)}\n`;
  });
  return `*** Report for ${kind} quotas on device ${DEVICE}\nBlock grace time: ${timeLeft(grace)}; Inode grace time: ${timeLeft(grace)}\n`
    + `${' '.repeat(24)}Block limits                File limits\n${title.padEnd(16)}used    soft    hard  grace    used  soft  hard  grace\n${'-'.repeat(70)}\n${lines.join('')}`;
}

function csv(kind: AccountKind, rows: Row[]): string {
  // Names of a VE's own files may hold anything but what ends them (passwd(5)).
  const cell = (text: string): string => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return [`${kind === 'user' ? 'User' : 'Group'},BlockStatus,FileStatus,BlockUsed,BlockSoftLimit,BlockHardLimit,BlockGrace,FileUsed,FileSoftLimit,FileHardLimit,FileGrace`,
    ...rows.map(({ name, figures: { over, filesOver, used, soft, hard, grace, files, filesSoft, filesHard, filesGrace } }) => [name, over ? 'soft' : 'ok', filesOver ? 'soft' : 'ok', used, soft, hard, grace, files, filesSoft, filesHard, filesGrace].map(cell).join(',')), ''].join('\n');
}
