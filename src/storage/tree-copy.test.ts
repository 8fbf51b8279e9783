import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { startBox } from '../kernel/box.ts';
import { copyMerged, copyTree } from './tree-copy.ts';
import { mergeTrees, stacked } from './tree-stack.ts';
import { scanTree, treeChanges } from './tree-scan.ts';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };
const signal = new AbortController().signal;
const [ONE, TWO] = [1_000_000, 2_000_000];

function sh(folder: string, script: string): void {
  const { status, stderr } = spawnSync('/bin/sh', ['-ec', script], { cwd: folder, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

/** All of a tree, or of several as one. */
async function look(root: string | readonly string[]): Promise<string> {
  const box = startBox(['/bin/sh', '-c', 'cd /in && find . -printf "%p %y %m %U:%G %l\\n" | sort && find . -type f -exec sha256sum {} + | sort -k2'], { in: root, links: 'refused', capabilities: ['dac_read_search'], stdout: 'pipe' });
  const said = await text(box.stdout!);
  assert.equal((await box.ended).code, 0);
  return said;
}

test('what several trees do above a base, one does, with owners from 0', needsRoot, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veld-copy-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const [base, one, two, made, flat] = ['base', 'one', 'two', 'made', 'flat'].map((name) => join(dir, name)) as [string, string, string, string, string];
  for (const folder of [base, one, two, made, flat]) mkdirSync(folder);
  sh(base, 'mkdir -p etc usr/doc srv/gone opt/kept; echo base >etc/a; echo base >etc/b; echo base >usr/doc/old; echo base >srv/gone/x; echo base >opt/kept/y; ln -s etc link; chown 33:33 etc/b');
  // The lower one deletes, makes a folder anew, puts a file in the place of a folder.
  sh(one, `mkdir -p etc usr/doc srv; echo one >etc/a; mknod etc/b c 0 0; setfattr -n trusted.overlay.opaque -v y usr/doc; echo one >usr/doc/new; mknod srv/gone c 0 0; echo two >srv/file; chown -R ${ONE}:${ONE} . ; chown 0:0 etc/b srv/gone; chown ${ONE + 33}:${ONE + 1000} usr/doc/new; chmod 2755 usr/doc`);
  // The upper one brings a deleted one back, and deletes what the lower one made.
  sh(two, `mkdir -p srv/gone opt; setfattr -n trusted.overlay.opaque -v y srv/gone; echo two >srv/gone/z; mknod srv/file c 0 0; echo two >opt/kept; echo left >opt/out; chown -R ${TWO}:${TWO} .; chown 0:0 srv/file; chown ${TWO + 7}:${TWO + 8} srv/gone/z; chmod 4711 srv/gone/z; ln srv/gone/z srv/hard`);
  const places = [{ path: one, base: ONE }, { path: two, base: TWO }];
  const merged = mergeTrees(await Promise.all(places.map(async ({ path }) => stacked(path, await scanTree(path)))));
  const names = treeChanges(new Map(), merged.tree).send.filter(({ path }) => path !== 'opt/out');
  let bytes = 0;
  await copyMerged(places, merged, names, { path: made, base: 0 }, { signal, onProgress: (length) => { bytes += length; } });
  assert.ok(bytes > 0);
  const seen = await look([base, made]);
  // By hand: what overlayfs shows of the three, with each owner where it belongs.
  assert.deepEqual(seen.split('\n').filter((line) => line.startsWith('.')), [
    '. d 755 0:0 ', './etc d 755 0:0 ', './etc/a f 644 0:0 ', './link l 777 0:0 etc', './opt d 755 0:0 ', './opt/kept f 644 0:0 ', './srv d 755 0:0 ', './srv/gone d 755 0:0 ', './srv/gone/z f 4711 7:8 ', './srv/hard f 4711 7:8 ', './usr d 755 0:0 ', './usr/doc d 2755 0:0 ', './usr/doc/new f 644 33:1000 ',
  ]);
  await copyTree([base, made], flat, { signal });
  assert.equal(await look(flat), seen);
});
