import { test } from 'node:test';
import type { TestContext } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync, chownSync, closeSync, constants, ftruncateSync, lchownSync, linkSync, lstatSync, lutimesSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync,
  utimesSync, writeFileSync, writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { native } from '../kernel/native.ts';
import { listXattrs, removeXattr, setXattr } from '../kernel/syscalls.ts';
import type { VeldError } from '../lib/errors.ts';
import { TarReader } from '../lib/tar-entries.ts';
import { stateFolder } from './conformance.ts';
import { bytes, describeTree, LIMITS, streamOf, transferRound } from './testing/trees.ts';
import { packTree, prepareScan, removePaths, scanTree, treeChanges, unpackTree } from './transfer.ts';
import type { Tree, TreeEntry, TreeName } from './transfer.ts';

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

function xattr(path: string | Buffer, name: string, value: Buffer | null): void {
  const fd = openSync(path, constants.O_RDONLY);
  if (value !== null) setXattr(fd, name, value);
  else if (listXattrs(fd).includes(name)) removeXattr(fd, name);
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
    const result = await transferRound(source, target, tree, BASE, { settled: true });
    assert.equal(result.counts.conflicts, 0);
    assert.deepEqual(describeTree(target), describeTree(source));
    tree = result.tree;
    return result.sent;
  };
  assert.equal(await round(), describeTree(source).size);
  assert.ok(statSync(join(target, 'sparse')).blocks * 512 < 1 << 20, 'holes stay holes');

  const at = (path: string): string => join(source, path);
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

/** A page of a file, mapped and shared. */
function mapFile(path: string): { poke(text: string): void } {
  const { koffi } = native();
  const library = koffi.load(null);
  const map = library.func('void *mmap(void *, size_t, int, int, int, int64_t)');
  const copy = library.func('void *memcpy(void *, void *, size_t)');
  const PROT_READ_WRITE = 3, MAP_SHARED = 1;
  const fd = openSync(path, 'r+');
  const page: unknown = map(null, 4096, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  closeSync(fd);
  return { poke: (text) => { copy(page, Buffer.from(text), text.length); } };
}

test('what a program writes to a mapped page after it was read comes with the next round', needsRoot, async (t) => {
  const { source, target } = sides(t);
  const file = join(source, 'mapped');
  writeFileSync(file, Buffer.alloc(4096));
  chownSync(file, BASE, BASE);
  const page = mapFile(file);
  let tree: Tree = new Map();
  for (const text of ['first', 'second', 'third']) {
    page.poke(text);
    await sleep(1100); // so that it counts as settled: the page is dirty since before the scan
    ({ tree } = await transferRound(source, target, tree, BASE));
    page.poke(`${text} and more`);
    await sleep(1100);
    const { tree: next, sent } = await transferRound(source, target, tree, BASE);
    tree = next;
    assert.ok(sent > 0, 'the write after the reading was noticed');
    assert.ok(readFileSync(join(target, 'mapped'), 'latin1').startsWith(`${text} and more`));
  }
});

test('what has changed just before a scan is sent again', () => {
  const entry: TreeEntry = { inode: '1', ctime: '1.5', mtime: '1.5', type: 'file', size: 1, links: 1, recent: false };
  const root: TreeEntry = { ...entry, inode: '2', type: 'folder' };
  const tree = (recent: boolean): Tree => new Map([['.', root], ['a', { ...entry, recent }]]);
  assert.deepEqual(treeChanges(tree(true), tree(false)), { send: [{ path: '.', type: 'folder' }, { path: 'a', type: 'file' }], remove: [] });
  assert.deepEqual(treeChanges(tree(false), tree(false)), { send: [], remove: [] });
});

test('all names of an inode go together, also when a scan saw them before and after a change', () => {
  const file: TreeEntry = { inode: '7', ctime: '1.5', mtime: '1.5', type: 'file', size: 1, links: 2, recent: false };
  const folder: TreeEntry = { ...file, inode: '2', type: 'folder' };
  const tree = (ctime: string): Tree => new Map([['.', folder], ['a', file], ['d', { ...folder, inode: '3' }], ['d/b', { ...file, ctime }], ['other', { ...file, inode: '8' }]]);
  assert.deepEqual(treeChanges(tree('1.5'), tree('2.5')).send.map(({ path }) => path), ['.', 'a', 'd', 'd/b']);
});

test('a path too long to be opened is refused by name, before anything is sent', needsRoot, async (t) => {
  const { source } = sides(t);
  const name = 'd'.repeat(250);
  let path = source;
  for (let i = 0; i < 14; i += 1) mkdirSync(path = join(path, name));
  for (let i = 0; i < 3; i += 1) {
    mkdirSync(join(source, 'above'));
    renameSync(join(source, name), join(source, 'above', name));
    renameSync(join(source, 'above'), join(source, name));
  }
  await assert.rejects(scanTree(source), { code: 'storage.failed', message: /longer than 4093 bytes/ });
});

test('a tree that changes all the time: no round fails, and when it rests both sides are the same', needsRoot, async (t) => {
  const { source, target } = sides(t);
  const program = fileURLToPath(new URL('testing/churn.ts', import.meta.url));
  const churn = spawn(process.execPath, [program, source, String(BASE)], { stdio: ['pipe', 'inherit', 'inherit'] });
  const over = once(churn, 'close');
  let tree: Tree = new Map();
  let conflicts = 0;
  let sent = 0;
  try {
    for (let i = 0; i < 12; i += 1) {
      await sleep(50);
      const result = await transferRound(source, target, tree, BASE, { sync: false });
      tree = result.tree;
      conflicts += result.counts.conflicts;
      sent += result.sent;
    }
    churn.stdin.end();
    await over;
  } finally {
    churn.kill('SIGKILL');
    await over;
  }
  const last = await transferRound(source, target, tree, BASE);
  assert.equal(last.counts.conflicts, 0);
  assert.deepEqual(describeTree(target), describeTree(source));
  t.diagnostic(`${sent} names sent, ${conflicts} conflicts on the way`);
});

test('folders that become links to the host while they are packed: nothing of the host is in the stream', needsRoot, async (t) => {
  const { source } = sides(t);
  const names: TreeName[] = [{ path: '.', type: 'folder' }];
  for (const folder of ['absolute', 'relative', 'programs']) {
    mkdirSync(join(source, folder));
    names.push({ path: folder, type: 'folder' });
    for (const name of ['passwd', 'hostname', 'true', 'tar']) {
      writeFileSync(join(source, folder, name), 'of the VE');
      names.push({ path: `${folder}/${name}`, type: 'file' });
    }
  }
  const seen = new Map<string, string>();
  const pack = packTree(source);
  const targets: Record<string, string> = { absolute: '/etc', relative: '../../../../../etc', programs: '/usr/bin' };
  for (const [folder, to] of Object.entries(targets)) {
    renameSync(join(source, folder), join(source, `was-${folder}`));
    symlinkSync(to, join(source, folder));
  }
  const chunks: Buffer[] = [];
  await Promise.all([pack.send(names), (async () => { for await (const chunk of pack.output) chunks.push(chunk as Buffer); })()]);
  assert.deepEqual(await pack.ended, { skipped: 12 });
  const stream = Buffer.concat(chunks);
  const reader = new TarReader((entry) => seen.set(entry.path, entry.type));
  reader.write(stream.subarray(12 + stream.readUInt32BE(8)));
  reader.end();
  assert.deepEqual(Object.fromEntries(seen), { './': 'folder', './absolute': 'symlink', './relative': 'symlink', './programs': 'symlink' });
});

test('a caller cannot ask for names out of the tree', needsRoot, async (t) => {
  const { source, target } = sides(t);
  for (const path of ['../x', '/etc/passwd', 'a/../../x', 'a//b', './a', '']) {
    const pack = packTree(source);
    pack.output.resume().on('error', () => {});
    await assert.rejects(pack.send([{ path, type: 'file' }]), /not a path within a tree/, path);
    pack.cancel();
    await assert.rejects(removePaths(target, [path]), { code: 'migration.stream' }, path);
  }
});

test('removal follows no link, takes folders with all that is in them, and does not mind what is gone', needsRoot, async (t) => {
  const { source: victim, target } = sides(t);
  mkdirSync(join(victim, 'folder'));
  writeFileSync(join(victim, 'folder/file'), 'alive');
  symlinkSync(victim, join(target, 'out'));
  symlinkSync('../../source', join(target, 'relative'));
  mkdirSync(join(target, 'inner/deep'), { recursive: true });
  for (const file of ['inner/file', 'inner/deep/file']) writeFileSync(join(target, file), 'kept');
  symlinkSync('inner', join(target, 'inside'));
  for (const folder of ['full', 'line\nbreak', '-rf']) {
    mkdirSync(join(target, folder, 'a/b'), { recursive: true });
    symlinkSync(victim, join(target, folder, 'a/b/link'));
    writeFileSync(bytes(`${target}/${folder}/a/\xff\n`), '');
  }
  await removePaths(target, ['out/folder/file', 'out/folder', 'relative/folder/file', 'inside/file', 'inside/deep/file', 'inside/deep', 'gone', 'gone/too', 'inner/file/below', 'full', 'line\nbreak', '-rf']);
  assert.deepEqual(readdirSync(target).toSorted(), ['inner', 'inside', 'out', 'relative']);
  assert.equal(readFileSync(join(victim, 'folder/file'), 'utf8'), 'alive');
  for (const file of ['inner/file', 'inner/deep/file']) assert.equal(readFileSync(join(target, file), 'utf8'), 'kept');
  await removePaths(target, ['out', 'relative']);
  assert.deepEqual(readdirSync(target).toSorted(), ['inner', 'inside']);
  assert.equal(readFileSync(join(victim, 'folder/file'), 'utf8'), 'alive');
});

test('an operation that is cancelled ends the programs', needsRoot, async (t) => {
  const { source, target } = sides(t);
  const abort = new AbortController();
  const [pack, unpack, scan] = [packTree(source, { signal: abort.signal }), unpackTree(target, { uidBase: BASE, limits: LIMITS, signal: abort.signal }), prepareScan(source, { signal: abort.signal })];
  pack.output.resume().on('error', () => {});
  setTimeout(() => abort.abort(), 100);
  await Promise.all([pack.ended, unpack.ended].map((ended) => assert.rejects(ended, { code: 'operation.cancelled' })));
  await assert.rejects(scan.run(), { code: 'operation.cancelled' });
});

test('a stream that nobody reads any more, or a tree that is not there, ends the programs', needsRoot, async (t) => {
  const { source, target } = sides(t);
  for (const begin of [false, true]) {
    const pack = packTree(source);
    if (begin) await Promise.all([once(pack.output, 'readable'), pack.send([{ path: '.', type: 'folder' }])]);
    pack.output.destroy();
    // Read to its end it may have ended well before.
    await pack.ended.then(() => assert.ok(begin), (error: unknown) => assert.equal((error as VeldError).code, 'operation.cancelled'));
  }
  const gone = packTree(join(source, 'gone'));
  gone.output.resume().on('error', () => {});
  await assert.rejects(gone.send([]), { code: 'storage.failed' });
  await assert.rejects(scanTree(join(source, 'gone')), { code: 'storage.failed', message: /gone/ });
  const { input, ended } = unpackTree(join(target, 'gone'), { uidBase: BASE, limits: LIMITS });
  input.end(streamOf([{ path: './', type: '5', uid: BASE }]));
  await assert.rejects(ended, { code: 'storage.failed', message: /gone/ });
});

/** Everything random that a VE can do to names. */
const step = fc.record({
  what: fc.constantFrom('file', 'file', 'folder', 'symlink', 'fifo', 'whiteout', 'remove', 'rename', 'link', 'chmod', 'chown', 'append', 'opaque', 'attribute', 'touch'),
  from: fc.nat(), to: fc.nat(), name: fc.constantFrom('a', 'b', 'c\n', 'd\xff'), number: fc.nat(0o7777),
});

test('random trees and random changes: after each round both sides are the same', needsRoot, async (t) => {
  const { source, target } = sides(t);
  let number = 0;
  await fc.assert(fc.asyncProperty(fc.array(fc.array(step, { maxLength: 25 }), { minLength: 2, maxLength: 4 }), async (rounds) => {
    number += 1;
    const [from, to] = [join(source, String(number)), join(target, String(number))];
    for (const side of [from, to]) {
      mkdirSync(side);
      chownSync(side, BASE, BASE);
    }
    let tree: Tree = new Map();
    for (const steps of rounds) {
      for (const { what, from: a, to: b, name, number } of steps) {
        const folders = ['.', ...[...describeTree(from)].filter(([, entry]) => (entry as { kind: string }).kind === 'folder').map(([path]) => path)];
        const paths = [...describeTree(from).keys()];
        change(from, what, paths[a % paths.length]!, join(folders[b % folders.length]!, name), number);
      }
      const { tree: next, counts } = await transferRound(from, to, tree, BASE, { sync: false, settled: true });
      tree = next;
      assert.equal(counts.conflicts, 0);
      assert.deepEqual(describeTree(to), describeTree(from));
    }
  }), { numRuns: process.env.VELD_TEST_FULL ? 200 : 12, endOnFailure: true });
});

function change(root: string, what: string, path: string, fresh: string, number: number): void {
  const [old, made] = [bytes(`${root}/${path}`), bytes(`${root}/${fresh}`)];
  const isFree = !lstatSync(made, { throwIfNoEntry: false });
  const own = (): void => { lchownSync(made, BASE + number, BASE + number * 2); };
  const stat = lstatSync(old);
  const plain = stat.isFile() || stat.isDirectory();
  if (what === 'remove' && path !== '.') rmSync(old, { recursive: true });
  else if (what === 'chown') lchownSync(old, BASE + number, BASE);
  else if (what === 'chmod' && plain) chmodSync(old, number);
  else if (what === 'append' && stat.isFile()) writeFileSync(old, 'more', { flag: 'a' });
  else if (what === 'touch' && plain) utimesSync(old, 1, number);
  else if (what === 'attribute' && plain) xattr(old, `user.${number % 3}`, number % 2 === 0 ? Buffer.from(String(number)) : null);
  else if (what === 'opaque' && stat.isDirectory()) xattr(old, 'trusted.overlay.opaque', number % 2 === 0 ? Buffer.from('y') : null);
  if (!isFree) return;
  if (what === 'file') writeFileSync(made, String(number).repeat(number));
  else if (what === 'folder') mkdirSync(made);
  else if (what === 'symlink') symlinkSync(bytes(path), made);
  else if (what === 'fifo' || what === 'whiteout') {
    execFileSync('/bin/mknod', [join(root, '..', 'node'), ...what === 'fifo' ? ['p'] : ['c', '0', '0']]);
    renameSync(join(root, '..', 'node'), made);
  }
  else if (what === 'rename' && path !== '.' && !`${fresh}/`.startsWith(`${path}/`)) renameSync(old, made);
  else if (what === 'link' && !stat.isDirectory()) linkSync(old, made);
  if (['file', 'folder', 'symlink', 'fifo'].includes(what)) own();
}
