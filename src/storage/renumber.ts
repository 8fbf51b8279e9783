/** Trees whose owners are written in another range than the file system needs. */
import { closeSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openIdmapped, parseIdmaps } from '../kernel/mounts.ts';
import { run } from '../lib/run.ts';
import { ALL_XATTRS } from '../lib/tar.ts';
import { makeOwned, mapFromZero } from './folders.ts';

const TAR = ['--format=posix', '--numeric-owner', ...ALL_XATTRS, '--sparse', '--warning=no-file-ignored', '--warning=no-timestamp'];

/** tar(1) from $1 to $2, with options behind them; $1.status tells how the first one ended. */
const COPY = `
from=$1 to=$2
shift 2
{ /usr/bin/tar --create --file=- "$@" --directory="$from" -- .; echo $? >"$from.status"; } |
  /usr/bin/tar --extract --file=- "$@" --same-owner --preserve-permissions --delay-directory-restore --directory="$to" || exit
read -r status <"$from.status" && rm -f "$from.status" && exit "$status"
`;

/**
 * Copy a tree to where its owners are written from 0: owners, ACLs and capabilities name the same users as before. The copy takes the tree's place.
 * @param tree path of a folder that nobody uses
 * @param uidBase range in which its owners are written now
 * @param old path to which the tree itself is moved, on the same file system
 * @throws VeldError `command.failed`
 */
export async function renumberFromZero(tree: string, uidBase: number, old: string): Promise<void> {
  const copy = join(dirname(tree), 'renumbered');
  makeOwned(copy, { uid: 0, gid: 0, mode: 0o700 });
  const mapped = await openIdmapped(copy, parseIdmaps(mapFromZero(uidBase)), { readOnly: false });
  try {
    await run('/bin/sh', ['-c', COPY, 'sh', tree, `/proc/${process.pid}/fd/${mapped}`, ...TAR]);
  } finally {
    closeSync(mapped);
  }
  renameSync(tree, old);
  renameSync(copy, tree);
}
