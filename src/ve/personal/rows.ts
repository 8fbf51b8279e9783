/** Rows to lay into a VE, collected so that nothing else changes: folders above them keep owner and mode, files that are written anew theirs. */
import { posix } from 'node:path';
import type { GuestRow } from '../../kernel/guest-rows.ts';
import type { Tree } from './tree.ts';

export interface Rows {
  /** Put a file; one that is there keeps owner and mode, unless others are given. */
  file(path: string, content: string | Uint8Array, how?: Pick<GuestRow, 'mode' | 'uid' | 'gid'>): Promise<void>;
  /** Put a file in the place of whatever has its name, a link included. */
  content(path: string, content: Uint8Array): Promise<void>;
  /** The same for a link. */
  link(path: string, target: string): Promise<void>;
  /** Make a folder; one that is there becomes the owner's, and keeps its mode. */
  folder(path: string, how: Required<Pick<GuestRow, 'mode' | 'uid' | 'gid'>>): Promise<void>;
  /** All, folders before what is in them. */
  all(): GuestRow[];
}

/** Begin with none. */
export function collectRows(tree: Tree): Rows {
  const rows = new Map<string, GuestRow>();

  /** The folders above a path without links, as they are. */
  const above = async (path: string): Promise<void> => {
    const folder = posix.dirname(path);
    if (folder === '/' || rows.has(folder)) return;
    await above(folder);
    const { mode = 0o755, uid = 0, gid = 0 } = await tree.find(folder) ?? {};
    rows.set(folder, { path: folder, folder: true, mode, uid, gid });
  };
  /** Set a row at the path to which the folders of `path` lead. */
  const put = async (path: string, row: Omit<GuestRow, 'path'>): Promise<void> => {
    await above(path);
    rows.set(path, { path, ...row });
  };
  const beside = async (path: string): Promise<string> => posix.join(await tree.resolve(posix.dirname(path)), posix.basename(path));

  return {
    async file(path, content, how = {}) {
      const real = await tree.resolve(path);
      const there = await tree.find(real);
      const { mode = 0o644, uid = 0, gid = 0 } = there?.kind === 'file' ? there : {};
      await put(real, { content, mode, uid, gid, ...how });
    },
    content: async (path, content) => put(await beside(path), { content }),
    link: async (path, target) => put(await beside(path), { link: target }),
    async folder(path, { mode, uid, gid }) {
      const real = await tree.resolve(path);
      const there = await tree.find(real);
      await put(real, { folder: true, mode: there?.kind === 'folder' ? there.mode : mode, uid, gid });
    },
    all: () => [...rows.values()],
  };
}
