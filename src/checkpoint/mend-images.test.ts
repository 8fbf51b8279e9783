import assert from 'node:assert/strict';
import { linkSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { mendImages } from './mend-images.ts';
import { image, message, number } from './testing/images.ts';

const images = mkdtempSync(join(tmpdir(), 'veld-images-'));
after(() => rmSync(images, { recursive: true }));

const regular = (id: number, flags: number, name: string | Buffer = 'usr/bin/x', ...size: Buffer[]): Buffer => (
  Buffer.concat([number(1, 1), number(2, id), message(3, number(1, id), number(2, flags), number(3, 0), message(6, Buffer.from(name as string)), ...size)])
);

const O_PATH = 0o10000000;

test('a program that is noted as a place only becomes a file; other places stay, and so does the file that another state has', () => {
  const file = join(images, 'files.img');
  const before = image(regular(1, 0), regular(2, O_PATH | 0o2000000), regular(3, O_PATH));
  writeFileSync(file, before);
  linkSync(file, join(images, 'another'));
  writeFileSync(join(images, 'mm-1.img'), image(Buffer.concat([number(1, 5), number(12, 1)])));
  mendImages({ images });
  assert.deepEqual(readFileSync(file), before, 'nothing to do');
  writeFileSync(join(images, 'mm-2.img'), image(number(12, 2)));
  mendImages({ images });
  assert.deepEqual(readFileSync(file), image(regular(1, 0), regular(2, 0o2000000), regular(3, O_PATH)));
  assert.deepEqual(readFileSync(join(images, 'another')), before);
});

test('files of lxcfs have no size that could change', () => {
  const file = join(images, 'files.img');
  writeFileSync(file, image(regular(1, 0, 'proc/stat', number(8, 1182)), regular(2, 0, 'srv/proc/stat', number(8, 1182))));
  mendImages({ images });
  assert.deepEqual(readFileSync(file), image(regular(1, 0, 'proc/stat'), regular(2, 0, 'srv/proc/stat', number(8, 1182))));
});

test('a name that is not UTF-8 stays what it is', () => {
  const file = join(images, 'files.img');
  const before = image(regular(1, 0, Buffer.from([0x73, 0x72, 0x76, 0x2f, 0xff, 0xfe]), number(8, 3)));
  writeFileSync(file, before);
  mendImages({ images });
  assert.deepEqual(readFileSync(file), before);
});
