import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findHierarchies } from '../kernel/cgroup.ts';
import { endGoneWatches } from './gone-watches.ts';
import { watchesOf } from './watches.ts';

const { unified } = findHierarchies();

test('a watch of a group that was removed ends, and its reader is told; another stays', { skip: process.getuid?.() !== 0 || unified === undefined }, async (t) => {
  const [gone, stays] = ['gone', 'stays'].map((name) => join(unified!, `veld-test-${process.pid}-${name}`)) as [string, string];
  for (const group of [gone, stays]) mkdirSync(group);
  t.after(() => rmdirSync(stays));
  // inotify(7): 16 bytes of numbers, the second of which is the mask; IN_MODIFY = 2, IN_IGNORED = 0x8000.
  const watcher = spawn('perl', ['-e', `$| = 1; my $init = ${process.arch === 'arm64' ? 26 : 294}; my $add = ${process.arch === 'arm64' ? 27 : 254}; my $fd = syscall($init, 0);
    for (@ARGV) { my $path = "$_/cgroup.events"; print syscall($add, $fd, $path, 2) }
    open my $f, '<&=', $fd; sysread $f, my $b, 16; print join ' ', unpack 'i L', $b`, gone, stays], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => watcher.kill());
  const said = watcher.stdout.setEncoding('utf8')[Symbol.asyncIterator]();
  for (let text = ''; text.length < 2;) text += (await said.next()).value as string;
  assert.equal(endGoneWatches(await watchesOf([watcher.pid!]), unified!), 0, 'none has gone');
  rmdirSync(gone);
  assert.equal((await watchesOf([watcher.pid!])).length, 2, 'the kernel ends it itself: all this is needed no more');
  assert.equal(endGoneWatches(await watchesOf([watcher.pid!]), unified!), 1);
  assert.equal((await said.next()).value, '1 32768');
});
