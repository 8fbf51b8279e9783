import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { comparePackages, packagesOf, parseApk, parseDpkg } from './packages.ts';

const block = (name: string, version: string, status = 'install ok installed', architecture = 'amd64'): string => `Package: ${name}\nStatus: ${status}\nArchitecture: ${architecture}\nDescription: one\n Version: 9 of something\nVersion: ${version}\n`;

test('dpkg: what is installed, with the architecture where there are several', () => {
  const status = [block('bash', '5.2-1'), block('gone', '1', 'deinstall ok config-files'), block('half', '2', 'install ok unpacked'), block('libc6', '2.36'), block('libc6', '2.35', 'install ok installed', 'i386')].join('\n');
  assert.deepEqual([...parseDpkg(status)], [['bash', '5.2-1'], ['half', '2'], ['libc6:amd64', '2.36'], ['libc6:i386', '2.35']]);
});

test('apk, and what differs', () => {
  const before = parseApk('C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\n\nP:busybox\nV:1.36\n\n');
  const now = parseApk('P:musl\nV:1.2.5-r0\n\nP:nginx\nV:1.26\n');
  assert.deepEqual(comparePackages(before, now), { added: [{ name: 'nginx', version: '1.26' }], removed: [{ name: 'busybox', version: '1.36' }], changed: [{ name: 'musl', from: '1.2.4-r2', to: '1.2.5-r0' }] });
  assert.deepEqual(comparePackages(now, now), { added: [], removed: [], changed: [] });
});

test('of layers as one tree, links of the lower ones included; of none there is nothing', { skip: process.getuid?.() !== 0 && 'needs root' }, async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'veld-packages-'));
  t.after(() => rmSync(root, { recursive: true }));
  const [low, high] = [join(root, 'low'), join(root, 'high')];
  mkdirSync(join(low, 'usr/lib/apk/db'), { recursive: true });
  symlinkSync('usr/lib', join(low, 'lib'));
  writeFileSync(join(low, 'usr/lib/apk/db/installed'), 'P:musl\nV:1\n');
  mkdirSync(join(high, 'usr/lib/apk/db'), { recursive: true });
  writeFileSync(join(high, 'usr/lib/apk/db/installed'), 'P:musl\nV:2\n');
  assert.deepEqual(await packagesOf([low, high]), { manager: 'apk', versions: new Map([['musl', '2']]) });
  assert.deepEqual(await packagesOf(low), { manager: 'apk', versions: new Map([['musl', '1']]) });
  rmSync(join(high, 'usr'), { recursive: true });
  rmSync(join(low, 'usr'), { recursive: true });
  assert.equal(await packagesOf([low, high]), undefined);
});
