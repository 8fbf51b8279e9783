import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync, writeSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeNewFile } from './new-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-new-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, 'a.export');
const write = (text: string) => async (fd: number): Promise<number> => writeSync(fd, text);
const failing = (code: string, words: RegExp) => (error: { code: string; message: string }): boolean => {
  assert.equal(error.code, code);
  assert.match(error.message, words);
  return true;
};

test('a file appears when it is whole', async () => {
  assert.equal(await writeNewFile(file, 'export.file', async (fd) => {
    assert.equal(readdirSync(folder).includes('a.export'), false);
    return write('whole')(fd);
  }), 5);
  assert.equal(readFileSync(file, 'utf8'), 'whole');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(folder), ['a.export']);
});

test('never over one that is there, or that comes meanwhile', async () => {
  await assert.rejects(writeNewFile(file, 'export.file', write('x')), failing('export.file', /is there already/));
  const other = join(folder, 'b');
  await assert.rejects(writeNewFile(other, 'export.file', async () => writeFileSync(other, 'theirs')), failing('export.file', /is there already/));
  assert.equal(readFileSync(other, 'utf8'), 'theirs');
  rmSync(other);
});

test('nothing stays of what could not be written', async () => {
  await assert.rejects(writeNewFile(join(folder, 'none/x'), 'export.file', write('x')), failing('export.file', /cannot be written/));
  await assert.rejects(writeNewFile(join(folder, 'c'), 'export.file', async () => { throw new Error('no source'); }), /no source/);
  await assert.rejects(writeNewFile(join(folder, 'c'), 'export.file', async () => { throw Object.assign(new Error('full'), { code: 'ENOSPC' }); }), failing('disk.full', /No space left/));
  assert.deepEqual(readdirSync(folder), ['a.export']);
});

test('what a writer of the same file has left that was killed goes; another\'s, and that of one who writes, does not', async () => {
  const { pid } = spawnSync('true');
  const old = new Date(Date.now() - 120_000);
  const names = [`.d.${pid}.partial`, `.d.${process.ppid}.partial`, `.e.${pid}.partial`, '.d.x.partial'];
  for (const name of names) {
    writeFileSync(join(folder, name), '');
    utimesSync(join(folder, name), old, old);
  }
  mkdirSync(join(folder, 'sub'));
  writeFileSync(join(folder, `sub/.d.${pid}.partial`), ''); // just now
  await writeNewFile(join(folder, 'd'), 'export.file', write('x'));
  await writeNewFile(join(folder, 'sub/d'), 'export.file', write('x'));
  assert.deepEqual(readdirSync(folder).toSorted(), [...names.slice(1), 'a.export', 'd', 'sub'].toSorted());
  assert.deepEqual(readdirSync(join(folder, 'sub')).length, 2);
});
