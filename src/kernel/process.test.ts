import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bootId, isAlive, parseStat, readProcess } from './process.ts';
import type { ProcessId } from './process.ts';
import { signalProcess, waitProcessEnd } from './pidfd.ts';
import { peerCredentials } from './peer-credentials.ts';

function sleeper(): { child: ReturnType<typeof spawn>; id: ProcessId } {
  const child = spawn('/bin/sleep', ['30'], { stdio: 'ignore' });
  const info = readProcess(child.pid as number);
  assert.ok(info);
  return { child, id: { pid: info.pid, startTime: info.startTime } };
}

test('a name with parentheses, spaces and newlines does not shift the fields', () => {
  const line = '42 (a) R 1 (b\n c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3 18446744073709551615\n';
  assert.deepEqual(parseStat(line), { pid: 42, startTime: 987654, state: 'S', ppid: 7, comm: 'a) R 1 (b\n c' });
  assert.equal(parseStat('nonsense'), undefined);
  assert.equal(parseStat(''), undefined);
});

test('this process is read, others are not invented', () => {
  const self = readProcess(process.pid);
  assert.equal(self?.ppid, process.ppid);
  assert.ok((self?.startTime ?? 0) > 0);
  for (const pid of [0, -1, 1.5, 0x3fffffff]) assert.equal(readProcess(pid), undefined);
  assert.match(bootId(), /^[0-9a-f-]{36}$/);
});

test('a process of the same pid and another start time is somebody else', () => {
  const { child, id } = sleeper();
  try {
    const other = { pid: id.pid, startTime: id.startTime - 1 };
    assert.equal(isAlive(other), false);
    assert.equal(signalProcess(other, 'SIGKILL'), false);
    assert.equal(isAlive(id), true);
    assert.equal(signalProcess(id, 0), true);
  } finally {
    child.kill('SIGKILL');
  }
});

test('the end of a process wakes the waiter, and a second wait returns at once', async () => {
  const { child, id } = sleeper();
  const ended = waitProcessEnd(id, AbortSignal.timeout(5000));
  assert.equal(signalProcess(id, 'SIGTERM'), true);
  await ended;
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  assert.equal(child.signalCode, 'SIGTERM');
  assert.equal(signalProcess(id, 'SIGTERM'), false);
  await waitProcessEnd(id);
});

test('a wait is bounded by its signal, and leaks no descriptor', async () => {
  const { readdirSync } = await import('node:fs');
  const { child, id } = sleeper();
  try {
    const before = readdirSync('/proc/self/fd').length;
    const abort = new AbortController();
    const waits = Array.from({ length: 20 }, () => waitProcessEnd(id, abort.signal));
    abort.abort();
    for (const wait of waits) await assert.rejects(wait, { code: 'operation.cancelled' });
    await assert.rejects(waitProcessEnd(id, AbortSignal.timeout(20)), { code: 'timeout' });
    assert.equal(readdirSync('/proc/self/fd').length, before);
  } finally {
    child.kill('SIGKILL');
  }
});

test('the peer of a unix socket is known', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'veld-peer-'));
  const server = createServer();
  try {
    server.listen(join(dir, 's'));
    await once(server, 'listening');
    const accepted = once(server, 'connection');
    const client = connect(join(dir, 's'));
    const [socket] = await accepted;
    assert.deepEqual(peerCredentials(socket), { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
    const closed = once(socket, 'close');
    client.destroy();
    socket.resume();
    await closed;
    assert.equal(peerCredentials(socket), undefined);
  } finally {
    server.close();
    rmSync(dir, { recursive: true });
  }
});
