import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { findInitctl, requestRunlevel } from './initctl.ts';

const needsRoot = { skip: process.getuid?.() === 0 ? false : 'needs root: it mounts in a namespace of its own' };

test('a request goes through the descriptor that the process itself holds, whole and in the format of sysvinit', needsRoot, async (t) => {
  // As init sees it: /run is the VE's own. The FIFO is opened for reading and writing, as sysvinit does.
  const child = spawn('/usr/bin/unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-c',
    'mount -t tmpfs veld-test /run && mkfifo /run/initctl && exec 3<>/run/initctl && echo up && head -c 384 <&3 | od -A n -v -t d4 -w384'], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const [up] = await once(child.stdout, 'data') as [Buffer];
  assert.equal(up.toString(), 'up\n');
  assert.match(findInitctl(child.pid!) ?? '', /^\/proc\/\d+\/fd\/3$/);
  assert.equal(requestRunlevel(child.pid!, '0'), true);
  const [words] = await once(child.stdout, 'data') as [Buffer];
  assert.deepEqual(words.toString().trim().split(/\s+/).slice(0, 5).map(Number), [0x03091969, 1, 48, 3, 0]);
  await once(child, 'exit');
  assert.equal(requestRunlevel(child.pid!, '0'), false, 'it is gone');
});

test('a file of that name that is no FIFO is not written to', needsRoot, async (t) => {
  const child = spawn('/usr/bin/unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-c',
    'mount -t tmpfs veld-test /run && exec 3>/run/initctl && echo up && read x; wc -c </run/initctl'], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  assert.equal(requestRunlevel(child.pid!, '0'), false);
  child.stdin.end();
  const [size] = await once(child.stdout, 'data') as [Buffer];
  assert.equal(size.toString().trim(), '0');
});
