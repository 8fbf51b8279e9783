import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { deviceNumber, watchedImage, watchesOf } from './watches.ts';

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
  assert.deepEqual(watches.filter(({ inode }) => inode === ino), [{ pid: watcher.pid, device: deviceNumber(device), inode: ino, handle: true }]);
  assert.deepEqual(await watchesOf([2 ** 22 + 1]), [], 'one that is not there');
});

test('the image, byte for byte', () => {
  assert.equal(watchedImage(0x32, new Map([[300n, '/etc'], [1n, '/']])).toString('hex'),
    '40591055 59400057 0b000000 0832 10ac02 1a04 2f657463 08000000 0832 1001 1a02 2f2e'.replaceAll(' ', ''));
});
