/** The API of one node through another: two APIs over two node doors, in one process. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { createClient, type Client } from '../client/client.ts';
import { openNode, pairNodes, type NodeBench } from '../cluster/testing.ts';
import { apiDoor } from './app.ts';
import { createSessionTable } from './sessions.ts';
import { openBench, type Bench } from './testing.ts';

let a: NodeBench;
let b: NodeBench;
let here: Bench;
let there: Bench;
let far: Client;

before(async () => {
  a = await openNode('alpha');
  b = await openNode('beta', { door: {
    request: (...args) => apiDoor(there.api).request(...args),
    upgrade: (...args) => apiDoor(there.api).upgrade(...args),
  } });
  here = await openBench({ nodes: a.nodes, peerCredentials: () => ({ pid: 1, uid: 1234, gid: 1 }) });
  there = await openBench({ nodes: b.nodes });
  there.addVe('web', 'running');
  await pairNodes(a, b, 'beta', { there: ['manage'], here: ['manage'] }); // both ways, so that nothing else is in the way
  far = createClient(here.socket, 'beta');
});
after(async () => {
  await Promise.all([here.close(), there.close()]);
  await Promise.all([a.close(), b.close()]);
});

/** Wait for a condition; the test's own time is the limit. */
async function until(look: () => boolean): Promise<void> {
  while (!look()) await new Promise((resolve) => { setTimeout(resolve, 5); });
}

/** A raw request to the API here. */
const raw = (method: string, path: string, headers: Record<string, string> = {}) => request({ socketPath: here.socket, method, path, headers, agent: false });

test('questions, errors, operations and lines pass', async () => {
  assert.deepEqual((await far.request<{ name: string }[]>('GET', '/v1/ves')).map(({ name }) => name), ['web']);
  await assert.rejects(far.request('GET', '/v1/ves/nobody'), { code: 've.not_found', exit: 4 });
  await assert.rejects(far.request('POST', '/v1/ves', { name: 'a', template: 't', colour: 1 }), { code: 'request.invalid', message: /colour is not known/ });
  const record = await far.operation('POST', '/v1/ves/web/freeze');
  assert.equal(record.state, 'succeeded');
  await assert.rejects(createClient(here.socket, 'nothing').request('GET', '/v1/ves'), { code: 'node.not_found', exit: 43 });
  await there.client.operation('POST', '/v1/ves/web/thaw');
});

test('a command with its streams, slowed down to what the client takes', async () => {
  const session = await far.exec('web', { command: ['cat'] });
  await until(() => there.commands.length > 0);
  const command = there.commands.at(-1)!;
  session.stdin.write('hello');
  assert.equal(String((await once(command.stdin, 'data'))[0]), 'hello');
  // Nobody reads here: the command there must be held back, long before all of it lies in some memory.
  const part = Buffer.alloc(1 << 20, 'x');
  let written = 0;
  session.stdout.pause();
  await new Promise<void>((resolve) => {
    const more = (): void => {
      for (;;) {
        written += part.length;
        const open = command.stdout.write(part);
        if (written > 256 << 20) return resolve();
        if (!open) break;
      }
      const stuck = setTimeout(resolve, 500);
      command.stdout.once('drain', () => {
        clearTimeout(stuck);
        more();
      });
    };
    more();
  });
  assert.ok(written < 64 << 20, `${written} bytes went nowhere`);
  session.kill('SIGTERM');
  const all = text(session.stdout);
  command.exit(7);
  assert.equal(await session.exit, 7);
  assert.equal((await all).length, written);
});

test('a client that goes away ends the request there', async () => {
  const socket = new WebSocket(`ws+unix:${here.socket}:/v1/nodes/beta/api/v1/events`);
  await once(socket, 'open');
  const clients = (there.api as unknown as { websocketServer: { clients: Set<WebSocket> } }).websocketServer.clients;
  await until(() => clients.size === 1);
  const [other] = clients;
  const closed = once(other!, 'close');
  socket.terminate();
  await closed;
  const call = raw('POST', '/v1/nodes/beta/api/v1/ves/web/exec', { 'content-type': 'application/json' });
  call.on('error', () => {});
  const before = there.commands.length;
  call.end(JSON.stringify({ command: ['sleep'] }));
  await until(() => there.commands.length > before);
  call.destroy();
  const command = there.commands.at(-1)!;
  await until(() => command.signals.length > 0);
  assert.deepEqual(command.signals, ['SIGHUP']);
  command.exit(129);
});

test('an answer that comes before the body has ended is the client\'s, every time', async () => {
  for (let n = 0; n < 25; n += 1) {
    await assert.rejects(far.request('POST', '/v1/ves', { name: 'x', template: 'y'.repeat(3 << 20) }), { code: 'request.invalid', message: /body is too large/ }, `round ${n}`);
  }
  assert.equal((await far.request<unknown[]>('GET', '/v1/ves')).length, 1);
});

test('the user is named there as the kernel says here, whatever the client claims', async () => {
  const call = raw('POST', '/v1/nodes/beta/api/v1/ves/web/start', { 'veld-user': '0', 'veld-request-id': 'forged' });
  call.end();
  const [answer] = await once(call, 'response') as [NodeJS.ReadableStream];
  await text(answer);
  const line = there.lines.findLast(({ audit, method }) => audit === true && method === 'POST');
  assert.ok(line);
  const { requestId, ...who } = line.peer as { requestId: string };
  assert.deepEqual(who, { node: 'alpha', uid: 1234 });
  assert.notEqual(requestId, 'forged');
});

test('routes about nodes are closed to nodes, however they are spelled', async () => {
  for (const path of ['/v1/nodes', '/v1/node', '/v1/nodes?look=true', '/v1/%6e%6fdes', '/v1/nodes/alpha/api/v1/ves']) {
    await assert.rejects(far.request('GET', path), { code: 'node.not_allowed' }, path);
  }
  await assert.rejects(far.request('POST', '/v1/node/tokens', {}), { code: 'node.not_allowed' });
  for (const path of ['/v1/nodes/beta/api/v1/%6eodes/alpha/api/v1/events', '/v1/nodes/beta/api/v1/nodes/alpha/api/v1/events']) {
    const socket = new WebSocket(`ws+unix:${here.socket}:${path}`);
    const [, answer] = await Promise.race([once(socket, 'unexpected-response'), once(socket, 'open').then(() => ['', { statusCode: 101 }])]) as [unknown, { statusCode: number }];
    assert.equal(answer.statusCode, 403, path);
  }
});

test('a session that one asks for is not another\'s, be it the same uid of another node', () => {
  const table = createSessionTable();
  const owner = { node: 'alpha', uid: 0, requestId: null };
  const secret = table.add({ ve: 'v', peer: owner, audit: {}, begin: () => Promise.reject(new Error('never')) });
  assert.throws(() => table.take(secret, { pid: 1, uid: 0, gid: 0 }), { code: 'session.invalid' });
  const again = table.add({ ve: 'v', peer: owner, audit: {}, begin: () => Promise.reject(new Error('never')) });
  assert.equal(table.take(again, { ...owner, requestId: 'other' }).ve, 'v');
});
