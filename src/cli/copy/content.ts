/** The content of one file: to standard output, from standard input. */
import type { Readable, Writable } from 'node:stream';
import { pour, veSource, veTarget } from './ends.ts';
import type { CopyJob } from './job.ts';
import type { Place } from './places.ts';

type InVe = Place & { kind: 've' };

/** Most bytes of a frame, see writeToVe in src/ve/copy.ts. */
const FRAME = 1 << 20;

/** A file's content to a stream of ours. */
export async function copyContent({ client, follow, progress, signal }: CopyJob, from: InVe, to: Writable): Promise<void> {
  const source = await veSource(client, from.ve, { path: from.path, as: 'content', follow });
  try {
    for await (const chunk of source.stream.iterator({ destroyOnReturn: false })) {
      signal.throwIfAborted();
      progress.add((chunk as Buffer).length);
      await pour(to, chunk as Buffer);
    }
    await source.finished();
  } catch (error) {
    source.abort();
    signal.throwIfAborted();
    throw error;
  }
}

/** What a stream of ours holds becomes a file. */
export async function writeContent({ client, progress, signal }: CopyJob, from: Readable, to: InVe): Promise<void> {
  const target = await veTarget(client, to.ve, { path: to.path, as: 'content' });
  const cancelled = (): void => { from.destroy(signal.reason as Error); };
  signal.addEventListener('abort', cancelled, { once: true });
  // Whoever writes to us may be silent for long: the end of the other side must be noticed meanwhile, too.
  void target.over.then(() => from.destroy());
  try {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length; at += FRAME) {
        const part = chunk.subarray(at, at + FRAME);
        await target.write(Buffer.concat([Buffer.from(`${part.length}\n`), part]));
      }
      progress.add(chunk.length);
    }
    signal.throwIfAborted();
    await target.write(Buffer.from('end\n'));
    await target.commit();
  } catch (error) {
    await target.abort();
    if (!signal.aborted) target.check();
    throw error;
  } finally {
    signal.removeEventListener('abort', cancelled);
  }
}
