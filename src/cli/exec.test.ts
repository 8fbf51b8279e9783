/** `veld exec` with streams and with a terminal (made by script(1)), and Ctrl-C while an operation is under way. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import type { WebSocket } from 'ws';
import { VeldError } from '../lib/errors.ts';
import { operationRecord, startTestDaemon } from './test-daemon.ts';
import type { SessionHandler, TestDaemon } from './test-daemon.ts';

const MAIN = join(import.meta.dirname, 'main.ts');
const send = (ws: WebSocket, channel: number, payload: string | Buffer): void => ws.send(Buffer.concat([Buffer.of(channel), Buffer.from(payload)]), { binary: true });
const exit = (ws: WebSocket, code: number): void => send(ws, 3, JSON.stringify({ type: 'exit', code }));
const start = (t: TestContext, session: SessionHandler): Promise<TestDaemon> => startTestDaemon(t, {}, session);

/** Wait until something is so. */
async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !what(); i++) await new Promise((resolve) => { setTimeout(resolve, 10); });
  assert.ok(what(), `never came true: ${what.toString()}`);
}

const bounded = { timeout: 20_000 };

test('exec streams input and both outputs, and ends with the status of the command', bounded, async (t) => {
  const daemon = await start(t, (ws) => {
    ws.on('message', (data: Buffer) => {
      if (data[0] === 0) send(ws, 1, data.subarray(1));
      if (data[0] === 3 && data.includes('"eof"')) {
        send(ws, 2, 'warning\n');
        exit(ws, 42);
      }
    });
  });
  const words = ['exec', '-u', 'www-data', '-e', 'A=b=c', '-C', '/srv', 'web', 'cat', '-n', '--json'];
  const { status, stdout, stderr } = await daemon.veld(words, { input: 'hello\n' });
  assert.deepEqual([status, stdout, stderr], [42, 'hello\n', 'warning\n']);
  assert.deepEqual(daemon.asked[0]!.body, { command: ['cat', '-n', '--json'], user: 'www-data', env: { A: 'b=c' }, cwd: '/srv', tty: null });
  const dashes = await daemon.veld(['exec', 'web', '-T', '-n', '--', '--', '-t']);
  assert.equal(dashes.status, 42);
  assert.deepEqual(daemon.asked[1]!.body, { command: ['--', '-t'], tty: null });
});

test('a big output arrives whole, and a command that cannot be run has its own status', bounded, async (t) => {
  const chunk = Buffer.alloc(256 << 10, 'x');
  const daemon = await start(t, (ws) => {
    for (let i = 0; i < 64; i++) send(ws, 1, chunk);
    exit(ws, 0);
  });
  const big = await daemon.veld(['exec', 'web', 'yes']);
  assert.deepEqual([big.status, big.stdout.length], [0, 64 * chunk.length]);
  const none = await start(t, (ws) => send(ws, 3, JSON.stringify({ type: 'error', error: new VeldError('exec.not_found', 'There is no nope in web.').toBody() })));
  const { status, stderr } = await none.veld(['exec', 'web', 'nope']);
  assert.equal(status, 127);
  assert.match(stderr, /^veld: There is no nope in web\./);
});

test('signals go to the command', bounded, async (t) => {
  const daemon = await start(t, (ws) => {
    ws.on('message', (data: Buffer) => { if (data.includes('"signal"')) exit(ws, 130); });
  });
  const child = spawn(process.execPath, [MAIN, 'exec', 'web', 'sleep', '9'], { env: { VELD_SOCKET: daemon.socket }, stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => { child.kill('SIGKILL'); });
  await until(() => daemon.frames.some(([, text]) => text.includes('eof')));
  child.kill('SIGINT');
  const [status] = await new Promise<[number | null]>((resolve) => { child.on('close', (code) => resolve([code])); });
  assert.equal(status, 130);
  assert.deepEqual(daemon.frames.at(-1), [3, '{"type":"signal","signal":"SIGINT"}']);
});

/** Run a shell line on a terminal of its own. */
function onTerminal(t: TestContext, line: string, socket: string): { child: ChildProcess; output: () => string; ended: Promise<void> } {
  const child = spawn('script', ['-qec', line, '/dev/null'],
    { env: { PATH: process.env.PATH, SHELL: '/bin/sh', TERM: 'xterm', VELD_SOCKET: socket, NODE: process.execPath, MAIN }, stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => { child.kill('SIGKILL'); });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => { output += chunk.toString('utf8'); });
  return { child, output: () => output, ended: new Promise((resolve) => { child.on('close', () => resolve()); }) };
}

const RAW = 'stty -g; sh -c \'echo "pid=$$"; exec "$NODE" "$MAIN" exec web -- bash\'; echo "status=$?"; stty -g';
/** The terminal's settings before and after, as stty prints them. */
const settings = (output: string): string[] => output.split(/\r?\n/).filter((text) => /^[0-9a-f]+(:[0-9a-f]+)+$/.test(text));

test('on a terminal the command gets one, every key with Ctrl-C, and the user\'s is put back', bounded, async (t) => {
  const daemon = await start(t, (ws) => {
    ws.on('message', (data: Buffer) => {
      if (data[0] === 0 && data.includes(3)) exit(ws, 7);
    });
    send(ws, 1, 'prompt# ');
  });
  const { child, output, ended } = onTerminal(t, `stty rows 33 cols 101; ${RAW}`, daemon.socket);
  await until(() => output().includes('prompt# '));
  assert.deepEqual(daemon.asked[0]!.body, { command: ['bash'], tty: { columns: 101, rows: 33, term: 'xterm' } });
  child.stdin!.write('ls\x03');
  await ended;
  const [before, after] = settings(output());
  assert.equal(after, before);
  assert.match(output(), /status=7/);
  assert.ok(daemon.frames.some(([channel, text]) => channel === 0 && text.includes('\x03')));
});

for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) {
  test(`the terminal is put back when ${signal} ends the program`, bounded, async (t) => {
    const daemon = await start(t, (ws) => send(ws, 1, 'prompt# '));
    const { output, ended } = onTerminal(t, RAW, daemon.socket);
    await until(() => output().includes('prompt# '));
    const pid = Number(/pid=(\d+)/.exec(output())![1]);
    process.kill(pid, signal);
    await ended;
    const [before, after] = settings(output());
    assert.ok(before);
    assert.equal(after, before);
    assert.match(output(), new RegExp(`status=${{ SIGTERM: 143, SIGHUP: 129, SIGINT: 130 }[signal]}`));
  });
}

test('the terminal is put back when the daemon goes away', bounded, async (t) => {
  const daemon = await start(t, (ws) => {
    send(ws, 1, 'prompt# ');
    setTimeout(() => ws.terminate(), 300);
  });
  const { output, ended } = onTerminal(t, RAW, daemon.socket);
  await ended;
  const [before, after] = settings(output());
  assert.equal(after, before);
  assert.match(output(), /veld: The connection to the daemon at .* broke/);
  assert.match(output(), /status=3/);
});

test('Ctrl-C asks the daemon to cancel and waits for the end; progress is drawn on a terminal', bounded, async (t) => {
  let finish = (): void => {};
  const daemon = await startTestDaemon(t, {
    'POST /v1/ves/web/start': (_, reply) => {
      reply.writeHead(200, { 'content-type': 'application/x-ndjson' });
      reply.write(`${JSON.stringify(operationRecord({ state: 'running', percent: 40, message: 'mounting the root', endedAt: null }))}\n`);
      finish = () => reply.end(`${JSON.stringify(operationRecord({ state: 'cancelled', error: new VeldError('operation.cancelled', 'start was cancelled.').toBody() }))}\n`);
    },
    'DELETE /v1/operations/op1': () => {
      setTimeout(finish, 50);
      return operationRecord({ state: 'running', endedAt: null });
    },
  });
  const { child, output, ended } = onTerminal(t, 'trap : INT; "$NODE" "$MAIN" start web; echo "status=$?"', daemon.socket);
  await until(() => output().includes('web:  40 %  mounting the root'));
  child.stdin!.write('\x03');
  await ended;
  assert.match(output(), /veld: cancelling/);
  assert.match(output(), /veld: start was cancelled\./);
  assert.match(output(), /status=28/);
  assert.equal(daemon.asked.at(-1)?.method, 'DELETE');
});

test('a second Ctrl-C leaves at once', bounded, async (t) => {
  const daemon = await startTestDaemon(t, {
    'POST /v1/ves/web/stop': (_, reply) => {
      reply.writeHead(200, { 'content-type': 'application/x-ndjson' });
      reply.write(`${JSON.stringify(operationRecord({ state: 'running', percent: 1, endedAt: null }))}\n`);
    },
    'DELETE /v1/operations/op1': () => operationRecord({ state: 'running', endedAt: null }),
  });
  const child = spawn(process.execPath, [MAIN, 'stop', 'web'], { env: { VELD_SOCKET: daemon.socket }, stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => { child.kill('SIGKILL'); });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => { text += chunk.toString('utf8'); });
  const ended = new Promise<number | null>((resolve) => { child.on('close', resolve); });
  await until(() => daemon.asked.length > 0);
  await new Promise((resolve) => { setTimeout(resolve, 100); });
  child.kill('SIGINT');
  await until(() => text.includes('cancelling'));
  child.kill('SIGINT');
  assert.equal(await ended, 130);
  assert.match(text, /the daemon goes on/);
});

test('destroy asks on a terminal with the VE\'s own name, and no answer is no', bounded, async (t) => {
  const daemon = await startTestDaemon(t, { 'GET /v1/ves/101': () => ({ name: 'web', number: 101, status: 'stopped' }) });
  const { child, output, ended } = onTerminal(t, '"$NODE" "$MAIN" destroy 101; echo "status=$?"', daemon.socket);
  await until(() => output().includes('Delete web (101, stopped) with everything in it? [y/N]'));
  child.stdin!.write('\n');
  await ended;
  assert.match(output(), /status=28/);
  assert.ok(daemon.asked.every(({ method }) => method === 'GET'));
});
