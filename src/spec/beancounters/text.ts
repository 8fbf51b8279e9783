/** The text of OpenVZ's `/proc/user_beancounters`, which programs read by columns. Formats: kernel/bc/proc.c of OpenVZ's kernels. */
import { formatAmount } from './pairs.ts';
import type { Beancounters } from './table.ts';

/** Columns as a 64-bit kernel has them: 10 for the number, a colon or a space, 12 for the name, 20 for each amount. */
const row = (uid: string, colon: ':' | ' ', resource: string, amounts: readonly string[]): string => `${uid.padStart(10)}${colon} ${resource.padEnd(12)}${amounts.map((amount) => ` ${amount.padStart(20)}`).join('')}\n`;

/** The two lines above all rows. */
export const HEAD = `Version: 2.5\n${row('uid', ' ', 'resource', ['held', 'maxheld', 'barrier', 'limit', 'failcnt'])}`;

/** Rows of one VE: the first one carries its number. */
export function rowsText({ number, rows }: Beancounters): string {
  return rows.map(({ name, held, maxheld, barrier, limit, failcnt }, i) => {
    const amounts = name === 'dummy' ? ['0', '0', '0', '0', '0'] : [String(held), String(maxheld), formatAmount(barrier), formatAmount(limit), String(failcnt)];
    return row(i === 0 ? String(number) : '', i === 0 ? ':' : ' ', name, amounts);
  }).join('');
}

/** The whole file of one VE. */
export function beancountersText(beancounters: Beancounters): string {
  return HEAD + rowsText(beancounters);
}
