/** A rate that what is sent does not exceed. */

/** What may go at once after a silence: what comes together in this time, in seconds. */
const BURST = 0.1;
/** Parts of bulk data take no longer than this, in seconds; and the smallest, in bytes. */
const PART = 0.05;
const SMALLEST = 4096;

/** Lowest and highest rate that can be asked for, in bytes per second: with less a VE would stand for hours. */
export const BANDWIDTH = { min: 64 << 10, max: 2 ** 50 };

export interface Throttle {
  /** How large the parts should be that are sent, in bytes. */
  part: number;
  /** Count bytes as sent. @returns for how long they must wait before, in milliseconds */
  take(bytes: number): number;
}

/**
 * A bucket of tokens. More may be taken than there is: whoever comes next waits for it, too.
 * @param rate bytes per second @param now a clock, in milliseconds
 */
export function createThrottle(rate: number, now: () => number = () => performance.now()): Throttle {
  const most = rate * BURST;
  let [tokens, at] = [most, now()];
  return {
    part: Math.max(SMALLEST, Math.round(rate * PART)),
    take(bytes) {
      const time = now();
      tokens = Math.min(most, tokens + (time - at) / 1000 * rate) - bytes;
      at = time;
      return Math.max(0, -tokens / rate * 1000);
    },
  };
}
