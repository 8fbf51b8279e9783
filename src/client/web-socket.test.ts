import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { WebSocketServer } from 'ws';
import { createServer as createHttpServer } from 'node:http';
import { openWebSocket, type WebSocketClient } from './web-socket.ts';

function path(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'veld-ws-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return join(folder, 's');
}

/** A server that says yes to the upgrade and then what it is told, byte for byte. */
async function server(t: TestContext, answer: string, then: (socket: Socket) => void): Promise<string> {
  const listener = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.write(answer);
      then(socket);
    });
  });
  const file = path(t);
  listener.listen(file);
  await once(listener, 'listening');
  t.after(() => listener.close());
  return file;
}

const YES = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n';

async function connect(file: string): Promise<{ ws: WebSocketClient; got: string[]; closed: Promise<void> }> {
  const got: string[] = [];
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  const ws = await openWebSocket(file, '/x', () => ({ message: (data) => got.push(data.toString('latin1')), close: resolve }));
  return { ws, got, closed };
}

test('talks to a server of the ws package, in messages of every length of length', async (t) => {
  const http = createHttpServer();
  const sockets = new WebSocketServer({ server: http });
  sockets.on('connection', (ws) => ws.on('message', (data: Buffer, isBinary) => {
    assert.equal(isBinary, true);
    ws.send(data);
    if (data.length === 0) ws.close(1000);
  }));
  const file = path(t);
  http.listen(file);
  await once(http, 'listening');
  t.after(() => http.close());
  const { ws, got, closed } = await connect(file);
  const lengths = [1, 125, 126, 127, 65_535, 65_536, 300_000, 0];
  for (const length of lengths) ws.send(Buffer.alloc(length, 'x'));
  await closed;
  assert.deepEqual(got.map((text) => text.length), lengths);
  assert.equal(ws.open, false);
  await new Promise<void>((done) => { ws.send(Buffer.from('late'), done); });
});

test('messages in pieces, with a ping between them, bytes one by one', async (t) => {
  const bytes = Buffer.concat([Buffer.from([0x02, 2]), Buffer.from('ab'), Buffer.from([0x89, 3]), Buffer.from('you'), Buffer.from([0x80, 1]), Buffer.from('c'), Buffer.from([0x82, 0]), Buffer.from([0x88, 0])]);
  let answered = Buffer.alloc(0);
  const file = await server(t, YES, (socket) => {
    socket.setNoDelay(true);
    for (const byte of bytes) socket.write(Buffer.of(byte));
    socket.on('data', (chunk) => { answered = Buffer.concat([answered, chunk]); });
  });
  const { got, closed } = await connect(file);
  await closed;
  assert.deepEqual(got, ['abc', '']);
  assert.deepEqual(answered.subarray(0, 9), Buffer.from([0x8a, 0x83, 0, 0, 0, 0, ...Buffer.from('you')]));
});

test('what no server may send ends the connection', async (t) => {
  for (const bytes of [[0xc2, 1, 65], [0x82, 0x81, 0, 0, 0, 0, 65], [0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]]) {
    const file = await server(t, YES, (socket) => { socket.write(Buffer.from(bytes)); });
    const { got, closed } = await connect(file);
    await closed;
    assert.deepEqual(got, []);
  }
});

test('an answer that is no upgrade, and none', async (t) => {
  const error = '{"error":{"code":"session.invalid","message":"It has expired.","hint":"Ask again."}}';
  const refusing = await server(t, `HTTP/1.1 403 Forbidden\r\nContent-Length: ${error.length}\r\n\r\n${error}`, () => {});
  await assert.rejects(connect(refusing), { code: 'session.invalid', message: 'It has expired.' });
  const strange = await server(t, YES.replace('s3p', 'xxx'), () => {});
  await assert.rejects(connect(strange), { code: 'internal' });
  const mute = await server(t, '', (socket) => { socket.end(); });
  await assert.rejects(connect(mute), { code: 'daemon.unreachable' });
});
