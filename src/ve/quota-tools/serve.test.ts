/** The tools' program and the daemon's end, by a real socket. Needs root: whoever asks is taken by the kernel's word, and here the VE's range begins with 0. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { compileOnce } from '../../kernel/compile-once.ts';
import { answerFrames, readRequest, type AskedTool } from './frames.ts';
import { serveQuotaTools, type QuotaServer } from './serve.ts';
import type { Caller, ToolAnswer } from './types.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-quota-tools-'));
chmodSync(folder, 0o755);
const socket = join(folder, 'socket');
const client = join(folder, 'client');
const SOURCE = join(import.meta.dirname, '../../kernel/quota-client.c');
let server: QuotaServer | undefined;
after(() => {
  server?.close(true);
  rmSync(folder, { recursive: true, force: true });
});

async function build(): Promise<void> {
  // The same program, with another path of the socket.
  const source = join(folder, 'quota-client.c');
  writeFileSync(source, readFileSync(SOURCE, 'utf8').replace('/run/veld/quota/socket', socket).replace('/usr/sbin/sendmail', join(folder, 'sendmail')));
  await compileOnce(['-I', join(import.meta.dirname, '../../kernel'), '-static', '-nostdlib', '-ffreestanding', '-fno-builtin', '-fno-stack-protector', '-O2', '-Wall', '-Wextra', '-Werror'], [source], client);
}

function call(words: string[], { input = '', uid = 0, editor = 'false' } = {}): Promise<{ status: number | null; out: string; err: string }> {
  return new Promise((resolve) => {
    const child = spawn(client, words, { env: { PATH: process.env.PATH, EDITOR: editor }, uid, gid: uid });
    let [out, err] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => { out += chunk.toString(); });
    child.stderr.on('data', (chunk: Buffer) => { err += chunk.toString(); });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.on('close', (status) => resolve({ status, out, err }));
  });
}

function serve(answer: (asked: AskedTool, caller: Caller) => ToolAnswer | Promise<ToolAnswer>): void {
  server?.close(true);
  server = serveQuotaTools({ socket, uidBase: 0, answer: async (asked, caller) => answer(asked, caller), log: { error: assert.fail, debug() {} } });
}

test('words go, and what comes back is shown, with its status; who asks is the kernel\'s word', async () => {
  await build();
  assert.match((await call(['quota', '-v'])).err, /^quota: users of this server have no disk quotas/);
  const seen: unknown[] = [];
  serve(({ tool, words, text }, { uid, groups }) => {
    seen.push([tool, words, text, uid, groups.includes(uid)]);
    return { status: 3, out: `${'x'.repeat(3_000_000)}\n`, err: 'warned\n' };
  });
  const { status, out, err } = await call(['repquota', '-a', '', 'ü'], { uid: 1234 });
  assert.deepEqual([status, out.length, err], [3, 3_000_001, 'warned\n']);
  assert.deepEqual(seen, [['repquota', ['-a', '', 'ü'], undefined, 1234, true]]);
  server!.close(false);
  assert.ok(existsSync(socket));
  assert.match((await call(['quota'])).err, /daemon on the host does not run just now/);
});

test('an editor, standard input, mails', async () => {
  const seen: (string | undefined)[] = [];
  const editor = join(folder, 'editor');
  writeFileSync(editor, '#!/bin/sh\nsed "s/old/new/" "$1" >"$1.next" && stat -c %a "$1" >>"$0.modes" && mv "$1.next" "$1"\n', { mode: 0o755 });
  writeFileSync(join(folder, 'sendmail'), `#!/bin/sh\n{ echo "$@"; cat; echo .; } >>${join(folder, 'mails')}\n`, { mode: 0o755 });
  serve(({ tool, text }) => {
    seen.push(text);
    if (tool === 'edquota') return text === undefined ? { status: 0, edit: 'this is old\n' } : { status: 0, out: 'taken\n' };
    if (tool === 'setquota') return text === undefined ? { status: 0, input: true } : { status: 0 };
    return { status: 0, mails: ['To: alice\n\nmuch\n', 'To: bob\n\nmore\n'] };
  });
  assert.deepEqual(await call(['edquota', 'alice'], { editor }), { status: 0, out: 'taken\n', err: '' });
  assert.equal(readFileSync(`${editor}.modes`, 'utf8'), '600\n');
  assert.equal((await call(['setquota', '-b', '-a'], { input: 'a 1 2 3 4\n'.repeat(20_000) })).status, 0);
  assert.deepEqual(seen, [undefined, 'this is new\n', undefined, 'a 1 2 3 4\n'.repeat(20_000)]);
  const failed = await call(['edquota', 'alice']);
  assert.match(failed.err, /the editor did not end well; nothing is changed/);
  assert.equal(seen.length, 5, 'it was not asked again');
  assert.match((await call(['setquota', '-b'], { input: 'x'.repeat(2 << 20) })).err, /more than 1 MiB/);
  assert.equal((await call(['warnquota'])).status, 0);
  assert.equal(readFileSync(join(folder, 'mails'), 'utf8'), '-t -i\nTo: alice\n\nmuch\n.\n-t -i\nTo: bob\n\nmore\n.\n');
});

test('who speaks otherwise, too much, or for too many is hung up on; others are heard', async () => {
  serve(() => ({ status: 0, out: 'heard\n' }));
  const end = (bytes: Buffer): Promise<string> => new Promise((resolve) => {
    const connection = connect(socket, () => connection.write(bytes));
    let got = '';
    connection.on('data', (chunk: Buffer) => { got += chunk.toString('latin1'); });
    connection.on('error', () => {});
    connection.on('close', () => resolve(got));
  });
  assert.equal(await end(Buffer.from('GET / HTTP/1.1\r\n\r\nG\0\0\0\0')), '');
  assert.equal(await end(Buffer.from('G\0\0\0\0')), '');
  assert.equal(await end(Buffer.alloc(4 << 20, 'T')), '');
  const idle = await Promise.all(Array.from({ length: 8 }, () => new Promise<ReturnType<typeof connect>>((resolve) => {
    const connection = connect(socket, () => resolve(connection));
    connection.on('error', () => {});
  })));
  assert.match((await call(['quota'])).err, /broke off|does not listen/);
  for (const connection of idle) connection.destroy();
  for (let left = 50; (await call(['quota'])).out !== 'heard\n'; left -= 1) assert.ok(left > 0);
});

test('a request comes in pieces of any size', () => {
  const frame = (type: string, content: string | Buffer): Buffer => {
    const head = Buffer.alloc(5);
    head.write(type);
    head.writeUInt32LE(Buffer.byteLength(content), 1);
    return Buffer.concat([head, Buffer.from(content)]);
  };
  const whole = Buffer.concat([frame('A', 'edquota\0alice\0'), frame('T', 'ends with G\0\0\0\0'), frame('T', ' and goes on'), frame('G', '')]);
  for (const size of [1, 2, 5, 7, 1000]) {
    const reader = readRequest();
    const found: unknown[] = [];
    for (let at = 0; at < whole.length; at += size) {
      const asked = reader.add(whole.subarray(at, at + size));
      if (asked) found.push(asked);
    }
    assert.deepEqual(found, [{ tool: 'edquota', words: ['alice'], text: 'ends with G\0\0\0\0 and goes on' }], `${size} bytes each`);
  }
  assert.equal(answerFrames({ status: 7 }).toString('latin1'), 'X\u0001\0\0\0\u0007');
});
