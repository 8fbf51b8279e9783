import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { deviceNumber, watchedImage, watchesIn, watchesOf } from './watches.ts';

test('a process that watches a file', async (t) => {
  const folder = mkdtempSync('/var/tmp/veld-watches-');
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'file');
  writeFileSync(file, '');
  const watcher = spawn(process.execPath, ['-e', 'require("fs").watch(process.argv[1], () => {}); process.stdout.write("x")', file], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => watcher.kill());
  await new Promise((done) => { watcher.stdout.once('data', done); });
  const { ino } = statSync(file, { bigint: true });
  const device = execFileSync('findmnt', ['-no', 'MAJ:MIN', '-T', folder], { encoding: 'utf8' }).trim();
  const watches = await watchesOf([watcher.pid!]);
  const found = watches.filter(({ inode }) => inode === ino);
  assert.deepEqual(found.map(({ pid, device: number, wd }) => ({ pid, number, wd })), [{ pid: watcher.pid, number: deviceNumber(device), wd: 1 }]);
  assert.ok(found[0]?.handle !== undefined && found[0].handle.bytes.length >= 8, 'with a handle');
  assert.deepEqual(await watchesOf([2 ** 22 + 1]), [], 'one that is not there');
});

test('an fdinfo', () => {
  assert.deepEqual(watchesIn('pos:\t0\nflags:\t04000\ninotify wd:1f ino:b2a23 sdev:800025 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:fe f_handle:232a0b0000000000\ninotify wd:2 ino:1 sdev:5 mask:2 ignored_mask:0 \n'),
    [{ device: 0x800025, inode: 0xb2a23n, wd: 31, handle: { type: 254, bytes: Buffer.from('232a0b0000000000', 'hex') } }, { device: 5, inode: 1n, wd: 2 }]);
  assert.deepEqual(watchesIn('fanotify ino:4f969 sdev:fd00001 mflags:0 mask:3b ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:69f90400\n').map(({ wd, inode }) => ({ wd, inode })), [{ wd: undefined, inode: 0x4f969n }]);
});

test('the image, byte for byte', () => {
  assert.equal(watchedImage(0x32, new Map([[300n, '/etc'], [1n, '/']])).toString('hex'),
    '40591055 59400057 0b000000 0832 10ac02 1a04 2f657463 08000000 0832 1001 1a02 2f2e'.replaceAll(' ', ''));
});
