/** How far a copy has come, on one line of the user's terminal. */
import type { Context } from '../context.ts';
import { truncate } from '../show/table.ts';
import { formatBytes } from '../show/text.ts';

/** Milliseconds between two drawings; a copy that takes less draws nothing. */
const PAUSE = 250;

export interface CopyProgress {
  /** Bytes have passed. */
  add(bytes: number): void;
  clear(): void;
}

export function copyProgress(context: Pick<Context, 'err' | 'errIsTerminal'>, label: string): CopyProgress {
  if (!context.errIsTerminal) return { add: () => {}, clear: () => {} };
  const began = performance.now();
  let last = began;
  let total = 0;
  let drawn = false;
  return {
    add(bytes) {
      total += bytes;
      const now = performance.now();
      if (now - last < PAUSE) return;
      last = now;
      drawn = true;
      const rate = total / ((now - began) / 1000);
      context.err(`\r\x1b[K${truncate(`${label}: ${formatBytes(total)}, ${formatBytes(Math.round(rate))}/s`, (process.stderr.columns || 80) - 1)}`);
    },
    clear() {
      if (drawn) context.err('\r\x1b[K');
      drawn = false;
    },
  };
}
