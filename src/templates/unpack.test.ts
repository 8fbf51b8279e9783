import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TarReader } from '../lib/tar-entries.ts';
import type { TarEntry } from '../lib/tar-entries.ts';
import { fingerprintOf, inspectTree } from './tree.ts';
import { createChecker, unpackArchive, UNPACK_LIMITS } from './unpack.ts';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };

function scratch(t: { after: (f: () => void) => void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'veld-unpack-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** One entry of an archive that no honest tar would write. */
function header(fields: { name: string; type?: string; link?: string; size?: number; uid?: number; major?: number }): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number): void => { block.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1'); };
  block.write(fields.name, 0);
  octal(0o755, 100, 8);
  octal(fields.uid ?? 0, 108, 8);
  octal(0, 116, 8);
  octal(fields.size ?? 0, 124, 12);
  octal(0, 136, 12);
  block.write(fields.type ?? '0', 156);
  block.write(fields.link ?? '', 157);
  block.write('ustar\x0000', 257, 'latin1');
  octal(fields.major ?? 0, 329, 8);
  octal(0, 337, 8);
  block.fill(' ', 148, 156);
  octal(block.reduce((sum, byte) => sum + byte, 0), 148, 7);
  return block;
}

const END = Buffer.alloc(1024);

test('hostile entries are refused by name', () => {
  const cases: [Parameters<typeof header>[0], RegExp][] = [
    [{ name: '/etc/shadow' }, /leads out/],
    [{ name: 'a/../../etc/shadow' }, /leads out/],
    [{ name: '..' }, /leads out/],
    [{ name: 'x', type: '1', link: '/etc/shadow' }, /hard link .*leads out/],
    [{ name: 'x', type: '1', link: '../x' }, /hard link .*leads out/],
    [{ name: 'disk', type: '4', major: 8 }, /device node/],
    [{ name: 'adev/x', type: '3' }, /device node/],
    [{ name: 'x', uid: 65536 }, /owner 65536/],
    [{ name: 'x', type: '5', size: 512 }, /with content/],
    [{ name: 'x', type: 'V' }, /of type "V"/],
  ];
  for (const [fields, why] of cases) assert.throws(() => createChecker(UNPACK_LIMITS).reader.write(Buffer.concat([header(fields), END])), why, JSON.stringify(fields));
  const fine = createChecker(UNPACK_LIMITS);
  for (const fields of [{ name: './dev/null', type: '3' }, { name: 'a..b/..c' }, { name: 'link', type: '2', link: '/etc/shadow' }]) fine.reader.write(header(fields));
  fine.reader.write(END);
  fine.reader.end();
  assert.equal(fine.seen.entries, 3);
});

test('an archive beyond its bounds, cut short, or of another kind is refused', () => {
  const check = (limits: Partial<typeof UNPACK_LIMITS>, ...blocks: Buffer[]): void => {
    const { reader } = createChecker({ ...UNPACK_LIMITS, ...limits });
    for (const block of blocks) reader.write(block);
    reader.end();
  };
  assert.throws(() => check({ entries: 1 }, header({ name: 'a' }), header({ name: 'b' })), /more than 1 entries/);
  assert.throws(() => check({ bytes: 100 }, header({ name: 'a', size: 101 })), /more than 100 bytes/);
  assert.throws(() => check({ path: 10 }, header({ name: 'a'.repeat(11) })), /path of more than 10/);
  assert.throws(() => check({}, header({ name: 'a', size: 600 }), Buffer.alloc(512)), /cut short/);
  assert.throws(() => check({}, header({ name: 'a' })), /cut short/);
  assert.throws(() => check({}, Buffer.from('<html>'.repeat(100))), /number in a header/);
  assert.throws(() => check({}, header({ name: 'x', type: 'x', size: 2 << 20 })), /extended header/);
});

test('what GNU tar writes is read: long names, attributes, links, chunks of any size', needsRoot, async (t) => {
  const folder = scratch(t);
  const tree = join(folder, 'tree');
  const long = join('d'.repeat(120), 'e'.repeat(120));
  mkdirSync(join(tree, long), { recursive: true });
  writeFileSync(join(tree, long, 'file'), 'content\n');
  symlinkSync('/x'.repeat(100), join(tree, 'link'));
  for (const format of ['gnu', 'posix', 'ustar']) {
    if (format === 'ustar') { rmSync(join(tree, 'd'.repeat(120)), { recursive: true }); rmSync(join(tree, 'link')); writeFileSync(join(tree, 'file'), 'content\n'); }
    const { stdout } = spawnSync('/usr/bin/tar', [`--format=${format}`, '-C', tree, '-cf', '-', '.']);
    for (const step of [1, 511, 513, 1 << 20]) {
      const seen: TarEntry[] = [];
      const reader = new TarReader((entry) => seen.push(entry));
      for (let at = 0; at < stdout.length; at += step) reader.write(stdout.subarray(at, at + step));
      reader.end();
      const file = seen.find((entry) => entry.path.endsWith('/file'));
      assert.equal(file?.path, format === 'ustar' ? './file' : `./${long}/file`);
      assert.equal(file?.sha256, '434728a410a78f56fc1b5899c3593436e61ab0c731e9072d95e96db290205e53');
      if (format !== 'ustar') assert.equal(seen.find((entry) => entry.type === 'symlink')?.link, '/x'.repeat(100));
    }
  }
});

test('a good archive is unpacked whole, in every compression; dev stays empty', needsRoot, async (t) => {
  const folder = scratch(t);
  const tree = join(folder, 'tree');
  for (const path of ['usr/bin', 'usr/sbin', 'etc', 'dev']) mkdirSync(join(tree, path), { recursive: true });
  for (const path of ['usr/bin/sh', 'usr/sbin/init']) spawnSync('/usr/bin/cp', ['/bin/true', join(tree, path)]);
  symlinkSync('/usr/bin', join(tree, 'bin'));
  symlinkSync('usr/sbin', join(tree, 'sbin'));
  writeFileSync(join(tree, 'etc/os-release'), 'ID=debian\nVERSION_ID="12"\n');
  spawnSync('/usr/bin/mknod', [join(tree, 'dev/null'), 'c', '1', '3']);
  spawnSync('/usr/sbin/setcap', ['cap_net_raw=ep', join(tree, 'usr/bin/sh')]);
  let first: string | undefined;
  for (const [name, flag] of [['t.tar', '--format=gnu'], ['t.tar.gz', '--gzip'], ['t.tar.xz', '--xz'], ['t.tar.zst', '--zstd']] as const) {
    const file = join(folder, name);
    assert.equal(spawnSync('/usr/bin/tar', ['-C', tree, '--format=posix', '--xattrs', '--xattrs-include=*', flag === '--format=gnu' ? '--owner=7' : flag, '-cf', file, '.']).status, 0);
    const target = join(folder, `out-${name}`);
    mkdirSync(target);
    const seen = await unpackArchive(file, target);
    assert.ok(seen.entries >= 10);
    assert.deepEqual(readdirSync(join(target, 'dev')), []);
    assert.deepEqual(inspectTree(target), { os: 'debian', release: '12', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' });
    if (name === 't.tar') { assert.equal(lstatSync(join(target, 'usr/bin/sh')).uid, 7); continue; }
    first ??= await fingerprintOf(target);
    assert.equal(await fingerprintOf(target), first, name);
  }
  assert.match(spawnSync('/usr/sbin/getcap', [join(folder, 'out-t.tar.xz/usr/bin/sh')], { encoding: 'utf8' }).stdout, /cap_net_raw=ep/);
  assert.ok(!readFileSync('/proc/self/mounts', 'utf8').includes('veld-box'), 'no mount is left on the host');
});

test('a link in the archive that is written through reaches nothing of the host', needsRoot, async (t) => {
  const folder = scratch(t);
  const victim = join(folder, 'victim');
  mkdirSync(victim);
  const target = join(folder, 'out');
  mkdirSync(target);
  const file = join(folder, 'evil.tar');
  const content = Buffer.alloc(512, 'x');
  writeFileSync(file, Buffer.concat([header({ name: 'door', type: '2', link: victim }), header({ name: 'door/planted', size: 512 }), content, END]));
  await unpackArchive(file, target).catch(() => {});
  assert.deepEqual(readdirSync(victim), []);
  assert.ok(!existsSync(join(victim, 'planted')));
});

test('a tree without init, or whose init leads to the host, is no root', needsRoot, (t) => {
  const tree = scratch(t);
  mkdirSync(join(tree, 'sbin'));
  mkdirSync(join(tree, 'bin'));
  assert.throws(() => inspectTree(tree), /no program \/sbin\/init/);
  assert.equal(inspectTree(tree, { init: false }).architecture, 'unknown');
  symlinkSync('/bin/true', join(tree, 'sbin/init')); // exists on the host, not in the tree
  symlinkSync('../../../../../../bin/true', join(tree, 'bin/sh'));
  assert.throws(() => inspectTree(tree), /no program \/sbin\/init/);
});

test('the fingerprint follows content, owner, mode and attributes, not times; a device is refused', needsRoot, async (t) => {
  const tree = scratch(t);
  writeFileSync(join(tree, 'a'), 'x');
  const first = await fingerprintOf(tree);
  spawnSync('/usr/bin/touch', ['-d', '2001-01-01', join(tree, 'a')]);
  assert.equal(await fingerprintOf(tree), first);
  const change = async (command: string, ...args: string[]): Promise<void> => {
    const before = await fingerprintOf(tree);
    assert.equal(spawnSync(command, [...args, join(tree, 'a')]).status, 0);
    assert.notEqual(await fingerprintOf(tree), before, command);
  };
  await change('/usr/bin/chmod', '4755');
  await change('/usr/sbin/setcap', 'cap_net_raw=ep');
  await change('/usr/bin/chown', '5:6');
  await change('/usr/bin/truncate', '-s', '2');
  spawnSync('/usr/bin/mknod', [join(tree, 'disk'), 'b', '7', '99']);
  await assert.rejects(fingerprintOf(tree), /device node/);
});
