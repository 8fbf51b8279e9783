/** `warnquota`: a mail to everybody who has more than they should. Options: warnquota(8). */
import { DEVICE } from './layout.ts';
import { thoseOver } from './quota.ts';
import { FORMAT, KINDS, kindsOf, onlyRoot, readWords } from './words.ts';
import type { Figures } from './layout.ts';
import type { Tool } from './types.ts';

const OPTIONS = {
  ...FORMAT, ...KINDS,
  'human-readable': { type: 'boolean', short: 's' }, 'no-autofs': { type: 'boolean', short: 'i' }, 'no-details': { type: 'boolean', short: 'd' },
} as const;

/** Users get a mail each; that of a group goes to root, who knows whom it concerns. */
export const warnquota: Tool = ({ words, caller, accounts }) => {
  const { values } = readWords(words, OPTIONS);
  onlyRoot(caller);
  const mails = kindsOf(values).flatMap((kind) => thoseOver(accounts, kind).flatMap(({ id, figures }) => {
    const name = accounts.names(kind).get(id);
    // Whom nobody can write to by name is nobody; and a name with more than this in it is no address.
    if (name === undefined || !/^[\w.-]{1,64}$/.test(name)) return [];
    return [letter(kind === 'user' ? name : 'root', kind === 'user' ? 'Your disk usage has' : `The disk usage of the group ${name} has`, values['no-details'] ? '' : table(figures))];
  }));
  return { status: 0, mails };
};

function letter(to: string, who: string, details: string): string {
  return `From: root\nTo: ${to}\nSubject: NOTE: You are exceeding your allocated disk space limits\nAuto-Submitted: auto-generated\n\n${who} exceeded the agreed limits on this server.\nPlease delete any unnecessary files on the following filesystem:\n\n${DEVICE} (/)\n${details}`;
}

function table({ used, soft, hard, grace, files, filesSoft, filesHard, filesGrace, over, filesOver }: Figures): string {
  return `\n                        Block limits               File limits\nFilesystem           used    soft    hard  grace    used  soft  hard  grace\n${DEVICE.padEnd(14)}${over ? '+' : '-'}${filesOver ? '+' : '-'}${[used, soft, hard].map((text) => text.padStart(8)).join('')} ${grace.padStart(6)}${files.padStart(8)}${[filesSoft, filesHard].map((text) => text.padStart(6)).join('')} ${filesGrace.padStart(6)}\n`;
}
