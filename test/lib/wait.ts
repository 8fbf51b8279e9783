/** Waiting in tests: always for a condition, never for a time. */
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Wait until `look` gives something other than undefined, null or false.
 * @param what said when it does not come in time
 * @param timeout milliseconds
 */
export async function until<T>(what: string, look: () => T | Promise<T>, timeout = 20_000, step = 25): Promise<NonNullable<T>> {
  const end = Date.now() + timeout;
  let last: unknown;
  for (;;) {
    try {
      const value = await look();
      if (value !== undefined && value !== null && value !== false) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`Waited ${timeout} ms for ${what}, in vain.`, { cause: last });
    await sleep(step);
  }
}
