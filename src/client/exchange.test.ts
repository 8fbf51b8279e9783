import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { RequestListener } from 'node:http';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { exchange } from './exchange.ts';

const bounded = { timeout: 10_000 };

async function listen(t: TestContext, server: Server): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'veld-exchange-'));
  const socket = join(folder, 's');
  const open = new Set<Socket>();
  server.on('connection', (connection) => open.add(connection));
  await new Promise<void>((resolve) => { server.listen(socket, resolve); });
  t.after(() => {
    for (const connection of open) connection.destroy();
    server.close();
    rmSync(folder, { recursive: true });
  });
  return socket;
}
const serve = (t: TestContext, listener: RequestListener): Promise<string> => listen(t, createHttpServer(listener));

/** A server that answers with these bytes, one write each, and perhaps ends. */
function raw(t: TestContext, parts: readonly string[], end = true): Promise<string> {
  return listen(t, createServer((connection) => {
    connection.on('error', () => {});
    connection.setNoDelay(true);
    connection.once('data', () => {
      const next = (i: number): void => {
        if (i < parts.length) connection.write(parts[i]!, () => setImmediate(() => next(i + 1)));
        else if (end) connection.end();
      };
      next(0);
    });
  }));
}

test('a request arrives as node:http reads it, and its answer comes back', bounded, async (t) => {
  const socket = await serve(t, (request, reply) => {
    void text(request).then((body) => reply.writeHead(201, { 'X-Seen': `${request.method} ${request.url}` }).end(JSON.stringify({ body, type: request.headers['content-type'] })));
  });
  const answer = await exchange(socket, 'POST', '/v1/x?a=%20', Buffer.from('{"ü":1}'));
  assert.equal(answer.statusCode, 201);
  assert.equal(answer.headers['x-seen'], 'POST /v1/x?a=%20');
  assert.deepEqual(JSON.parse(await text(answer)), { body: '{"ü":1}', type: 'application/json' });
});

test('a large chunked body comes whole through a slow reader', bounded, async (t) => {
  const part = Buffer.alloc(100_003, 'x');
  const socket = await serve(t, (_, reply) => {
    for (let i = 0; i < 50; i += 1) reply.write(part);
    reply.end('end');
  });
  const answer = await exchange(socket, 'GET', '/');
  let size = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size < 1_000_000) await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
  assert.equal(size, 50 * part.length + 3);
});

test('answers are read whatever the pieces they come in', bounded, async (t) => {
  const answers: [text: string, body: string][] = [
    ['HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', 'hello'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\nA\r\nlo world!!\r\n0\r\nTrailer: 1\r\n\r\n', 'hello world!!'],
    ['HTTP/1.1 200\r\nA: b\r\n\r\nuntil the end', 'until the end'],
    ['HTTP/1.1 204 No Content\r\n\r\n', ''],
    ['HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ''],
  ];
  for (const [whole, body] of answers) {
    for (const size of [1, 2, 7, whole.length]) {
      const parts = whole.match(new RegExp(`[^]{1,${size}}`, 'g'))!;
      assert.equal(await text(await exchange(await raw(t, parts), 'GET', '/')), body, `${JSON.stringify(whole)} by ${size}`);
    }
  }
});

test('what breaks off or is no HTTP is an error, never a shorter answer', bounded, async (t) => {
  const bad: [text: string, code: string][] = [
    ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell', 'ECONNRESET'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', 'ECONNRESET'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n', 'EPROTO'],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', 'EPROTO'],
    ['HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n', 'EPROTO'],
    ['HTTP/1.1 200 OK\r\n', 'ECONNRESET'],
    ['', 'ECONNRESET'],
    ['SSH-2.0-OpenSSH\r\n\r\n', 'EPROTO'],
    [`HTTP/1.1 200 OK\r\nA: ${'x'.repeat(70_000)}`, 'EPROTO'],
  ];
  for (const [whole, code] of bad) {
    await assert.rejects(async () => text(await exchange(await raw(t, [whole]), 'GET', '/')), { code }, JSON.stringify(whole.slice(0, 80)));
  }
  await assert.rejects(exchange('/nonexistent/socket', 'GET', '/'), { code: 'ENOENT' });
  await assert.rejects(exchange('/nonexistent/socket', 'GET', '/a\r\nX: y'), { code: 'EPROTO' });
});
