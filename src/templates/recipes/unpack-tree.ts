/** Unpacks the tree of a VE, as it comes out of it (`readFromVe` of src/ve/copy.ts): the rules are those for archives that somebody made, for the VE is one who could be misled. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { startBox } from '../../kernel/box.ts';
import { VeldError } from '../../lib/errors.ts';
import { createChecker, UNPACK_LIMITS } from '../unpack.ts';

/** Root of the tree in the stream. */
const ROOT = 'd';

/** What is mounted over in a VE: of a template it is an empty folder, whoever that of the VE belongs to. */
const MOUNTED = ['dev', 'proc', 'run', 'sys'];

/**
 * Fill an empty folder with the tree.
 * @param stream a tar stream with one root `d`; it need not be read to its end when this throws
 * @param options.most bytes of all its files @param options.progress told how many bytes of files have come
 * @returns how many entries and bytes there were
 * @throws VeldError `template.build_failed` when it is larger, `template.invalid` for what breaks a rule, `operation.cancelled`
 */
export async function unpackTree(stream: NodeJS.ReadableStream, target: string, { most, signal, progress }: { most: number; signal: AbortSignal; progress?: (bytes: number) => void }): Promise<{ entries: number; bytes: number }> {
  for (const folder of MOUNTED) mkdirSync(join(target, folder), { mode: 0o755 });
  const box = startBox(['/usr/bin/tar', '--extract', '--file=-', '--directory=/out', '--numeric-owner', '--same-owner', '--preserve-permissions', '--acls', '--xattrs', '--xattrs-include=security.capability',
    '--xattrs-include=user.*', '--no-overwrite-dir', '--delay-directory-restore', '--anchored', ...MOUNTED.map((folder) => `--exclude=${ROOT}/${folder}`), '--strip-components=1', '--', ROOT],
  { out: target, links: 'followed', capabilities: ['chown', 'dac_override', 'fowner', 'fsetid', 'setfcap'], stdin: 'pipe', signal });
  try {
    const { reader, seen } = createChecker({ ...UNPACK_LIMITS, bytes: Infinity }, ROOT);
    let broken = false;
    box.stdin!.on('error', () => { broken = true; }); // tar ended early: its status and words follow
    for await (const chunk of stream) {
      signal.throwIfAborted();
      reader.write(chunk as Buffer);
      if (seen.bytes > most) throw new VeldError('template.build_failed', `The tree has more than the ${Math.round(most / 2 ** 20)} MiB that its recipe allows (limits.size).`, { hint: 'Let it have more, or less in it.' });
      if (broken) break;
      await box.feed(chunk as Buffer);
      progress?.(seen.bytes);
    }
    if (!broken) reader.end();
    box.stdin!.end();
    const { code, said } = await box.ended;
    if (code !== 0) throw new VeldError('storage.failed', `The tree could not be kept: ${said}`);
    return seen;
  } finally {
    box.kill();
  }
}
