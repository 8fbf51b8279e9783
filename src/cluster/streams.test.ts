/** What a layer above builds on: streams between nodes by node-client and routes that it registers. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { acceptStream } from './node-server.ts';
import { openNode, pairNodes, type NodeBench } from './testing.ts';
import type { NodeRecord } from '../store/types.ts';

let a: NodeBench;
let b: NodeBench;
const record = (): NodeRecord => a.store.listNodes()[0]!;

before(async () => {
  [a, b] = [await openNode('alpha'), await openNode('beta')];
  await pairNodes(a, b, 'beta', { there: ['migrate'] });
  b.nodes.register({ path: 'test/hash', needs: 'migrate', async handle({ request, node }, response) {
    response.writeHead(200, { 'x-from': node!.name });
    response.write('begun\n');
    const hash = createHash('sha256');
    await pipeline(request, hash);
    response.end(hash.digest('hex'));
  } }, 'test');
  b.nodes.register({ path: 'test/echo', needs: 'migrate', upgrade(call, head) {
    const stream = acceptStream(call, head);
    stream.pipe(stream);
  } });
  b.nodes.register({ path: 'test/fails', needs: 'migrate', handle() { throw new Error('secret inside'); } });
  b.nodes.register({ path: 'test/secret', needs: 'manage', handle(_call, response) { response.end('no'); }, upgrade(call, head) { acceptStream(call, head); } });
});
after(() => Promise.all([a.close(), b.close()]));

/** Bytes that nobody holds at once. */
async function* bytes(count: number, seed = 1): AsyncGenerator<Buffer> {
  for (let left = count; left > 0; left -= 65_536) yield Buffer.alloc(Math.min(65_536, left), seed++ & 255);
}

test('a long body goes there and an answer comes back meanwhile, both as streams', async () => {
  const size = 32 << 20;
  const hash = createHash('sha256');
  for await (const chunk of bytes(size)) hash.update(chunk);
  const answer = await a.nodes.client.post(record(), 'test/hash', Readable.from(bytes(size)));
  assert.equal(answer.headers['x-from'], 'alpha');
  assert.equal(await text(answer), `begun\n${hash.digest('hex')}`);
  assert.ok((await b.nodes.list(false)).length === 1 && (await a.nodes.view('beta')).capabilities.includes('test'));
});

test('a raw stream carries bytes both ways, and its ends', async () => {
  const stream = await a.nodes.client.stream(record(), 'test/echo');
  const back = text(stream);
  for await (const chunk of bytes(3 << 20)) if (!stream.write(chunk)) await once(stream, 'drain');
  stream.end('the end');
  const got = await back;
  assert.equal(got.length, (3 << 20) + 7);
  assert.ok(got.endsWith('the end'));
});

test('a body that fails breaks the request off; an abort ends it', async () => {
  const failing = Readable.from((async function* () {
    yield Buffer.alloc(1000);
    throw new Error('disk');
  })());
  const answer = await a.nodes.client.post(record(), 'test/hash', failing).catch((error: unknown) => error as Error);
  if (answer instanceof Error) assert.equal((answer as { code?: string }).code, 'node.unreachable');
  else await assert.rejects(text(answer));
  const abort = new AbortController();
  const endless = Readable.from((async function* () { for (;;) yield await new Promise<Buffer>((resolve) => { setTimeout(resolve, 5, Buffer.alloc(10)); }); })());
  const running = await a.nodes.client.post(record(), 'test/hash', endless, { signal: abort.signal });
  const read = text(running);
  abort.abort();
  await assert.rejects(read);
});

test('a route needs its right, by request and by upgrade, and errors tell nothing of the inside', async () => {
  await assert.rejects(a.nodes.client.post(record(), 'test/secret', Readable.from(['x'])), { code: 'node.not_allowed', message: /right manage/ });
  await assert.rejects(a.nodes.client.stream(record(), 'test/secret'), { code: 'node.not_allowed' });
  await assert.rejects(a.nodes.client.post(record(), 'test/nothing', Readable.from(['x'])), { code: 'route.not_found' });
  await assert.rejects(a.nodes.client.stream(record(), 'test/hash'), { code: 'route.not_found' });
  await assert.rejects(a.nodes.client.post(record(), 'test/fails', Readable.from(['x'])), (error: Error & { code: string }) => error.code === 'internal' && !error.message.includes('secret'));
  const [of] = b.store.listNodes();
  await b.nodes.set(of!.name, { allow: ['manage'] });
  assert.equal(await text(await a.nodes.client.post(record(), 'test/secret', Readable.from(['x']))), 'no');
  await assert.rejects(a.nodes.client.post(record(), 'test/hash', Readable.from(['x'])), { code: 'node.not_allowed' });
  await b.nodes.set(of!.name, { allow: ['migrate'] });
});

test('the API passes for who may manage, with body, headers and upgrade, and the user is named', async () => {
  const passed = { node: 'beta', method: 'POST', path: '/v1/x?y=%20', headers: { 'content-type': 'text/plain', 'connection': 'x' }, uid: 1000, requestId: 'r-1' };
  assert.equal((await a.nodes.pass(passed, Readable.from(['hello']))).statusCode, 403);
  await b.nodes.set('alpha', { allow: ['manage', 'migrate'] });
  const answer = await a.nodes.pass(passed, Readable.from(['hello']));
  assert.deepEqual([answer.statusCode, answer.headers['x-there'], await text(answer)], [200, 'beta', 'hello']);
  assert.deepEqual(b.asked, [{ method: 'POST', url: '/v1/x?y=%20', from: { node: 'alpha', uid: 1000, requestId: 'r-1' } }]);
  const { stream } = await a.nodes.passUpgrade({ ...passed, method: 'GET', headers: { upgrade: 'echo' } });
  stream!.end('ping');
  assert.equal(await text(stream!), 'ping');
});

test('streams end with the pairing, on both sides', async () => {
  const stream = await a.nodes.client.stream(record(), 'test/echo');
  const closed = once(stream, 'close');
  stream.on('error', () => {});
  stream.resume();
  assert.deepEqual(await b.nodes.remove('alpha'), { told: true, reason: null });
  await closed;
  await assert.rejects(a.nodes.client.stream(record(), 'test/echo'), { code: 'node.not_paired' });
});

test('streams of a node that cannot be told end all the same, whichever side removes', async (t) => {
  const quiet = await openNode('quiet', { listen: false });
  t.after(() => quiet.close());
  for (const remove of [() => b.nodes.remove('quiet'), () => quiet.nodes.remove('beta')]) {
    await pairNodes(quiet, b, 'beta', { there: ['migrate'] });
    const stream = await quiet.nodes.client.stream(quiet.store.listNodes()[0]!, 'test/echo');
    stream.on('error', () => {});
    stream.resume();
    const closed = once(stream, 'close', { signal: AbortSignal.timeout(5000) });
    await remove();
    await closed;
    for (const name of quiet.store.listNodes().map(({ name }) => name)) await quiet.nodes.remove(name);
    for (const name of b.store.listNodes().map(({ name }) => name)) await b.nodes.remove(name);
  }
});

test('a right that is taken away ends what was begun with it', async () => {
  await pairNodes(a, b, 'beta', { there: ['migrate'] });
  const stream = await a.nodes.client.stream(record(), 'test/echo');
  stream.on('error', () => {});
  stream.resume();
  const closed = once(stream, 'close', { signal: AbortSignal.timeout(5000) });
  await b.nodes.set('alpha', { allow: ['manage', 'migrate'] });
  await b.nodes.set('alpha', { address: '127.0.0.1:9' });
  assert.equal(stream.destroyed, false, 'more is no less');
  await b.nodes.set('alpha', { allow: ['manage'] });
  await closed;
});
