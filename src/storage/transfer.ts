/**
 * A tree that a VE fills, and may be changing, on its way to another node, in rounds. Each round is
 *
 *   1. source: `scanTree`, and `treeChanges` since the scan of the round before
 *   2. source: `syncTree`
 *   3. target: `removePaths`
 *   4. source: `packTree`, whose stream goes into `unpackTree` of the target
 *
 * In the last round nobody changes the tree any more (the VE is frozen, and none of its processes is within a write(2)): it needs no step 2, and leaves the target equal to
 * the source. `unpackTree` must then have met no conflict, and `syncTree` of the target brings it to the disk.
 *
 * Why the order: what a program writes to a page that it has mapped (mmap(2), MAP_SHARED) changes the ctime when the page becomes dirty, and not again until it has been
 * written back: only then is the page write-protected, and the next write noticed (file_update_time below page_mkwrite of the file systems; clear_page_dirty_for_io).
 * A page that was dirty at the scan, and is written to after it was read, would never be sent again. So the tree is brought to the disk between the scan
 * and the reading: whatever is written later than that has a later ctime than the scan saw. With the sync before the scan, what becomes dirty between both would
 * be missed. On a tmpfs no page is ever written back: such an upper cannot be carried while its VE runs.
 *
 * A write(2), too, changes the ctime once, when it begins: see `recent` in tree-scan.ts.
 *
 * What can stand ready before it is needed, its program started: `prepareScan`, `packTree`, `unpackTree`.
 */
import { run } from '../lib/run.ts';

export { packTree } from './tree-pack.ts';
export type { TreePack } from './tree-pack.ts';
export { NameRemover, removePaths } from './tree-remove.ts';
export { prepareScan, scanTree, treeChanges } from './tree-scan.ts';
export type { PreparedScan, Tree, TreeChanges, TreeEntry, TreeName, TreeType } from './tree-scan.ts';
export { unpackTree } from './tree-unpack.ts';
export type { StreamCounts, StreamLimits, TreeUnpack } from './tree-unpack.ts';

/**
 * Bring a tree to the disk: all of its file system, see sync(1).
 * @throws VeldError `command.failed`, `operation.cancelled`
 */
export async function syncTree(target: string, options: { signal?: AbortSignal } = {}): Promise<void> {
  await run('/bin/sync', ['-f', '--', target], options);
}
