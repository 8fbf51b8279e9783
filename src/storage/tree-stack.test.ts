import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Tree, TreeType } from './tree-scan.ts';
import { mergeTrees } from './tree-stack.ts';

let inodes = 0;
/** `d/` a folder, `!d/` an opaque one, `-f` a deleted name, else a file. */
const layer = (...names: string[]): { tree: Tree; opaque: Set<string> } => {
  const opaque = new Set<string>();
  const tree: Tree = new Map(['./', ...names].map((name) => {
    const type: TreeType = name.endsWith('/') ? 'folder' : name.startsWith('-') ? 'character' : 'file';
    const path = name.replace(/^[!-]/, '').replace(/\/$/, '');
    if (name.startsWith('!')) opaque.add(path);
    return [path, { inode: String(inodes += 1), ctime: '1', mtime: '1', type, size: 1, links: 1, recent: false }];
  }));
  return { tree, opaque };
};
const shown = (...stack: ReturnType<typeof layer>[]): Record<string, string> => {
  const { tree, from, opaque } = mergeTrees(stack);
  return Object.fromEntries([...tree].map(([path, { type }]) => [path, `${from.get(path)} ${type}${opaque.has(path) ? ' opaque' : ''}`]));
};

test('names of all trees show, those above first', () => {
  assert.deepEqual(shown(layer('a', 'd/', 'd/x'), layer('d/', 'd/y', 'b')), { '.': '1 folder', 'd': '1 folder', 'd/y': '1 file', 'b': '1 file', 'a': '0 file', 'd/x': '0 file' });
  assert.deepEqual(shown(layer('a'), layer('a')), { '.': '1 folder', 'a': '1 file' });
});

test('what is deleted, or became something else, hides all that was there', () => {
  assert.deepEqual(shown(layer('d/', 'd/e/', 'd/e/x', 'f'), layer('-d', '-f')), { '.': '1 folder', 'd': '1 character', 'f': '1 character' });
  assert.deepEqual(shown(layer('d/', 'd/e/', 'd/e/x'), layer('d')), { '.': '1 folder', 'd': '1 file' });
});

test('a folder that was made anew hides what the trees below have in it, and stays opaque', () => {
  assert.deepEqual(shown(layer('d/', 'd/x', 'd/e/', 'd/e/y'), layer('!d/', 'd/z'), layer('d/', 'd/w')),
    { '.': '2 folder', 'd': '2 folder opaque', 'd/w': '2 file', 'd/z': '1 file' });
  // One that was made anew over what a layer in between deletes, or has as a file: overlayfs does not mark it, and stops there all the same.
  assert.deepEqual(shown(layer('-d'), layer('d/', 'd/x')), { '.': '1 folder', 'd': '1 folder opaque', 'd/x': '1 file' });
  assert.deepEqual(shown(layer('d'), layer('d/')), { '.': '1 folder', 'd': '1 folder opaque' });
  assert.deepEqual(shown(layer('d/', 'd/y'), layer('-d'), layer('d/', 'd/x')), { '.': '2 folder', 'd': '2 folder opaque', 'd/x': '2 file' });
  // A file in the lowest, a folder above, which was marked.
  assert.deepEqual(shown(layer('d'), layer('!d/', 'd/x')), { '.': '1 folder', 'd': '1 folder opaque', 'd/x': '1 file' });
});

test('of the same number in two trees they are different inodes', () => {
  const [low, high] = [layer('a'), layer('b')];
  low.tree.get('a')!.inode = high.tree.get('b')!.inode = '77';
  const { tree } = mergeTrees([low, high]);
  assert.notEqual(tree.get('a')!.inode, tree.get('b')!.inode);
});
