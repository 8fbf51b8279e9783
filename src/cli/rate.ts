/** Rates on the command line. */
import { VeldError } from '../lib/errors.ts';
import { parseBytes } from '../spec/values.ts';

/** What a migration takes: 64 KiB to a PiB a second. */
const [LOWEST, HIGHEST] = [2 ** 16, 2 ** 50];

/** `50M`, `1GiB`, `500000` as bytes per second. @throws VeldError `usage` */
export function parseRate(text: string): number {
  const rate = parseBytes(text);
  if (rate === undefined || rate < LOWEST || rate > HIGHEST) throw new VeldError('usage', `'${text}' is not a number of bytes per second such as 50M, at least 64K (K, M, G are powers of 1024).`);
  return rate;
}

/** The option of commands that send VEs. */
export const BANDWIDTH = { flags: '--bandwidth <rate>', parse: parseRate } as const;
