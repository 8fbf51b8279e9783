/** Small things about streams. */
import type { Writable } from 'node:stream';

/** Write, and wait until the stream takes more. It is not waited for when it is at its end, however that came. */
export async function writeTo(stream: Writable, bytes: Uint8Array): Promise<void> {
  if (stream.destroyed || stream.write(bytes) || stream.destroyed) return;
  await new Promise<void>((go) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      go();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}
