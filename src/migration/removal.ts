/** Names to remove, of which another node has said how many bytes come. */
import { Writable } from 'node:stream';
import { VeldError } from '../lib/errors.ts';
import { NameRemover } from '../storage/transfer.ts';

/** Most names in one round, in bytes. */
export const NAMES = 64 << 20;

/**
 * Takes names, a NUL behind each, and removes them from a tree.
 * @param length bytes that must come
 * @returns a stream that fails with a VeldError: `migration.stream`, and those of `removePaths`
 */
export function removal(target: string, length: number, signal: AbortSignal): Writable {
  const remover = new NameRemover(target, signal);
  let left = length;
  const take = async (chunk: Buffer): Promise<void> => {
    left -= chunk.length;
    if (left < 0) throw wrong('more names to remove than it had announced');
    await remover.take(chunk);
  };
  const end = (): void => {
    remover.end();
    if (left !== 0) throw wrong('names to remove that are cut off');
  };
  return new Writable({
    write(chunk: Buffer, _encoding, ready) {
      take(chunk).then(() => ready(), ready);
    },
    final(done) {
      try {
        end();
        done();
      } catch (error) {
        done(error as Error);
      }
    },
  });
}

function wrong(what: string): VeldError {
  return new VeldError('migration.stream', `The other node has sent ${what}.`);
}
