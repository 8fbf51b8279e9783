import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { openBench, type Bench } from './testing.ts';
import type { ErrorBody } from '../lib/errors.ts';

let bench: Bench;
let stopping = false;
before(async () => {
  bench = await openBench({ stopping: () => stopping });
  bench.addVe('web', 'running');
  bench.addVe('off', 'stopped');
});
after(() => bench.close());

const connect = (ve = 'web', headers = {}): WebSocket => new WebSocket(`ws+unix:${bench.socket}:/v1/ves/${ve}/exec`, { headers });
const ask = (ws: WebSocket, body: unknown): void => ws.send(Buffer.from(`\u0003${typeof body === 'string' ? body : JSON.stringify(body)}`));

async function refusal(ws: WebSocket): Promise<[status: number, code: string]> {
  const [, answer] = await once(ws, 'unexpected-response') as [unknown, IncomingMessage];
  return [answer.statusCode!, (JSON.parse(await text(answer)) as { error: ErrorBody }).error.code];
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400 && !await condition(); i += 1) await sleep(5);
  assert.ok(await condition(), 'did not come true within 2 s');
}

async function running(): Promise<number> {
  const metrics = await bench.client.request<string>('GET', '/metrics');
  return Number(/^veld_exec_running(?:\{[^}]*\})? (\d+)$/m.exec(metrics)?.[1]);
}

test('the first frame asks, the rest is a session; the log says who and what, not the arguments', async () => {
  const session = await bench.client.exec('web', { command: ['cat', '-secret'], env: { KEY: 'hidden' } });
  await until(() => bench.commands.length === 1);
  const command = bench.commands[0]!;
  session.stdin.end('input');
  assert.equal(await text(command.stdin), 'input');
  command.stdout.end('output');
  command.exit(5);
  assert.equal(await text(session.stdout), 'output');
  assert.equal(await session.exit, 5);
  await until(() => bench.lines.some(({ msg }) => msg === 'session ended'));
  const lines = bench.lines.filter(({ audit }) => audit === true);
  assert.deepEqual(lines.map(({ msg, program, arguments: words, user, exitCode }) => [msg, program, words, user, exitCode]),
    [['session begun', 'cat', 1, 'root', undefined], ['session ended', 'cat', 1, 'root', 5]]);
  assert.doesNotMatch(JSON.stringify(bench.lines), /secret|hidden/);
});

test('a long request goes the long way', async () => {
  const env = { LONG: 'x'.repeat(100_000) };
  const session = await bench.client.exec('web', { command: ['true'], env });
  await until(() => bench.commands.length === 2);
  assert.deepEqual(bench.commands[1]!.request.env, env);
  bench.commands[1]!.exit(0);
  assert.equal(await session.exit, 0);
});

test('what is wrong with the request comes as the last frame, and nothing is begun', async () => {
  const count = bench.commands.length;
  for (const body of ['', '{', '[]', {}, { command: [] }, { command: ['true'], more: 1 }, { command: ['true'], user: '../x' }, '{"command":["true"],"__proto__":{}}', '{"command":["true"],"env":{"__proto__":"x"}}']) {
    const ws = connect();
    const frames: Buffer[] = [];
    ws.on('message', (data: Buffer) => frames.push(data));
    await once(ws, 'open');
    ask(ws, body);
    assert.deepEqual((await once(ws, 'close'))[0], 1008);
    assert.equal(frames[0]![0], 3);
    assert.equal((JSON.parse(frames[0]!.toString('utf8', 1)) as { error: ErrorBody }).error.code, 'request.invalid', JSON.stringify(body));
  }
  for (const data of ['text', Buffer.of(0, 1), Buffer.of()]) {
    const ws = connect();
    await once(ws, 'open');
    ws.send(data);
    assert.deepEqual((await once(ws, 'close'))[0], 1008);
  }
  assert.equal(bench.commands.length, count);
  await until(async () => await running() === 0);
});

test('a client that goes before it has asked leaves nothing', async () => {
  const ws = connect();
  await once(ws, 'open');
  assert.equal(await running(), 1);
  ws.terminate();
  await until(async () => await running() === 0);
});

test('who is refused at the door: browsers, VEs that do not run, requests that are no upgrade, a daemon that stops', async () => {
  assert.deepEqual(await refusal(connect('web', { Origin: 'http://veld' })), [400, 'request.invalid']);
  assert.deepEqual(await refusal(connect('off')), [409, 've.not_running']);
  assert.deepEqual(await refusal(connect('none')), [404, 've.not_found']);
  await assert.rejects(bench.client.request('GET', '/v1/ves/web/exec'), { code: 'request.invalid' });
  stopping = true;
  assert.deepEqual(await refusal(connect()), [503, 'daemon.stopping']);
  stopping = false;
  assert.equal(await running(), 0);
});
