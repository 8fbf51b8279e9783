import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { SESSION_LIMIT } from './sessions.ts';
import { openBench, type Bench, type FakeCommand } from './testing.ts';
import type { ExecSession } from '../client/client.ts';
import type { ErrorBody } from '../lib/errors.ts';

let bench: Bench;
before(async () => {
  bench = await openBench();
  bench.addVe('web', 'running');
  bench.addVe('off', 'stopped');
});
after(() => bench.close());

async function begin(options: { tty?: boolean } = {}): Promise<{ session: ExecSession; command: FakeCommand }> {
  const session = await bench.client.exec('web', { command: ['cat'], tty: options.tty ? { columns: 80, rows: 24, term: 'xterm' } : null });
  while (bench.commands.at(-1) === seen) await sleep(1);
  seen = bench.commands.at(-1);
  return { session, command: seen! };
}
let seen: FakeCommand | undefined;

async function secret(body: object = { command: ['cat'] }): Promise<string> {
  return (await bench.client.request<{ session: string }>('POST', '/v1/ves/web/sessions', body)).session;
}

function raw(session: string): WebSocket {
  return new WebSocket(`ws+unix:${bench.socket}:/v1/sessions/${session}`);
}

async function refusal(ws: WebSocket): Promise<{ status: number; error: ErrorBody }> {
  const [, answer] = await once(ws, 'unexpected-response') as [unknown, IncomingMessage];
  return { status: answer.statusCode!, ...JSON.parse(await text(answer)) as { error: ErrorBody } };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 400 && !condition(); i += 1) await sleep(5);
  assert.ok(condition(), 'did not come true within 2 s');
}

test('streams go both ways, half close ends the input only, and the exit status comes last', async () => {
  const { session, command } = await begin();
  session.stdin.write('hello ');
  session.stdin.end('world');
  assert.equal(await text(command.stdin), 'hello world');
  const out = text(session.stdout);
  const err = text(session.stderr!);
  command.stderr.write('warning');
  command.stdout.write('after the input has ended');
  command.exit(42);
  assert.equal(await session.exit, 42);
  assert.equal(await out, 'after the input has ended');
  assert.equal(await err, 'warning');
});

test('with a terminal: one output, sizes and signals reach the command', async () => {
  const { session, command } = await begin({ tty: true });
  assert.equal(session.stderr, null);
  assert.deepEqual(command.request.tty, { columns: 80, rows: 24, term: 'xterm' });
  session.resize(120, 40);
  session.kill('SIGINT');
  await until(() => command.signals.length > 0);
  assert.deepEqual(command.sizes, [[120, 40]]);
  assert.deepEqual(command.signals, ['SIGINT']);
  command.exit(130);
  assert.equal(await session.exit, 130);
});

test('a client that does not read stops the output of the command, and nothing is lost', async () => {
  const { session, command } = await begin();
  session.stderr!.resume();
  const block = Buffer.alloc(64 << 10, 'x');
  let written = 0;
  const sent = createHash('sha256');
  while (written < 64 << 20) {
    const more = command.stdout.write(block);
    sent.update(block);
    written += block.length;
    if (!more && !await Promise.race([once(command.stdout, 'drain'), sleep(300, null)])) break;
  }
  // buffers of both processes and the kernel hold a few MiB; the rest waits in the command
  assert.ok(written < 16 << 20, `the command could write ${written} bytes that nobody reads`);
  const got = createHash('sha256');
  session.stdout.on('data', (chunk: Buffer) => got.update(chunk));
  command.stdout.write(block);
  sent.update(block);
  command.exit(0);
  assert.equal(await session.exit, 0);
  assert.equal(got.digest('hex'), sent.digest('hex'));
});

test('a command that does not read stops the client', async () => {
  const { session, command } = await begin();
  const block = Buffer.alloc(64 << 10, 'y');
  let written = 0;
  while (written < 64 << 20) {
    const more = session.stdin.write(block);
    written += block.length;
    if (!more && !await Promise.race([once(session.stdin, 'drain'), sleep(300, null)])) break;
  }
  assert.ok(written < 16 << 20, `the client could send ${written} bytes that nobody reads`);
  let read = 0;
  command.stdin.on('data', (chunk: Buffer) => { read += chunk.length; });
  session.stdin.end();
  await once(command.stdin, 'end');
  assert.equal(read, written);
  command.exit(0);
  assert.equal(await session.exit, 0);
});

test('a command that ends without reading its input', async () => {
  const { session, command } = await begin();
  for (let i = 0; i < 64; i += 1) session.stdin.write(Buffer.alloc(64 << 10));
  await sleep(20);
  command.exit(1);
  assert.equal(await session.exit, 1);
});

test('a client that goes away: SIGHUP, end of input, and the output is drained', async () => {
  const { session, command } = await begin();
  const ws = raw(await secret());
  await once(ws, 'open');
  await until(() => bench.commands.at(-1) !== command);
  const other = bench.commands.at(-1)!;
  seen = other;
  ws.terminate();
  await until(() => other.signals.includes('SIGHUP'));
  for (let i = 0; i < 64; i += 1) if (!other.stdout.write(Buffer.alloc(64 << 10))) await once(other.stdout, 'drain');
  assert.equal(await text(other.stdin), '');
  other.exit(0);
  command.exit(0);
  await session.exit;
});

test('a client that goes away, and a daemon that stops, before the command has begun: SIGHUP all the same', async () => {
  const other = await openBench();
  other.addVe('web', 'running');
  const slow = async (): Promise<WebSocket> => {
    const { session } = await other.client.request<{ session: string }>('POST', '/v1/ves/web/sessions', { command: ['/slow'] });
    const ws = new WebSocket(`ws+unix:${other.socket}:/v1/sessions/${session}`);
    ws.on('error', () => {});
    await once(ws, 'open');
    return ws;
  };
  (await slow()).terminate();
  await until(() => other.commands[0]?.signals[0] === 'SIGHUP');
  await slow();
  await other.close();
  await until(() => other.commands[1]?.signals[0] === 'SIGHUP');
  for (const command of other.commands) command.exit(0);
});

test('frames that are not valid end the session', async () => {
  for (const data of [Buffer.of(9, 1), Buffer.of(3, 123), Buffer.from('\u0003{"type":"signal","signal":"SIGSEGV"}'), Buffer.from('\u0003{"type":"resize","columns":0,"rows":1}'),
    Buffer.from('\u0003{"type":"eof","more":1}'), Buffer.of(), 'text']) {
    const ws = raw(await secret());
    const frames: Buffer[] = [];
    ws.on('message', (frame: Buffer) => frames.push(frame));
    await once(ws, 'open');
    ws.send(data);
    const [code] = await once(ws, 'close') as [number];
    assert.equal(code, 1008);
    assert.equal((JSON.parse(frames[0]!.subarray(1).toString()) as { error: ErrorBody }).error.code, 'request.invalid');
    seen = bench.commands.at(-1);
    assert.deepEqual(seen!.signals, ['SIGHUP']);
    seen!.exit(0);
  }
});

test('a command that cannot be begun: the error comes over the session', async () => {
  const session = await bench.client.exec('web', { command: ['/missing'] });
  await assert.rejects(session.exit, { code: 'exec.not_found', exit: 127 });
});

test('a session is good once, for 10 s, and only those that were given', async () => {
  const once1 = await secret();
  assert.match(once1, /^[A-Za-z0-9_-]{43}$/);
  const first = raw(once1);
  await once(first, 'open');
  const again = await refusal(raw(once1));
  assert.equal(again.status, 403);
  assert.equal(again.error.code, 'session.invalid');
  first.terminate();
  const late = await secret();
  bench.clock.now += 10_000;
  assert.equal((await refusal(raw(late))).error.code, 'session.invalid');
  assert.equal((await refusal(raw('A'.repeat(43)))).error.code, 'session.invalid');
  await until(() => bench.commands.at(-1)!.signals.length > 0);
  seen = bench.commands.at(-1);
  seen!.exit(0);
  assert.doesNotMatch(JSON.stringify(bench.lines), new RegExp(once1), 'the secret is in the log');
});

test('waiting sessions are bounded', async () => {
  for (let i = 0; i < SESSION_LIMIT; i += 1) await secret();
  await assert.rejects(secret(), { code: 'daemon.overloaded' });
  bench.clock.now += 10_000;
  await secret();
});

test('sessions are refused for a VE that does not run', async () => {
  await assert.rejects(bench.client.exec('off', { command: ['true'] }), { code: 've.not_running' });
  await assert.rejects(bench.client.exec('nobody', { command: ['true'] }), { code: 've.not_found' });
});

test('exec with whole output: input, status, text or base64, 1 MiB', async () => {
  const run = async (body: object, play: (command: FakeCommand) => void): Promise<Record<string, unknown>> => {
    const count = bench.commands.length;
    const answer = bench.client.request<Record<string, unknown>>('POST', '/v1/ves/web/exec', body);
    await until(() => bench.commands.length > count);
    seen = bench.commands.at(-1);
    play(seen!);
    return answer;
  };
  let input: Promise<string> | undefined;
  assert.deepEqual(await run({ command: ['cat', '-'], stdin: 'in', env: { KEY: 'hidden' } }, (command) => {
    input = text(command.stdin);
    command.stdout.write('grüße');
    command.stderr.write(Buffer.of(0xff, 0xfe));
    command.exit(3);
  }), { exitCode: 3, stdout: 'grüße', stderr: '//4=', encoding: { stdout: 'utf8', stderr: 'base64' }, truncated: false });
  assert.equal(await input, 'in');
  const long = await run({ command: ['yes'] }, (command) => {
    command.stdout.write('a');
    command.stdout.write('ü'.repeat(1 << 20));
    command.exit(0);
  });
  assert.equal(long.truncated, true);
  assert.equal(Buffer.byteLength(long.stdout as string), (1 << 20) - 1);
  assert.deepEqual(long.encoding, { stdout: 'utf8', stderr: 'utf8' });
  const log = JSON.stringify(bench.lines);
  assert.doesNotMatch(log, /hidden/);
  assert.match(log, /"program":"cat","arguments":1/);
});

test('exec whose client goes away: SIGHUP', async () => {
  const count = bench.commands.length;
  const { connect } = await import('node:net');
  const socket = connect(bench.socket);
  const body = '{"command":["sleep"]}';
  socket.write(`POST /v1/ves/web/exec HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  await until(() => bench.commands.length > count);
  seen = bench.commands.at(-1);
  socket.destroy();
  await until(() => seen!.signals.includes('SIGHUP'));
  seen!.exit(0);
});

test('events: those kept after `since`, then new ones; lost ones are told', async () => {
  const start = bench.events.last;
  for (const name of ['one', 'two']) bench.events.emit(`test.${name}`);
  const seenTypes: string[] = [];
  const stop = new AbortController();
  for await (const event of bench.client.events({ since: start, signal: stop.signal })) {
    seenTypes.push(event.type);
    if (seenTypes.length === 2) bench.events.emit('test.three', { ve: 'x', data: { a: 1 } });
    if (seenTypes.length === 3) {
      assert.deepEqual([event.ve, event.data], ['x', { a: 1 }]);
      stop.abort();
    }
  }
  assert.deepEqual(seenTypes, ['test.one', 'test.two', 'test.three']);
  for (const since of [0, 1_000_000]) {
    for (let i = 0; i < 1001; i += 1) bench.events.emit('test.flood');
    for await (const event of bench.client.events({ since })) {
      assert.equal(event.type, 'events.lost');
      break;
    }
  }
});

test('the daemon stops: sessions and listeners are let go', async () => {
  const other = await openBench();
  other.addVe('web', 'running');
  const session = await other.client.exec('web', { command: ['cat'] });
  await until(() => other.commands.length === 1);
  const listening = (async () => {
    for await (const event of other.client.events()) assert.ok(event);
  })();
  const lost = assert.rejects(listening, { code: 'daemon.unreachable' });
  await sleep(50);
  const began = performance.now();
  await other.close();
  assert.ok(performance.now() - began < 1500);
  await lost;
  await assert.rejects(session.exit, { code: 'daemon.unreachable' });
  assert.deepEqual(other.commands[0]!.signals, ['SIGHUP']);
});
