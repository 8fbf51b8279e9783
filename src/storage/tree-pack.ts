/** The sending side: names of a tree become a stream. */
import { closeSync } from 'node:fs';
import { Readable } from 'node:stream';
import { startBox } from '../kernel/box.ts';
import type { TreeRoot } from '../kernel/mounts.ts';
import { VeldError } from '../lib/errors.ts';
import { storageError } from './folders.ts';
import { opaqueFolders, openRoot } from './tree-folders.ts';
import type { TreeName } from './tree-scan.ts';

/** The beginning of a stream: these bytes, the length of what follows (32 bits, big-endian), the paths of opaque folders, each with a NUL behind it. Then comes the archive. */
export const STREAM_MAGIC = Buffer.from('VELDTREE');

export interface TreePack {
  /**
   * Send these names, in this order. To be called once; resolves when tar has them all, so that somebody must read `output` meanwhile.
   * @param opaque folders among them through which nothing shows, although they themselves do not say so
   * @throws VeldError `storage.failed`, `operation.cancelled`
   */
  send(names: readonly TreeName[], opaque?: ReadonlySet<string>): Promise<void>;
  /** The stream. It fails with what `ended` rejects with. */
  output: Readable;
  /**
   * Settles at the end. `skipped`: names that were gone, or led through something that is no folder any more.
   * Rejects with a VeldError `storage.failed` for what cannot be read, `operation.cancelled`.
   */
  ended: Promise<{ skipped: number }>;
  /** End it, whatever it does. */
  cancel(): void;
}

/** What tar says of a name that has changed since it was asked for. */
const RACES = /: (No such file or directory|Not a directory|Too many levels of symbolic links|Stale file handle)$/;
/** What it says without need: the content has changed, and the next round has it. */
const HARMLESS = /: (file changed as we read it|socket ignored|File shrank by \d+ bytes; padding with zeros|File removed before we read it|Removing leading .*)$/;
const TRAILER = /Exiting with failure status due to previous errors$/;

/** Names per write into tar's input. */
const BATCH = 512;

/**
 * Make a stream of parts of a tree. The program (GNU tar) stands ready in a box, and waits for names.
 *
 * The VE may change the tree meanwhile. No path is followed through a link in it (the box refuses), so that nothing but the tree is read; what has gone is left
 * out; what is changed while it is read is half old and half new, and the next round brings it again.
 * Go along: content with its holes, owners by number, modes, times of modification, ACLs, `user.*` attributes, file capabilities, and what tree-folders.ts says.
 * Two names of one FIFO become two FIFOs: GNU tar links files and symbolic links only.
 * @param root a folder of Veld's own, or several as one tree, in which nothing is deleted or opaque
 */
export function packTree(root: TreeRoot, options: { signal?: AbortSignal } = {}): TreePack {
  const errors: string[] = [];
  let skipped = 0;
  let cancelled = false;
  const box = startBox(['/usr/bin/tar', '--create', '--file=-', '--directory=/in', '--format=posix', '--pax-option=delete=atime,delete=ctime', '--numeric-owner', '--sparse',
    '--acls', '--xattrs', '--xattrs-include=user.*', '--xattrs-include=security.capability', '--no-recursion', '--ignore-failed-read', '--null', '--no-unquote', '--files-from=-'],
  {
    in: root, links: 'refused', capabilities: ['dac_read_search'], stdin: 'pipe', stdout: 'pipe', ...options.signal && { signal: options.signal },
    onLine: (line) => {
      if (RACES.test(line)) skipped += 1;
      else if (!HARMLESS.test(line) && !TRAILER.test(line)) errors.push(line);
    },
  });
  // Of a program that has ended Node throws away what nobody has begun to read: a small tree would be cut short.
  box.stdout!.on('readable', () => {});
  const header = Promise.withResolvers<Buffer>();
  header.promise.catch(() => {}); // `output` tells
  const finished = (async () => {
    const { code, said } = await box.ended;
    if (cancelled) throw new VeldError('operation.cancelled', 'The stream was given up.');
    // 1: something changed while it was read. 2 comes with a line for each reason.
    if (errors.length > 0 || code === null || code > 2) throw new VeldError('storage.failed', `${String(root)} could not be read: ${errors[0] ?? (said || `tar ended with status ${code}`)}`);
    return { skipped };
  })();
  finished.catch((error: unknown) => header.reject(error));
  const cancel = (): void => {
    cancelled = true;
    box.kill();
  };
  const output = Readable.from(stream(), { objectMode: false, highWaterMark: 1 << 18 });
  output.once('close', cancel); // nobody reads it any more: nothing to end when all has been read
  return {
    ended: finished,
    cancel,
    output,
    async send(names, others = new Set()) {
      let folder: number | undefined;
      try {
        const only = typeof root === 'object' && root.length === 1 ? root[0]! : root;
        if (typeof only === 'string') folder = openRoot(only);
        const folders = names.filter(({ type }) => type === 'folder').map(({ path }) => path);
        const all = new Set([...folder === undefined ? [] : await opaqueFolders(folder, folders), ...folders.filter((path) => others.has(path))]);
        const opaque = Buffer.from([...all].map((path) => `${path}\0`).join(''), 'latin1');
        const length = Buffer.alloc(4);
        length.writeUInt32BE(opaque.length);
        header.resolve(Buffer.concat([STREAM_MAGIC, length, opaque]));
      } catch (error) {
        const known = storageError(String(root), error);
        header.reject(known);
        cancel();
        throw known;
      } finally {
        if (folder !== undefined) closeSync(folder);
      }
      for (let i = 0; i < names.length; i += BATCH) {
        const text = names.slice(i, i + BATCH).map(({ path }) => `${named(path)}\0`).join('');
        await box.feed(Buffer.from(text, 'latin1'));
      }
      box.stdin!.end();
    },
  };

  async function* stream(): AsyncGenerator<Buffer> {
    yield await header.promise;
    for await (const chunk of box.stdout!) yield chunk as Buffer;
    await finished;
  }
}

/** As tar shall open it. A path that would lead elsewhere is a mistake of the caller's. */
function named(path: string): string {
  if (path === '.') return '.';
  if (path.startsWith('/') || path.split('/').some((part) => part === '' || part === '.' || part === '..')) throw new VeldError('internal', `${JSON.stringify(path.slice(0, 100))} is not a path within a tree.`);
  return `./${path}`;
}
