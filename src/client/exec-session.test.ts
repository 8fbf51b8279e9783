import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { WebSocketServer } from 'ws';
import { openExecSession } from './exec-session.ts';

test('output that comes in one piece with the handshake and the exit is not lost', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-session-'));
  const server = createServer();
  // A busy machine: by the time the client looks, the command has ended and everything has arrived.
  server.on('upgrade', (_request, socket) => {
    socket.cork();
    setImmediate(() => socket.uncork());
  });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (ws) => {
    for (const frame of ['\x01hello\n', '\x02careful\n', '\x03{"type":"exit","code":7}']) ws.send(Buffer.from(frame), { binary: true });
    ws.close(1000);
  });
  const socket = join(folder, 'veld.sock');
  await new Promise<void>((resolve) => { server.listen(socket, resolve); });
  t.after(() => {
    for (const client of sockets.clients) client.terminate();
    server.close();
    rmSync(folder, { recursive: true });
  });
  const session = await openExecSession(socket, '/v1/sessions/secret', false);
  const [stdout, stderr, code] = await Promise.all([text(session.stdout), text(session.stderr!), session.exit]);
  assert.deepEqual([stdout, stderr, code], ['hello\n', 'careful\n', 7]);

  const unread = await openExecSession(socket, '/v1/sessions/secret', false);
  assert.equal(await unread.exit, 7, 'outputs that nobody reads do not hold up the end');
});
