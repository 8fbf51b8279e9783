/**
 * Several trees above each other as the one that overlayfs makes of them: which name shows, and from which tree. So the layers that are a VE's own can be carried as
 * one tree, without what lies hidden in them. Source: Linux, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
 */
import { closeSync } from 'node:fs';
import { opaqueFolders, openRoot } from './tree-folders.ts';
import { folderOf, type Tree } from './tree-scan.ts';

/** A tree of the stack. */
export interface StackedTree {
  tree: Tree;
  /** Its folders through which nothing below shows. */
  opaque: ReadonlySet<string>;
}

export interface Merged {
  /** Inodes are `PLACE:INODE`: in two trees they may be the same. */
  tree: Tree;
  /** Path -> place in the stack of the tree that it shows from. */
  from: Map<string, number>;
  /** Folders through which nothing shows of what is below the stack. */
  opaque: Set<string>;
}

/** Look which folders of a tree are opaque. @param root a folder of Veld's own */
export async function stacked(root: string, tree: Tree): Promise<StackedTree> {
  const fd = openRoot(root);
  try {
    return { tree, opaque: new Set(await opaqueFolders(fd, [...tree].filter(([, { type }]) => type === 'folder').map(([path]) => path))) };
  } finally {
    closeSync(fd);
  }
}

/** Merge them. @param stack lowest first; in each a folder comes before what is in it, as scans have it */
export function mergeTrees(stack: readonly StackedTree[]): Merged {
  const tree: Tree = new Map();
  const from = new Map<string, number>();
  const opaque = new Set<string>();
  for (let place = stack.length - 1; place >= 0; place--) {
    const one = stack[place]!;
    /** Folders of this tree of whose content nothing shows. */
    const hidden = new Set<string>();
    const now: string[] = [];
    for (const [path, entry] of one.tree) {
      if (path !== '.' && hidden.has(folderOf(path))) {
        if (entry.type === 'folder') hidden.add(path);
        continue;
      }
      const above = tree.get(path);
      // What comes from this tree itself hides nothing of it: only names of those above are in the way.
      if (above && from.get(path) !== place) {
        // A folder over what was none, or was deleted, is where overlayfs stops looking: nothing shows through it.
        if (entry.type !== 'folder') {
          if (above.type === 'folder') now.push(path);
          continue;
        }
        if (above.type !== 'folder' || opaque.has(path)) {
          hidden.add(path);
          continue;
        }
      } else {
        tree.set(path, { ...entry, inode: `${place}:${entry.inode}` });
        from.set(path, place);
      }
      if (one.opaque.has(path)) now.push(path);
    }
    for (const path of now) opaque.add(path); // for those below, not for this one
  }
  return { tree, from, opaque };
}
