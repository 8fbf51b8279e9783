/** Files and folders from one side to the other, as one tar stream that is looked through on its way. */
import { veSource, veTarget, type Target } from './ends.ts';
import { sanitise } from '../show/text.ts';
import type { CopyJob } from './job.ts';
import { localSource, localTarget } from './local.ts';
import { nameOf, type Place } from './places.ts';
import { TarFilter, trailer } from './tar-filter.ts';

type Tree = Exclude<Place, { kind: 'stream' }>;

/** @returns what was odd (files that changed meanwhile), as lines for the user */
export async function copyTree(job: CopyJob, from: Tree, to: Tree): Promise<string> {
  const { client, follow, privileged, progress, signal } = job;
  const source = from.kind === 've' ? await veSource(client, from.ve, { path: from.path, as: 'tree', follow }) : localSource(from.path, follow);
  const filter = new TarFilter({ strip: from.kind === 've' && !privileged, devices: privileged });
  let target: Target | undefined;
  const cancelled = (): void => {
    source.abort();
    source.stream.destroy();
  };
  signal.addEventListener('abort', cancelled, { once: true });
  try {
    for await (const chunk of source.stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      signal.throwIfAborted();
      const parts = filter.write(chunk);
      if (filter.root !== undefined) target ??= await openTarget(job, to, nameOf(from.path), filter.root === 'folder');
      for (const part of parts) await target?.write(part);
      progress.add(chunk.length);
    }
    // First whether the source is whole: only then may the target hear of an end.
    const said = await source.finished();
    filter.end();
    signal.throwIfAborted();
    await target!.write(trailer(to.kind === 've'));
    await target!.commit();
    return said === '' ? '' : sanitise(said).replace(/^(?=.)/gm, 'veld: ');
  } catch (error) {
    source.abort();
    await target?.abort();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', cancelled);
  }
}

async function openTarget({ client, privileged }: CopyJob, to: Tree, name: string, folder: boolean): Promise<Target> {
  return to.kind === 've' ? veTarget(client, to.ve, { path: to.path, as: 'tree', folder, name }) : localTarget({ path: to.path, name, folder, privileged });
}
