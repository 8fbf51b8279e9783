import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VeldError } from './errors.ts';
import { TarReader } from './tar-entries.ts';
import type { TarEntry, TarReaderOptions } from './tar-entries.ts';

const END = Buffer.alloc(1024);

function header(path: string, type: string, content = '', device = [0, 0]): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number): void => { block.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1'); };
  block.write(path, 0, 'latin1');
  octal(0o644, 100, 8);
  octal(content.length, 124, 12);
  block.write(type, 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(device[0] ?? 0, 329, 8);
  octal(device[1] ?? 0, 337, 8);
  block.fill(' ', 148, 156);
  octal(block.reduce((sum, byte) => sum + byte, 0), 148, 7);
  return Buffer.concat([block, Buffer.from(content, 'latin1'), Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** A record of a pax header. */
function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length += 1;
  return `${length}${rest}`;
}

function read(blocks: Buffer[], options: TarReaderOptions = {}): TarEntry[] {
  const seen: TarEntry[] = [];
  const reader = new TarReader((entry) => seen.push(entry), undefined, options);
  for (const block of [...blocks, END]) reader.write(block);
  reader.end();
  return seen;
}

test('a global header may comment, and change nothing of what follows', () => {
  assert.deepEqual(read([header('g', 'g', record('comment', 'c0ffee')), header('a', '0')]).map(({ path }) => path), ['a']);
  for (const key of ['uid', 'gid', 'path', 'linkpath', 'size', 'GNU.sparse.name', 'SCHILY.xattr.security.capability']) {
    assert.throws(() => read([header('g', 'g', record(key, '0')), header('a', '0')]), { code: 'template.invalid', message: /global header with/ }, key);
  }
});

test('where readers disagree the archive is refused', () => {
  const uid = header('x', 'x', record('uid', '5'));
  assert.equal(read([uid, header('a', '0')])[0]?.uid, 5);
  assert.throws(() => read([uid, uid, header('a', '0')]), /two extended headers/);
  assert.throws(() => read([header('a', '0'), uid]), /cut short/);
  // The name of a sparse file counts, whatever comes after it.
  assert.equal(read([header('x', 'x', record('GNU.sparse.name', 'b') + record('path', 'c')), header('a', '0')])[0]?.path, 'b');
});

test('names of any bytes, attributes with any name, access lists and device numbers', () => {
  const [entry] = read([header('x', 'x', record('path', '\xff\n') + record('SCHILY.xattr.user.a%3D%253Db', '\0v') + record('SCHILY.acl.access', 'user::rwx')), header('a', '3', '', [1, 7])], { encoding: 'latin1' });
  assert.deepEqual([entry?.path, entry?.device, [...entry!.xattrs.keys()], entry?.acls.get('access')], ['\xff\n', [1, 7], ['user.a=%3Db'], 'user::rwx']);
});

test('only what GNU tar writes for itself, and errors as the caller says them', (t) => {
  const invalid = (what: string): VeldError => new VeldError('migration.stream', `It ${what}.`);
  const strict: TarReaderOptions = { posix: true, hash: false, invalid };
  for (const blocks of [[header('g', 'g', record('comment', 'x'))], [header('l', 'L', 'long')], [header('v', 'V')], [header('7', '7')], [header('x', 'x', record('comment', 'x')), header('a', '0')]]) {
    assert.throws(() => read(blocks, strict), { code: 'migration.stream', message: /^It has an/ });
  }
  const folder = mkdtempSync(join(tmpdir(), 'veld-tar-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'n'.repeat(200)), 'x');
  const { stdout } = spawnSync('/usr/bin/tar', ['-C', folder, '--format=posix', '--sparse', '-cf', '-', '.']);
  // Without the times of access and change, which are of no use to anybody.
  assert.throws(() => read([stdout], strict), /"atime"/);
  const lean = spawnSync('/usr/bin/tar', ['-C', folder, '--format=posix', '--pax-option=delete=atime,delete=ctime', '--sparse', '-cf', '-', '.']);
  assert.deepEqual(read([lean.stdout], strict).map(({ path, sha256 }) => [path.length, sha256]), [[2, null], [202, null]]);
});
