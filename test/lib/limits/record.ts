/**
 * What was seen of each limit, by kind of host and kernel: the file of which scripts/generate-docs.ts makes the table in docs/explanation/limits.md. Tests write into it where VELD_TEST_RECORD names it:
 *
 *   VELD_TEST_RECORD=$PWD/test/lib/limits/seen.json ./check system test/system/limits.test.ts
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Answers } from './neighbour.ts';

/** `held`: filled, refused, raised, passed; `written`: taken, and this host has nothing of which it could be filled; `refused`: Veld refuses the property here. */
export type State = 'held' | 'written' | 'refused';

export interface Seen {
  state: State;
  /** Day, as YYYY-MM-DD. */
  date: string;
  /** Of `written` and `refused`: why. */
  why?: string;
  neighbour?: Answers;
}

/** Property to what happens over it, in words, and to what was seen on each host (`v2 6.12`). */
export type LimitRecord = Record<string, { over: string; counted: string; hosts: Record<string, Seen> }>;

export function readRecord(file: string): LimitRecord {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) as LimitRecord : {};
}

/** Name of a host's column. */
export function columnOf(ground: { groups: 'v2' | 'hybrid'; kernel: string }): string {
  return `${ground.groups} ${ground.kernel.split('.').slice(0, 2).join('.')}`;
}

/** Note what was seen, when a record is wanted. What held on one disk of a host does not go because another disk of it has not what it needs. */
export function note(ground: { groups: 'v2' | 'hybrid'; kernel: string }, fill: { property: string; over: string; counted: string }, seen: Omit<Seen, 'date'>): void {
  const file = process.env.VELD_TEST_RECORD;
  if (file === undefined) return;
  const record = readRecord(file);
  const { property, over, counted } = fill;
  if (seen.state !== 'held' && record[property]?.hosts[columnOf(ground)]?.state === 'held') return;
  const hosts = { ...record[property]?.hosts, [columnOf(ground)]: { ...seen, date: new Date().toISOString().slice(0, 10) } };
  const sorted = Object.fromEntries(Object.entries({ ...record, [property]: { over, counted, hosts } }).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(`${file}.new`, `${JSON.stringify(sorted, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}
