/** What differs between two root file systems that are stacks of layers: by names, each told once. */
import { closeSync } from 'node:fs';
import { openRoot, opaqueFolders } from './tree-folders.ts';
import { folderOf, scanTree, type Tree, type TreeEntry, type TreeType } from './tree-scan.ts';

export interface Difference {
  /** Absolute, as the VE sees it; each character is one byte (latin1), as the name need not be UTF-8. */
  path: string;
  change: 'added' | 'removed' | 'changed';
  /** Of what is there now, or was. */
  type: TreeType;
}

interface Layer {
  /** Its folder: two of the same are one layer. */
  root: string;
  tree: Tree;
  /** Folders through which nothing of the layers below shows. */
  opaque: ReadonlySet<string>;
}

/** What a name is in a stack, and in which layer. */
interface Found {
  entry: TreeEntry;
  root: string;
}

/**
 * Compare two stacks. A folder that is gone is told of, what was in it is not; of a folder that is there both times nothing is told. A file is the same when it is in the same layer, or has the same
 * type, size and time of its last change of content.
 * @param from folders of layers, lowest first
 * @param to as many as there are in both at the beginning count as the same
 * @returns by path
 * @throws VeldError `storage.failed`, `operation.cancelled`
 */
export async function differences(from: readonly string[], to: readonly string[], options: { signal?: AbortSignal } = {}): Promise<Difference[]> {
  const layers = new Map<string, Layer>();
  for (const root of new Set([...from, ...to])) layers.set(root, await readLayer(root, options));
  const [before, now] = [from, to].map((roots) => roots.map((root) => layers.get(root)!).toReversed()) as [Layer[], Layer[]];
  let common = 0;
  while (common < from.length && common < to.length && from[common] === to[common]) common += 1;
  const shared = from.slice(0, common).map((root) => layers.get(root)!);
  const names = new Set<string>();
  for (const root of [...from.slice(common), ...to.slice(common)]) {
    const { tree, opaque } = layers.get(root)!;
    for (const path of tree.keys()) names.add(path);
    // Names below that it hides are in no other layer that differs.
    for (const folder of opaque) for (const layer of shared) for (const path of layer.tree.keys()) if (path.startsWith(`${folder}/`)) names.add(path);
  }
  const found: Difference[] = [];
  for (const path of names) {
    if (path === '.') continue;
    const [old, here] = [lookUp(before, path), lookUp(now, path)];
    if (old === undefined && here === undefined) continue;
    const told = { path: `/${path}`, type: (here ?? old)!.entry.type };
    if (old === undefined) found.push({ ...told, change: 'added' });
    else if (here === undefined) {
      if (path.includes('/') && lookUp(now, folderOf(path)) === undefined) continue; // its folder is gone
      found.push({ ...told, change: 'removed' });
    } else if (!isSame(old, here)) found.push({ ...told, change: 'changed' });
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function readLayer(root: string, options: { signal?: AbortSignal }): Promise<Layer> {
  const tree = await scanTree(root, options);
  const fd = openRoot(root);
  try {
    const folders = [...tree].filter(([path, { type }]) => type === 'folder' && path !== '.').map(([path]) => path);
    return { root, tree, opaque: new Set(await opaqueFolders(fd, folders)) };
  } finally {
    closeSync(fd);
  }
}

/** What a stack shows under a name. @param stack topmost first */
function lookUp(stack: readonly Layer[], path: string): Found | undefined {
  for (const { root, tree, opaque } of stack) {
    const entry = tree.get(path);
    // A deleted name: no VE can make another character device.
    if (entry?.type === 'character') return undefined;
    if (entry) return { entry, root };
    for (let folder = folderOf(path); folder !== '.'; folder = folderOf(folder)) {
      const above = tree.get(folder);
      if (above !== undefined && (above.type !== 'folder' || opaque.has(folder))) return undefined;
    }
  }
  return undefined;
}

function isSame(old: Found, here: Found): boolean {
  if (old.root === here.root) return true;
  if (old.entry.type !== here.entry.type) return false;
  return here.entry.type === 'folder' || (old.entry.size === here.entry.size && old.entry.mtime === here.entry.mtime);
}
