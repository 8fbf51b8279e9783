import { test } from 'node:test';
import type { TestContext } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openConsoleSocket } from './console-socket.ts';
import type { Terminal } from './console-socket.ts';

/** Opens a pty, sends its master, and runs the command on the slave, as a runtime does. */
const SENDER = `
import os, pty, socket, sys
master, slave = pty.openpty()
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
extra = [os.open('/dev/null', os.O_RDONLY)] if sys.argv[2] == 'two' else []
socket.send_fds(s, [b'/dev/pts/0'], [0] if sys.argv[2] == 'wrong' else [master] + extra)
s.close()
os.setsid()
import fcntl, termios
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
for fd in (0, 1, 2): os.dup2(slave, fd)
os.close(slave); os.close(master)
os.execv('/bin/sh', ['sh', '-c', sys.argv[3]])
`;

const DEADLINE = { timeout: 60_000 };

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'veld-con-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 's');
}

function send(t: TestContext, path: string, how: string, command: string): ChildProcess {
  const child = spawn('python3', ['-c', SENDER, path, how, command], { stdio: ['ignore', 'ignore', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

async function terminal(t: TestContext, command: string): Promise<Terminal> {
  const path = folder(t);
  const socket = await openConsoleSocket(path);
  t.after(() => socket.close());
  send(t, path, 'one', command);
  const pty = await socket.accepted;
  assert.equal(existsSync(path), false, 'the socket is gone once it has served');
  t.after(() => pty.stream.destroy());
  return pty;
}

test('a terminal arrives, shows, takes input, knows its size, and ends when the last process leaves', DEADLINE, async (t) => {
  const before = readdirSync('/proc/self/fd').length;
  const { stream, resize } = await terminal(t, 'read line; stty size; echo "got $line"; read line');
  resize(132, 43);
  stream.write('hello\n');
  let shown = '';
  stream.on('data', (data: Buffer) => {
    shown += data.toString();
    if (shown.includes('got hello') && !stream.writableEnded) stream.write('end\n');
  });
  await once(stream, 'close');
  assert.match(shown, /43 132\r\ngot hello\r\n/);
  resize(80, 24); // of no effect, and no error
  assert.equal(readdirSync('/proc/self/fd').length, before);
});

test('all of a long output arrives though the reader pauses, and a long input does not get lost', DEADLINE, async (t) => {
  const { stream } = await terminal(t, 'stty raw -echo; echo ready; head -c 300000 | tr a b');
  await once(stream, 'data');
  stream.pause();
  stream.write(Buffer.alloc(300_000, 'a'));
  await sleep(50);
  let count = 0;
  for await (const chunk of stream) count += (chunk as Buffer).filter((byte) => byte === 0x62).length;
  assert.equal(count, 300_000);
});

test('destroying the stream hangs up the session', DEADLINE, async (t) => {
  const path = folder(t);
  const socket = await openConsoleSocket(path);
  const child = send(t, path, 'one', 'exec sleep 60');
  const { stream } = await socket.accepted;
  await sleep(200); // let it become the session's leader
  stream.destroy();
  const [, signal] = await once(child, 'exit');
  assert.equal(signal, 'SIGHUP');
});

test('a sender that dies, sends something else, or never comes ends in words and leaves no descriptor', DEADLINE, async (t) => {
  const path = folder(t);
  const before = readdirSync('/proc/self/fd').length;
  const died = await openConsoleSocket(path);
  const client = connect(path);
  client.once('connect', () => client.destroy());
  await assert.rejects(died.accepted, { code: 'exec.failed', message: /without handing over/ });

  for (const how of ['wrong', 'two']) {
    const wrong = await openConsoleSocket(path);
    send(t, path, how, 'true');
    await assert.rejects(wrong.accepted, { code: 'exec.failed', message: /not one terminal/ });
  }

  const never = await openConsoleSocket(path);
  never.close();
  never.close();
  await assert.rejects(never.accepted, { code: 'operation.cancelled' });
  await assert.rejects(openConsoleSocket(path, AbortSignal.abort()));
  const abort = new AbortController();
  const aborted = await openConsoleSocket(path, abort.signal);
  abort.abort();
  await assert.rejects(aborted.accepted, { code: 'operation.cancelled' });
  assert.equal(existsSync(path), false);
  await sleep(100);
  assert.ok(readdirSync('/proc/self/fd').length <= before + 1, 'no descriptor is left');
});

test('a path too long for a socket is refused', async () => {
  await assert.rejects(openConsoleSocket(`/tmp/${'x'.repeat(110)}`), { code: 'ENAMETOOLONG' });
});
