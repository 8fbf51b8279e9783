/** Pairs of barrier and limit: read, written, compared. Amounts are whole numbers in a row's own unit. */
import { PAGE, UNLIMITED } from './table.ts';
import type { Unit } from './table.ts';

/** Null: unlimited. */
export interface Pair {
  barrier: number | null;
  limit: number | null;
}

/** Powers of 1024 by their letter, in bytes. `P` is pages, as vzctl reads it, and not 1024^5. */
const SUFFIXES: Record<string, number> = { B: 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4, P: PAGE };

/**
 * Read an amount as vzctl does: a number, in bytes or pages with a suffix (B, K, M, G, T, P), or `unlimited`. What is above LONG_MAX is LONG_MAX.
 * @returns undefined for what is none
 */
export function parseAmount(text: string, unit: Unit): number | null | undefined {
  if (text === 'unlimited') return null;
  const [, digits, letter = ''] = /^(\d{1,20})([BKMGTP]?)$/i.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const suffix = SUFFIXES[letter.toUpperCase()];
  // Things are counted: a letter could only be a mistake.
  if (suffix !== undefined && unit === 'items') return undefined;
  const bytes = BigInt(digits) * BigInt(suffix ?? 1);
  const page = BigInt(PAGE);
  const amount = suffix !== undefined && unit === 'pages' ? (bytes + page - 1n) / page : bytes;
  if (amount >= UNLIMITED) return null;
  return amount <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(amount) : undefined;
}

/** Read `BARRIER:LIMIT`, or one amount for both. @returns undefined for what is none, also for a barrier above its limit */
export function parsePair(text: string, unit: Unit): Pair | undefined {
  const parts = text.split(':');
  if (parts.length > 2) return undefined;
  const barrier = parseAmount(parts[0]!, unit);
  const limit = parts[1] === undefined ? barrier : parseAmount(parts[1], unit);
  if (barrier === undefined || limit === undefined) return undefined;
  return isOrdered({ barrier, limit }) ? { barrier, limit } : undefined;
}

/** As {@link parsePair} reads it again: without suffixes, exact. */
export function formatPair({ barrier, limit }: Pair): string {
  return `${barrier ?? 'unlimited'}:${limit ?? 'unlimited'}`;
}

/** Whether the barrier is not above the limit. */
export function isOrdered({ barrier, limit }: Pair): boolean {
  return compare(barrier, limit) <= 0;
}

/** Below 0, 0, or above, as the first is less than, equal to, or more than the second. Unlimited is more than all. */
export function compare(a: number | null, b: number | null): number {
  if (a === b) return 0;
  if (a === null) return 1;
  return b === null ? -1 : a - b;
}

/** An amount as OpenVZ's file writes it. */
export function formatAmount(amount: number | null): string {
  return amount === null ? String(UNLIMITED) : String(amount);
}

/** Pages that hold so many bytes. */
export function pagesOf(bytes: number): number {
  return Math.ceil(bytes / PAGE);
}
