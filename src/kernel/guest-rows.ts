/** Many files laid below a VE's root at once: each with its owner, as the VE counts. */
import { dirname } from 'node:path';
import type { GuestRoot } from './guest-tree.ts';

/** A file, or, with `link` or `folder`, one of these. */
export interface GuestRow {
  path: string;
  /** Of a file; default empty. */
  content?: string | Uint8Array;
  /** Where a link leads. */
  link?: string;
  /** A folder. One that is there stays as it is. */
  folder?: true;
  /** Permission bits; default 0644 of a file, 0755 of a folder. */
  mode?: number;
  /** As the VE counts; default 0. */
  uid?: number;
  gid?: number;
}

/**
 * Lay them: the folders first, in their order, then all else at once, so that the file system brings it to the disk together. Folders that are not among them are
 * made for root.
 * @param base first id of the range in which owners are written
 * @throws VeldError `path.refused`, `disk.full`
 */
export async function layRows(root: GuestRoot, rows: readonly GuestRow[], base: number): Promise<void> {
  const owned = ({ uid = 0, gid = 0 }: GuestRow) => ({ uid: base + uid, gid: base + gid });
  for (const row of rows) if (row.folder) root.makeFolders(row.path, { mode: row.mode ?? 0o755, ...owned(row) });
  const others = rows.filter(({ folder }) => !folder);
  for (const { path } of others) root.makeFolders(dirname(path), { mode: 0o755, uid: base, gid: base });
  // All must have ended before the root is closed.
  const ended = await Promise.allSettled(others.map((row) => (row.link === undefined
    ? root.writeFile(row.path, row.content ?? '', { mode: row.mode ?? 0o644, ...owned(row) }) : root.writeLink(row.path, row.link, owned(row)))));
  for (const result of ended) if (result.status === 'rejected') throw result.reason;
}
