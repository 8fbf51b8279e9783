/** Names to remove, as they come: they are never all in memory. */
import { Writable } from 'node:stream';
import { VeldError } from '../lib/errors.ts';
import { removePaths } from '../storage/transfer.ts';

/** Most names in one round, in bytes. */
export const NAMES = 64 << 20;
/** How many are removed at a time, and the longest, in bytes: PATH_MAX of linux/limits.h. */
const BATCH = 4096;
const LONGEST = 4096;

/**
 * Takes names, a NUL behind each, and removes them from a tree.
 * @param length bytes that must come
 * @returns a stream that fails with a VeldError: `migration.stream`, and those of `removePaths`
 */
export function removal(target: string, length: number, signal: AbortSignal): Writable {
  let left = length;
  let rest = Buffer.alloc(0);
  const take = async (chunk: Buffer): Promise<void> => {
    left -= chunk.length;
    if (left < 0) throw wrong('more names to remove than it had announced');
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    let at = 0;
    for (let names: string[] = []; ; names = []) {
      for (let end; names.length < BATCH && (end = bytes.indexOf(0, at)) >= 0; at = end + 1) names.push(bytes.toString('latin1', at, end));
      if (names.length === 0) break;
      await removePaths(target, names, { signal });
    }
    rest = Buffer.from(bytes.subarray(at));
    if (rest.length > LONGEST) throw wrong('a name to remove that is too long');
  };
  return new Writable({
    write(chunk: Buffer, _encoding, ready) {
      take(chunk).then(() => ready(), ready);
    },
    final: (done) => done(left === 0 && rest.length === 0 ? null : wrong('names to remove that are cut off')),
  });
}

function wrong(what: string): VeldError {
  return new VeldError('migration.stream', `The other node has sent ${what}.`);
}
