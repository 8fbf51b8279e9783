import { test } from 'node:test';
import type { TestContext } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import { startBox } from './box.ts';
import { openGuestRoot } from './guest-tree.ts';
import type { BoxOptions } from './box.ts';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };

function folders(t: TestContext): { dir: string; in: string; out: string } {
  const dir = mkdtempSync(join(tmpdir(), 'veld-box-test-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const name of ['in', 'out']) mkdirSync(join(dir, name));
  return { dir, in: join(dir, 'in'), out: join(dir, 'out') };
}

/** What a script says in a box. */
async function inBox(script: string, options: Partial<BoxOptions> = {}): Promise<string> {
  const box = startBox(['/bin/sh', '-c', `exec 2>&1; ${script}`], { links: 'refused', capabilities: [], stdout: 'pipe', ...options });
  const said = await text(box.stdout!);
  await box.ended;
  return said.trim();
}

test('in the box there is nothing of the host but its programs, and no more might than was given', needsRoot, async (t) => {
  const { in: source, out } = folders(t);
  assert.equal(await inBox('cd /; echo *; echo /etc/* /in/* /out/*; echo $PATH; pwd; env | cut -d= -f1 | sort | tr "\\n" " "', { in: source, out }),
    `${['bin', 'etc', 'in', 'lib', 'lib32', 'lib64', 'libx32', 'out', 'sbin', 'usr'].filter((name) => ['etc', 'in', 'out'].includes(name) || existsSync(`/${name}`)).join(' ')}\n`
    + '/etc/* /in/* /out/*\n/usr/sbin:/usr/bin:/sbin:/bin\n/\nLC_ALL OLDPWD PATH PWD');
  const refused = /Operation not permitted|Permission denied|Read-only file system|permission denied|must be superuser|cannot/;
  for (const attempt of ['mount -t tmpfs x /out', 'umount /in', 'mount -o remount,rw /in', 'mknod /out/disk b 8 0', 'chroot /out /bin/sh', 'touch /x', 'touch /usr/x', 'touch /in/x', 'chown 1 /out', 'unshare -r true']) {
    const said = await inBox(attempt, { in: source, out });
    assert.ok(refused.test(said), `${attempt}: ${said}`);
  }
  assert.deepEqual([readdirSync(source), readdirSync(out)], [[], []]);
  assert.match(await inBox('chown 7 /out && touch /out/x && stat -c %u /out', { out, capabilities: ['chown', 'dac_override'] }), /^7$/);
});

test('a folder is there to be read, another to be written; a program of a tree is not run', needsRoot, async (t) => {
  const { in: source, out } = folders(t);
  writeFileSync(join(source, 'program'), '#!/bin/sh\necho ran\n', { mode: 0o755 });
  assert.match(await inBox('cat /in/program > /out/copy; /in/program', { in: source, out }), /Permission denied/);
  assert.match(readFileSync(join(out, 'copy'), 'utf8'), /echo ran/);
});

test('a path through a link leads nowhere, or not out of the box', needsRoot, async (t) => {
  const { dir, in: source } = folders(t);
  mkdirSync(join(source, 'inner'));
  writeFileSync(join(source, 'inner/file'), 'inside');
  writeFileSync(join(dir, 'secret'), 'outside');
  for (const [name, to] of [['link', 'inner'], ['up', '../../../../../..'], ['usr', '/usr'], ['dir', dir]] as const) symlinkSync(to, join(source, name));
  const script = `cat /in/link/file; readlink /in/link; cat /in/up${dir}/secret; cat /in/dir/secret; ls -d /in/usr/bin`;
  const refused = await inBox(script, { in: source });
  assert.equal(refused.split('\n').filter((line) => line.includes('Too many levels of symbolic links')).length, 4, refused);
  assert.match(refused, /^inner$/m);
  const followed = await inBox(script, { in: source, links: 'followed' });
  assert.match(followed, /^inside\s*inner$/m);
  assert.ok(!followed.includes('outside') && followed.includes('/in/usr/bin'), followed);
});

test('a program that waits has what is put in the folder later, and its words come line by line', needsRoot, async (t) => {
  const { in: source } = folders(t);
  const lines: string[] = [];
  const box = startBox(['/bin/sh', '-c', 'read -r name; cat "/in/$name"; echo one >&2; printf two >&2; exit 3'], { in: source, links: 'refused', capabilities: [], stdin: 'pipe', stdout: 'pipe', onLine: (line) => lines.push(line) });
  writeFileSync(join(source, 'late'), 'content');
  box.stdin!.end('late\n');
  assert.equal(await text(box.stdout!), 'content');
  assert.deepEqual(await box.ended, { code: 3, said: 'one / two' });
  assert.deepEqual(lines, ['one', 'two']);
});

test('nothing is left: no mount, no process, also after a signal', needsRoot, async (t) => {
  const { in: source } = folders(t);
  const sleeping = (): boolean => spawnSync('/usr/bin/pgrep', ['-f', `^/usr/bin/sleep 4711\\.${process.pid}`]).status === 0;
  const sleep = ['/usr/bin/sleep', `4711.${process.pid}`];
  const abort = new AbortController();
  const [aborted, killed] = [startBox(sleep, { in: source, links: 'refused', capabilities: [], signal: abort.signal }), startBox(sleep, { links: 'refused', capabilities: [] })];
  while (!sleeping()) await setTimeout(20);
  abort.abort();
  killed.kill();
  await assert.rejects(aborted.ended, { code: 'operation.cancelled' });
  assert.equal((await killed.ended).code, null);
  await assert.rejects(startBox(sleep, { links: 'refused', capabilities: [], signal: abort.signal }).ended, { code: 'operation.cancelled' });
  for (let i = 0; i < 100 && sleeping(); i += 1) await setTimeout(20);
  assert.ok(!sleeping());
  assert.ok(!readFileSync('/proc/self/mounts', 'utf8').includes('veld-box'));
});

test('one that ends while it begins leaves nothing either, whenever that is', needsRoot, async (t) => {
  const { dir } = folders(t);
  const name = `4712.${process.pid}`;
  const left = (): string => spawnSync('/usr/bin/pgrep', ['-f', `sleep ${name}`], { encoding: 'utf8' }).stdout.trim();
  t.after(() => { for (const pid of left().split('\n').filter(Boolean)) process.kill(Number(pid), 'SIGKILL'); });
  // Ended by a program, from the moment at which unshare's child is there.
  for (let round = 0; round < 40; round += 1) {
    const box = startBox(['/usr/bin/sleep', name], { out: dir, links: 'refused', capabilities: [] });
    await setTimeout(round / 4);
    box.kill();
    assert.equal((await box.ended).code, null);
  }
  assert.equal(left(), '');
});

test('what cannot be run says why', needsRoot, async (t) => {
  const { dir } = folders(t);
  const box = startBox(['/bin/true'], { in: join(dir, 'nowhere'), links: 'refused', capabilities: [] });
  const { code, said } = await box.ended;
  assert.notEqual(code, 0);
  assert.match(said, /nowhere/);
});

test('several folders are one tree: deleted names and what lies below opaque folders do not show', needsRoot, async (t) => {
  const { dir, out } = folders(t);
  const [low, middle, high] = ['low', 'middle', 'high'].map((name) => join(dir, name)) as [string, string, string];
  for (const path of ['etc', 'srv']) mkdirSync(join(low, path), { recursive: true });
  for (const path of ['etc/a', 'etc/b', 'srv/old']) writeFileSync(join(low, path), 'low');
  for (const folder of [middle, high]) mkdirSync(join(folder, 'etc'), { recursive: true });
  writeFileSync(join(middle, 'etc/a'), 'middle');
  mkdirSync(join(middle, 'srv'));
  assert.equal(spawnSync('setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', join(middle, 'srv')]).status, 0);
  assert.equal(spawnSync('mknod', [join(high, 'etc/b'), 'c', '0', '0']).status, 0);
  const stack = [low, middle, high];
  assert.equal(await inBox('cd /in && find . | sort | tr "\\n" " "; cat etc/a; touch /in/x; touch /out/y && ls /out', { in: stack, out }), ". ./etc ./etc/a ./srv middletouch: cannot touch '/in/x': Read-only file system\ny");
  assert.equal(await inBox('cat /in/etc/b', { in: [low] }), 'low');
  const root = await openGuestRoot(stack);
  t.after(() => root.close());
  assert.deepEqual([(await root.readFile('/etc/a', 10)).toString(), await root.exists('/etc/b'), await root.exists('/srv/old')], ['middle', false, false]);
  assert.throws(() => startBox(['/bin/true'], { in: Array.from({ length: 13 }, () => low), links: 'refused', capabilities: [] }), /13 layers/);
});
