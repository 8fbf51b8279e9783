/** Beancounters for people: what the numbers of a table do not say, and what has changed since another look. */
import { formatAmount } from '../../spec/beancounters/pairs.ts';
import type { Beancounter, Beancounters } from '../../spec/beancounters/table.ts';
import { HEAD, rowsText } from '../../spec/beancounters/text.ts';
import { wrap } from '../help.ts';

const FIELDS = ['held', 'maxheld', 'barrier', 'limit', 'failcnt'] as const;

/** What holds here and what does not, in lines. @param width columns of the terminal */
export function beancounterNotes({ rows }: Beancounters, width: number): string {
  const named = rows.filter(({ name }) => name !== 'dummy');
  const list = (title: string, found: readonly Beancounter[]): string[] => (found.length === 0 ? [] : [`${title}: ${found.map(({ name }) => name).join(', ')}.`]);
  const counted = named.filter((row) => row.counted !== null);
  return [
    ...list('Counted and limited', counted.filter((row) => row.enforced !== null)),
    ...list('Counted only, nothing limits it here', counted.filter((row) => row.enforced === null)),
    ...list('Not known on this kernel, the zeros say nothing', named.filter((row) => row.counted === null)),
    ...list('maxheld is no peak, but what is held now', counted.filter(({ kept }) => !kept.includes('maxheld'))),
    ...list('failcnt is not kept', counted.filter(({ kept, enforced }) => enforced !== null && !kept.includes('failcnt'))),
    ...named.filter(({ note }) => note !== null).map(({ name, note }) => `${name}: ${note}`),
  ].map((line) => wrap(line, Math.min(width, 132), '')).join('');
}

/** Rows that are not as they were. */
export function changedRows(before: Beancounters | undefined, now: Beancounters): Beancounter[] {
  return now.rows.filter((row, i) => {
    const old = before?.rows[i];
    return old === undefined || FIELDS.some((field) => row[field] !== old[field]);
  });
}

/** The whole at first, afterwards what has changed and by how much; empty when nothing has. */
export function changesText(before: Beancounters | undefined, now: Beancounters, time: string): string {
  if (before === undefined) return HEAD + rowsText(now);
  const changed = changedRows(before, now);
  if (changed.length === 0) return '';
  const [, ...lines] = rowsText({ ...now, rows: [now.rows[0]!, ...changed] }).trimEnd().split('\n');
  return `${time}\n${lines.map((line, i) => `${line}  ${differences(before, now, changed[i]!)}\n`).join('')}`;
}

function differences(before: Beancounters, now: Beancounters, row: Beancounter): string {
  const old = before.rows[now.rows.indexOf(row)]!;
  return FIELDS.filter((field) => row[field] !== old[field]).map((field) => {
    const [was, is] = [old[field], row[field]];
    return was === null || is === null ? `${field} was ${formatAmount(was)}` : `${field} ${is > was ? '+' : ''}${is - was}`;
  }).join(', ');
}
