import { test } from 'node:test';
import type { TestContext } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { linkSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openGuestRoot } from './guest-tree.ts';
import type { GuestRoot } from './guest-tree.ts';
import { readProcess } from './process.ts';

const OWNER = { mode: 0o644, uid: 100_000, gid: 100_001 };

async function tree(t: TestContext): Promise<{ dir: string; root: GuestRoot }> {
  const dir = mkdtempSync(join(tmpdir(), 'veld-tree-'));
  mkdirSync(join(dir, 'etc'));
  const root = await openGuestRoot(dir);
  t.after(() => {
    root.close();
    rmSync(dir, { recursive: true });
  });
  return { dir, root };
}

test('a file is written with its owner and mode, replaced as a whole, and read back', async (t) => {
  const { dir, root } = await tree(t);
  await root.writeFile('/etc/hostname', 'web\n', { ...OWNER, mode: 0o6755 });
  const stat = statSync(join(dir, 'etc/hostname'));
  assert.deepEqual([stat.uid, stat.gid, stat.mode & 0o7777], [100_000, 100_001, 0o755]);
  await root.writeFile('etc/hostname', Buffer.from('db\n'), OWNER);
  await root.writeFile('/etc/../etc/hosts', '127.0.0.1 localhost\n', OWNER);
  assert.equal((await root.readFile('/etc/hostname', 100)).toString(), 'db\n');
  assert.equal(readFileSync(join(dir, 'etc/hosts'), 'utf8'), '127.0.0.1 localhost\n');
  assert.deepEqual(readdirSync(join(dir, 'etc')).toSorted(), ['hostname', 'hosts']);
});

test('what is missing, too large, or a folder is refused in words; nothing half made is left', async (t) => {
  const { dir, root } = await tree(t);
  writeFileSync(join(dir, 'etc/big'), 'x'.repeat(101));
  await assert.rejects(root.readFile('/etc/big', 100), { code: 'path.refused', message: /larger than 100 bytes/ });
  assert.equal((await root.readFile('/etc/big', 101)).length, 101);
  await assert.rejects(root.readFile('/etc/none', 100), { code: 'path.refused', message: /does not exist/ });
  await assert.rejects(root.readFile('/etc', 100), { code: 'path.refused', message: /not an ordinary file/ });
  await assert.rejects(root.writeFile('/none/file', '', OWNER), { code: 'path.refused' });
  for (const path of ['/etc', '/', '/etc/', '/etc/..', '', '.', '/etc/a\0b']) await assert.rejects(root.writeFile(path, 'x', OWNER), { code: 'path.refused' }, path);
  assert.deepEqual(readdirSync(join(dir, 'etc')), ['big']);
  assert.deepEqual([await root.exists('/etc/big'), await root.exists('/etc/none'), await root.folderExists('/etc'), await root.folderExists('/etc/big')],
    [true, false, true, false]);
});

test('folders are made with their owner, existing ones stay as they are', async (t) => {
  const { dir, root } = await tree(t);
  const before = statSync(join(dir, 'etc')).uid;
  root.makeFolders('/etc/systemd/network', { ...OWNER, mode: 0o755 });
  assert.equal(statSync(join(dir, 'etc')).uid, before);
  assert.deepEqual([statSync(join(dir, 'etc/systemd/network')).uid, statSync(join(dir, 'etc/systemd')).mode & 0o777], [100_000, 0o755]);
  assert.throws(() => root.makeFolders('/a/../b', OWNER), { code: 'path.refused' });
});

test('names are looked at without being followed, links are made in the place of what was there, and a large folder is refused', async (t) => {
  const { dir, root } = await tree(t);
  writeFileSync(join(dir, 'etc/file'), 'x', { mode: 0o640 });
  symlinkSync('../file', join(dir, 'etc/link'));
  await root.writeLink('/etc/file2', '/usr/share/x', OWNER);
  await root.writeLink('/etc/file2', '/usr/share/y', OWNER);
  assert.equal(lstatSync(join(dir, 'etc/file2')).uid, 100_000);
  const { kind, mode, size, target } = (await root.look('/etc/file'))!;
  assert.deepEqual([kind, mode, size, target], ['file', 0o640, 1, '']);
  assert.deepEqual([(await root.look('/etc/link'))?.target, (await root.look('/etc/file2'))?.target, (await root.look('/etc'))?.kind, (await root.look('/'))?.kind], ['../file', '/usr/share/y', 'folder', 'folder']);
  assert.deepEqual([await root.look('/etc/none'), await root.look('/etc/file/x')], [undefined, undefined]);
  assert.deepEqual(await root.names('/etc', 3), ['file', 'file2', 'link']);
  await assert.rejects(root.names('/etc', 2), { code: 'path.refused', message: /more than 2 names/ });
  await assert.rejects(root.writeLink('/etc', 'x', OWNER), { code: 'path.refused' });
  symlinkSync('/', join(dir, 'etc/out'));
  await root.writeLink('/etc/out/etc/inside', 'x', OWNER);
  assert.deepEqual(readdirSync(join(dir, 'etc')).toSorted(), ['file', 'file2', 'inside', 'link', 'out'], 'nothing half made is left, nothing outside');
});

test('inodes are found by their numbers, and links lead nowhere', async (t) => {
  const { dir, root } = await tree(t);
  writeFileSync(join(dir, 'etc/a\nb c'), '');
  symlinkSync('/', join(dir, 'etc/out'));
  symlinkSync('/etc', join(dir, 'to-etc'));
  symlinkSync('/proc', join(dir, 'host'));
  const inode = (path: string): bigint => lstatSync(join(dir, path), { bigint: true }).ino;
  const [file, link, folder, top] = ['etc/a\nb c', 'etc/out', 'etc', '.'].map(inode);
  assert.deepEqual(await root.findInodes('/etc', [file!, link!, folder!, top!]), new Map([[folder!, '/etc'], [file!, '/etc/a\nb c'], [link!, '/etc/out']]));
  assert.deepEqual((await root.findInodes('/', [top!, file!])).get(top!), '/');
  assert.equal((await root.findInodes('/', [file!])).get(file!), '/etc/a\nb c');
  assert.equal((await root.findInodes('/to-etc', [file!])).get(file!), '/to-etc/a\nb c');
  assert.equal((await root.findInodes('/host', [file!])).size, 0, 'out of the tree');
  assert.equal((await root.findInodes('/none', [file!])).size, 0);
  assert.equal((await root.findInodes('/etc', [])).size, 0);
});

test('names of a file are taken away in one folder, of this file only', async (t) => {
  const { dir, root } = await tree(t);
  writeFileSync(join(dir, 'etc/file'), '');
  writeFileSync(join(dir, 'etc/link.2'), 'of another');
  mkdirSync(join(dir, 'etc/below'));
  for (const name of ['etc/link.1', 'etc/below/link.3', 'etc/other']) linkSync(join(dir, 'etc/file'), join(dir, name));
  const inode = statSync(join(dir, 'etc/file'), { bigint: true }).ino;
  assert.equal(await root.removeNames('/etc', 'link.*', inode), 1);
  assert.equal(await root.removeNames('/none', 'link.*', inode), 0);
  assert.deepEqual(readdirSync(join(dir, 'etc'), { recursive: true, encoding: 'utf8' }).toSorted(), ['below', 'below/link.3', 'file', 'link.2', 'other']);
});

test('the root of a process is opened only while it is that very process, and no descriptor leaks', async (t) => {
  const before = readdirSync('/proc/self/fd').length;
  const child = spawn('/bin/sleep', ['30'], { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  const pid = child.pid as number;
  const { startTime } = readProcess(pid)!;
  const root = await openGuestRoot({ pid, startTime });
  assert.equal(await root.folderExists('/'), true);
  root.close();
  root.close();
  await assert.rejects(root.readFile('/etc/passwd', 100_000), { code: 'internal' });
  await assert.rejects(openGuestRoot({ pid, startTime: startTime + 1 }), { code: 'path.refused' });
  await assert.rejects(openGuestRoot({ pid: 0x3fffffff }), { code: 'path.refused' });
  await assert.rejects(openGuestRoot('/no/such/folder'), { code: 'path.refused' });
  assert.equal(readdirSync('/proc/self/fd').length, before);
});
