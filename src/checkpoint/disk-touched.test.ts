import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { mayHaveTouchedDisk } from './disk-touched.ts';
import { image, message, number } from './testing/images.ts';

const images = mkdtempSync(join(tmpdir(), 'veld-images-'));
after(() => rmSync(images, { recursive: true }));

const file = (flags: number): Buffer => Buffer.concat([number(1, 1), number(2, 1), message(3, number(1, 1), number(2, flags))]);
const remap = (...kind: number[]): Buffer => Buffer.concat([number(1, 1), number(2, 1), ...kind.map((one) => number(3, one))]);
const touched = (files: Buffer[], remaps?: Buffer[]): boolean => {
  rmSync(join(images, 'remap-fpath.img'), { force: true });
  writeFileSync(join(images, 'files.img'), image(...files));
  if (remaps) writeFileSync(join(images, 'remap-fpath.img'), image(...remaps));
  return mayHaveTouchedDisk(images);
};

test('names that criu has made, and files that are written past the page cache; nothing else', () => {
  assert.equal(touched([file(0), file(0o2000001)]), false);
  assert.equal(touched([file(0), file(process.arch === 'arm64' ? 0o200002 : 0o40002)]), true);
  assert.equal(touched([file(0)], []), false);
  assert.equal(touched([file(0)], [remap(1), remap(2)]), false, 'ghosts, and files of /proc');
  assert.equal(touched([file(0)], [remap(1), remap(0)]), true);
  assert.equal(touched([file(0)], [remap(1), remap()]), true, 'the default is a link');
});
