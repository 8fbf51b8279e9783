import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createClient, type Client } from './client.ts';

async function against(listener: RequestListener, play: (client: Client, socket: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'veld-client-'));
  const socket = join(folder, 's');
  const server = createServer(listener).listen(socket);
  await once(server, 'listening');
  try {
    await play(createClient(socket), socket);
  } finally {
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  }
}

const record = { id: 'op1', kind: 'start', ve: null, state: 'running', percent: 50, message: '', result: null, error: null, createdAt: '', endedAt: null, requestId: null };

test('an operation whose daemon dies is followed to its end at the next daemon', async () => {
  let asked = 0;
  await against((request, response) => {
    if (request.method === 'POST') {
      response.write(`${JSON.stringify(record)}\n{"half a li`);
      setTimeout(() => response.destroy(), 20);
      return;
    }
    asked += 1;
    assert.equal(request.url, '/v1/operations/op1');
    if (asked === 1) {
      response.destroy();
      return;
    }
    const error = { code: 'operation.interrupted', message: 'The daemon was stopped.', hint: 'Again.' };
    response.setHeader('content-type', 'application/json').end(JSON.stringify(asked === 2 ? record : { ...record, state: 'interrupted', endedAt: 'now', error }));
  }, async (client) => {
    await assert.rejects(client.operation('POST', '/v1/ves/a/start'), { code: 'operation.interrupted', exit: 29 });
  });
  assert.equal(asked, 3);
});

test('nobody there: the socket is named', async () => {
  const client = createClient('/nonexistent/veld.sock');
  for (const call of [client.request('GET', '/v1'), client.operation('POST', '/v1/ves'), client.exec('a', { command: ['b'] }), client.events().next()]) {
    await assert.rejects(call, { code: 'daemon.unreachable', message: /\/nonexistent\/veld\.sock/ });
  }
});

test('answers of something that is not the daemon', async () => {
  const bodies = ['<html>', '{}', '{"error": 5}', '{"error": {"code": "no.such.code", "message": "m", "hint": "h"}}', 'null', ''];
  for (const body of bodies) {
    await against((_request, response) => void response.writeHead(502, { 'content-type': 'application/json' }).end(body), async (client) => {
      await assert.rejects(client.request('GET', '/v1'), { code: 'internal' });
      await assert.rejects(client.operation('POST', '/v1/ves'), { code: 'internal' });
    });
  }
  await against((_request, response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{"half'), async (client) => {
    await assert.rejects(client.request('GET', '/v1'), { code: 'internal' });
  });
  await against((_request, response) => void response.end('plain'), async (client) => {
    assert.equal(await client.request('GET', '/metrics'), 'plain');
  });
});
