import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fingerprintOf } from './tree.ts';
import { unpackArchive } from './unpack.ts';
import { writeImage } from './write-image.ts';

test('a template of several layers is written as the tree that they make, and has its fingerprint', { skip: process.getuid?.() !== 0 && 'needs root' }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veld-write-image-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const [low, high, back] = ['low', 'high', 'back'].map((name) => join(dir, name)) as [string, string, string];
  for (const folder of [low, high, back]) mkdirSync(folder);
  const sh = (folder: string, script: string): void => assert.equal(spawnSync('/bin/sh', ['-ec', script], { cwd: folder }).status, 0);
  sh(low, 'mkdir -p bin usr/doc; echo low >bin/a; echo old >usr/doc/old; echo gone >gone; ln bin/a bin/b; chown 5:6 bin/a');
  sh(high, 'mkdir -p usr/doc bin; setfattr -n trusted.overlay.opaque -v y usr/doc; echo new >usr/doc/new; chmod 4750 usr/doc/new; ln usr/doc/new usr/doc/hard; mknod gone c 0 0; truncate -s 3M bin/sparse; mkfifo -m 640 fifo; ln -s ../gone bin/link; setfattr -n user.colour -v red bin/sparse; echo x >"bin/$(printf \'bytes\\303\\244\\377\')"');
  const file = join(dir, 'image.tar');
  const template = { name: 'x', os: 'debian', release: '12', architecture: 'amd64', createdAt: '2026-01-01T00:00:00.000Z', source: {} };
  await writeImage({ tree: [low, high], template, file, compress: 'none', signal: new AbortController().signal, onProgress() {} });
  await unpackArchive(file, back, { within: 'rootfs' });
  assert.equal(await fingerprintOf(back), await fingerprintOf([low, high]));
});
