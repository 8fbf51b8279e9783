import assert from 'node:assert/strict';
import { test } from 'node:test';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { stateFolder } from './conformance.ts';
import { differences } from './differences.ts';

const needsRoot = process.getuid?.() === 0 ? {} : { skip: 'needs root' };

function layer(dir: string, name: string, files: Record<string, string>): string {
  const root = join(dir, name);
  mkdirSync(root);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    if (content === 'WHITEOUT') execFileSync('/bin/mknod', [join(root, path), 'c', '0', '0']);
    else writeFileSync(join(root, path), content);
  }
  return root;
}

const lines = async (from: string[], to: string[]): Promise<string[]> => (await differences(from, to)).map(({ change, path, type }) => `${change} ${path} ${type}`);

test('what has come, gone and changed, through deleted names and folders that hide what is below', needsRoot, async (t) => {
  const dir = stateFolder(t);
  if (spawnSync('/bin/mknod', [join(dir, 'trial'), 'c', '0', '0']).status !== 0) return t.skip('character devices cannot be made here');
  const base = layer(dir, 'base', { 'etc/os': 'one', 'etc/gone': 'x', 'old/a': 'a', 'old/deep/b': 'b', 'hidden/x': 'x', 'hidden/y': 'y', 'kept': 'k' });
  const upper = layer(dir, 'upper', { 'etc/os': 'other', 'etc/gone': 'WHITEOUT', 'etc/new': 'n', 'old': 'WHITEOUT', 'hidden/z': 'z', 'fresh/in/it': '1' });
  execFileSync('/usr/bin/setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', join(upper, 'hidden')]);
  const there = [
    'removed /etc/gone file', 'added /etc/new file', 'changed /etc/os file', 'added /fresh folder', 'added /fresh/in folder', 'added /fresh/in/it file', 'removed /hidden/x file', 'removed /hidden/y file', 'added /hidden/z file', 'removed /old folder',
  ];
  assert.deepEqual(await lines([base], [base, upper]), there);
  const opposite = (line: string): string => line.replace(/^(added|removed)/, (word) => (word === 'added' ? 'removed' : 'added'));
  const back = await lines([base, upper], [base]);
  assert.deepEqual(back.filter((line) => !/old\/|fresh\//.test(line)), there.map(opposite).filter((line) => !/fresh\//.test(line)));
  assert.deepEqual(await lines([base, upper], [base, upper]), []);
  assert.deepEqual(await lines([base], [base]), []);
});

test('a copy of a layer is the same; a file of another time, size or type is not', needsRoot, async (t) => {
  const dir = stateFolder(t);
  const base = layer(dir, 'base', { a: 'a' });
  const one = layer(dir, 'one', { same: '1', size: '1', time: '1', type: '1' });
  const two = join(dir, 'two');
  execFileSync('/bin/cp', ['-a', one, two]);
  assert.deepEqual(await lines([base, one], [base, two]), []);
  writeFileSync(join(two, 'size'), '22');
  utimesSync(join(two, 'time'), 1, 1);
  rmSync(join(two, 'type'));
  symlinkSync('same', join(two, 'type'));
  assert.deepEqual(await lines([base, one], [base, two]), ['changed /size file', 'changed /time file', 'changed /type symlink']);
});
