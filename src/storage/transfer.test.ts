import { test } from 'node:test';
import type { TestContext } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, closeSync, constants, ftruncateSync, linkSync, lutimesSync, mkdirSync, openSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { removeXattr, setXattr } from '../kernel/syscalls.ts';
import { stateFolder } from './conformance.ts';
import { bytes, describeTree, transferRound } from './testing/trees.ts';
import type { Tree } from './transfer.ts';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };
const BASE = 3000 * 65536;

/** Folders for both sides, owned by a VE's root. */
function sides(t: TestContext): { source: string; target: string } {
  const dir = stateFolder(t);
  const [source, target] = [join(dir, 'source'), join(dir, 'target')];
  for (const side of [source, target]) {
    mkdirSync(side);
    chownSync(side, BASE, BASE);
  }
  return { source, target };
}

function xattr(path: string, name: string, value: Buffer | null): void {
  const fd = openSync(path, constants.O_RDONLY);
  if (value === null) removeXattr(fd, name);
  else setXattr(fd, name, value);
  closeSync(fd);
}

/** The value of a POSIX ACL as the kernel keeps it (linux/posix_acl_xattr.h): tag, permissions, id. */
function acl(...entries: [tag: number, permissions: number, id: number][]): Buffer {
  const value = Buffer.alloc(4 + entries.length * 8);
  value.writeUInt32LE(2);
  entries.forEach(([tag, permissions, id], i) => {
    value.writeUInt16LE(tag, 4 + i * 8);
    value.writeUInt16LE(permissions, 6 + i * 8);
    value.writeUInt32LE(id, 8 + i * 8);
  });
  return value;
}
const NONE = 0xffffffff;
const ACL = acl([1, 6, NONE], [2, 4, BASE + 33], [4, 4, NONE], [16, 4, NONE], [32, 4, NONE]);

/** A file capability cap_net_raw=ep of the VE's root (version 3 of struct vfs_ns_cap_data). */
function capability(root: number): Buffer {
  const value = Buffer.alloc(24);
  value.writeUInt32LE(0x03000001);
  value.writeUInt32LE(1 << 13, 4);
  value.writeUInt32LE(root, 20);
  return value;
}

/** All that a VE can have in its upper. */
function fill(root: string): void {
  const own = (path: string, uid = 0): void => { execFileSync('/bin/chown', ['-h', `${BASE + uid}:${BASE + uid}`, path]); };
  for (const folder of ['etc', 'etc/deep', 'opaque', 'empty', 'acl', 'sticky']) mkdirSync(join(root, folder));
  writeFileSync(join(root, 'etc/file'), 'content\n');
  writeFileSync(join(root, 'etc/empty'), '');
  writeFileSync(join(root, 'etc/secret'), 'x', { mode: 0o000 });
  writeFileSync(join(root, 'etc/setuid'), 'x');
  linkSync(join(root, 'etc/file'), join(root, 'etc/deep/again'));
  linkSync(join(root, 'etc/file'), join(root, 'third'));
  symlinkSync('/etc/shadow', join(root, 'absolute'));
  symlinkSync('../../../../etc', join(root, 'etc/up'));
  symlinkSync('nowhere'.repeat(500), join(root, 'etc/long'));
  symlinkSync('file', join(root, 'etc/link'));
  linkSync(join(root, 'etc/link'), join(root, 'etc/samelink'));
  execFileSync('/usr/bin/mkfifo', ['-m', '640', join(root, 'etc/fifo')]);
  execFileSync('/bin/mknod', [join(root, 'etc/gone'), 'c', '0', '0']);
  linkSync(join(root, 'etc/gone'), join(root, 'gone-too'));
  execFileSync('/bin/sh', ['-c', `cd "$1" && exec ${process.execPath} -e 'require("net").createServer().listen("socket", () => process.exit(0))'`, 'sh', root]);
  const sparse = openSync(join(root, 'sparse'), 'w');
  writeSync(sparse, 'start', 0);
  writeSync(sparse, 'end', 5 << 20);
  ftruncateSync(sparse, 20 << 20);
  closeSync(sparse);
  for (const name of ['-rf', '--checkpoint-action=exec=sh', ' blanks ', 'line\nbreak', String.raw`back\nslash`, '*', '@list', '%s', 'a\xff\x80b', 'x=y']) writeFileSync(bytes(`${root}/${name}`), name);
  const deep = Array.from({ length: 20 }, () => 'd'.repeat(190)).join('/');
  mkdirSync(join(root, deep), { recursive: true });
  writeFileSync(join(root, deep, 'bottom'), 'deep');
  writeFileSync(join(root, 'n'.repeat(255)), 'long');
  execFileSync('/bin/chown', ['-R', '-h', `${BASE}:${BASE}`, root]);
  own(join(root, 'etc/file'), 33);
  own(join(root, 'etc/link'), 65535);
  chmodSync(join(root, 'etc/setuid'), 0o6755);
  chmodSync(join(root, 'sticky'), 0o1777);
  chmodSync(root, 0o750);
  xattr(join(root, 'etc/file'), 'system.posix_acl_access', ACL);
  xattr(join(root, 'acl'), 'system.posix_acl_default', ACL);
  xattr(join(root, 'acl'), 'user.of=folder%3D', Buffer.from('value\0\n'));
  xattr(join(root, 'etc/file'), 'user.empty', Buffer.alloc(0));
  xattr(join(root, 'etc/setuid'), 'security.capability', capability(BASE));
  xattr(join(root, 'opaque'), 'trusted.overlay.opaque', Buffer.from('y'));
  xattr(join(root, 'opaque'), 'trusted.overlay.origin', Buffer.alloc(29, 1));
  xattr(root, 'trusted.overlay.impure', Buffer.from('y'));
  utimesSync(join(root, 'etc'), 1, 981173106.123456);
  lutimesSync(join(root, 'absolute'), 1, 86400.5);
  utimesSync(root, 1, 1000000000.25);
}

test('a tree of everything, changed in every way, is the same on both sides after each round', needsRoot, async (t) => {
  const { source, target } = sides(t);
  fill(source);
  let tree: Tree = new Map();
  const round = async (): Promise<number> => {
    const result = await transferRound(source, target, tree, BASE);
    assert.equal(result.counts.conflicts, 0);
    assert.deepEqual(describeTree(target), describeTree(source));
    tree = result.tree;
    return result.sent;
  };
  assert.equal(await round(), describeTree(source).size);
  assert.ok(statSync(join(target, 'sparse')).blocks * 512 < 1 << 20, 'holes stay holes');

  const at = (path: string): string => join(source, path);
  await new Promise((resolve) => { setTimeout(resolve, 1100); });
  await round(); // all of it was recent
  assert.equal(await round(), 0, 'a tree at rest costs nothing');

  // In place, under another name, of another type, gone.
  writeSync(openSync(at('etc/file'), 'r+'), 'CONTENT');
  renameSync(at('etc/deep'), at('moved'));
  rmSync(at('third'));
  rmSync(at('etc/empty'));
  mkdirSync(at('etc/empty'));
  writeFileSync(at('etc/empty/inside'), 'x');
  rmSync(at('etc/up'));
  mkdirSync(at('etc/up'));
  writeFileSync(at('etc/up/shadow'), 'ours');
  rmSync(at('acl'), { recursive: true });
  symlinkSync('/usr', at('acl'));
  rmSync(at('empty'), { recursive: true });
  writeFileSync(at('empty'), 'a file');
  rmSync(at('etc/gone'));
  writeFileSync(at('etc/gone'), 'back');
  rmSync(at('etc/fifo'));
  execFileSync('/bin/mknod', [at('etc/fifo'), 'c', '0', '0']);
  xattr(at('opaque'), 'trusted.overlay.opaque', null);
  xattr(at('sticky'), 'trusted.overlay.opaque', Buffer.from('y'));
  xattr(at('sticky'), 'user.note', Buffer.from('1'));
  xattr(at('sticky'), 'system.posix_acl_default', ACL);
  rmSync(bytes(`${source}/a\xff\x80b`));
  execFileSync('/bin/chown', ['-R', '-h', `${BASE}:${BASE}`, source]);
  await round();

  xattr(at('sticky'), 'user.note', null);
  xattr(at('sticky'), 'system.posix_acl_default', null);
  rmSync(at('d'.repeat(190)), { recursive: true });
  renameSync(at('moved'), at('etc/up/moved'));
  linkSync(at('etc/file'), at('-rf2'));
  chmodSync(at('etc'), 0o700);
  renameSync(at('etc/up'), at('swap'));
  renameSync(at('empty'), at('etc/up'));
  renameSync(at('swap'), at('empty'));
  await round();
});

test('what a program writes to a mapped page after it was read comes with the next round', needsRoot, async (t) => {
  const { source, target } = sides(t);
  const file = join(source, 'mapped');
  writeFileSync(file, Buffer.alloc(4096));
  chownSync(file, BASE, BASE);
  // Writes one byte where it is told to, for each line.
  const writer = spawn('/usr/bin/perl', ['-e', '1'], { stdio: 'ignore' });
  writer.on('error', () => {});
  t.after(() => { writer.kill(); });
  await transferRound(source, target, new Map(), BASE);
});
