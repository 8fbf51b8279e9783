/** The door for other nodes of a real daemon, as somebody meets it who is not paired. The finer points are in src/cluster/strangers.test.ts. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, test } from 'node:test';
import { makeAuthority, makeTlsCertificate } from '../../src/lib/certificates.ts';
import { makeToken, tokenFromWord, tokenToWord } from '../../src/cluster/tokens.ts';
import type { NodeView } from '../../src/cluster/types.ts';
import { ask, handshake, makeNode, pair, portOf } from '../lib/nodes.ts';
import { storeFile } from '../lib/cache.ts';

const a = await makeNode('alpha', { noTemplate: true });
const b = await makeNode('beta', { noTemplate: true });
after(async () => {
  await Promise.all([a.destroy(), b.destroy()]);
});
await a.start();
await b.start();
const port = portOf(b);
const authority = makeAuthority('stranger', 10);
const leaf = makeTlsCertificate(authority, 'leaf', 10);
const strange = { cert: leaf.certificate + authority.certificate, key: leaf.key };
const add = (token: string, ...more: string[]) => a.cliWith(`${token}\n`, 'node', 'add', 'beta', ...more);
const newToken = async (): Promise<string> => (await b.cli('node', 'token', '--allow', 'manage')).stdout.trim();

test('no route but the one for pairing answers, with no certificate or a strange one', async () => {
  const openapi = await b.api.call<{ paths: Record<string, Record<string, unknown>> }>('GET', '/v1/openapi.json');
  const paths = Object.entries(openapi.paths).flatMap(([path, verbs]) => Object.keys(verbs).map((verb) => [verb.toUpperCase(), path.replaceAll(/\{.*?\}/g, 'x')] as const));
  assert.ok(paths.length > 40);
  const answers = new Set<string>();
  for (const [method, path] of [...paths.map(([method, path]) => [method, `/node/v1/api${path}`] as const), ...paths.slice(0, 5), ['POST', '/node/v1/hello'], ['POST', '/node/v1/unpair'], ['GET', '/']] as const) {
    for (const tls of [{}, strange]) {
      const { status, body } = await ask(port, method, path, method === 'GET' ? undefined : '{}', tls, { 'veld-protocol': '1', 'veld-user': '0' });
      answers.add(`${status} ${body}`);
    }
  }
  assert.equal(answers.size, 1, [...answers].join('\n'));
  assert.match([...answers][0]!, /^403 .*"node\.not_paired"/);
  await assert.rejects(handshake(port, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }));
});

test('a daemon without the setting listens nowhere, and makes no token', async () => {
  const quiet = await makeNode('quiet', { noTemplate: true, settings: (settings) => { settings.nodes.listen = ''; } });
  try {
    await quiet.start();
    assert.equal((await quiet.cli('node', 'token')).code, 44);
    assert.match((await quiet.cli('node', 'show')).stdout, /does not listen/);
    assert.deepEqual(await quiet.json('node', 'list'), []);
  } finally {
    await quiet.destroy();
  }
});

test('the private key is in a file that only root can read, and no secret is in the log or the store', async () => {
  const token = await newToken();
  const file = join(b.settings.stateDir, 'nodes/identity.json');
  assert.deepEqual([statSync(file).mode & 0o777, statSync(join(file, '..')).mode & 0o777, statSync(file).uid], [0o600, 0o700, 0]);
  const { secret } = tokenFromWord(token);
  const store = readFileSync(storeFile(b.settings.stateDir));
  const wal = readFileSync(`${storeFile(b.settings.stateDir)}-wal`);
  for (const form of [secret, Buffer.from(secret.toString('hex')), Buffer.from(secret.toString('base64url'))]) assert.ok(!store.includes(form) && !wal.includes(form));
  assert.ok(!b.daemonLog().includes(token));
  assert.match(b.daemonLog(), new RegExp(`"token":"${tokenFromWord(token).id}"|token for a node made`));
  assert.doesNotMatch(b.daemonLog() + a.daemonLog(), /PRIVATE KEY/);
});

test('tokens: changed, of a wrong fingerprint, of a wrong secret, used, and past their time', async () => {
  const token = await newToken();
  const broken = await add(`${token.slice(0, -2)}AA`);
  assert.deepEqual([broken.code, /not a token, or a part of it is missing/.test(broken.stderr)], [45, true], broken.stderr);
  const elsewhere = await add(tokenToWord({ ...tokenFromWord(token), fingerprint: 'ab'.repeat(32) }));
  assert.deepEqual([elsewhere.code, /is not the node that made the token/.test(elsewhere.stderr)], [46, true], elsewhere.stderr);
  const wrong = await add(tokenToWord({ ...tokenFromWord(token), secret: makeToken('x:1', 'ab'.repeat(32)).secret }));
  assert.deepEqual([wrong.code, /not known here, was used already, or has expired/.test(wrong.stderr)], [45, true], wrong.stderr);
  assert.equal((await add(token)).code, 45, 'the attempt with the wrong secret used it up');

  const late = await newToken();
  await b.stop();
  const db = new DatabaseSync(storeFile(b.settings.stateDir));
  db.exec("UPDATE node_tokens SET expires_at = '2026-01-01T00:00:00.000Z'");
  db.close();
  await b.start();
  assert.equal((await add(late)).code, 45);
  assert.deepEqual([await a.json('node', 'list'), await b.json('node', 'list')], [[], []]);
  assert.ok(b.daemonLog().includes('pairing refused'));

  const good = await newToken();
  const kept = await newToken();
  await b.restart();
  assert.equal((await add(good)).code, 0, 'tokens outlive the daemon');
  assert.equal((await add(good)).code, 45, 'once');
  assert.equal((await a.cli('node', 'remove', 'beta')).code, 0);
  assert.equal((await add(kept, '--allow', 'none')).code, 0);
});

test('the wrong use of commands', async () => {
  const token = await newToken();
  assert.equal((await a.cliWith(token, 'node', 'add', 'second')).code, 43, 'paired under another name');
  assert.equal((await b.cliWith(token, 'node', 'add', 'itself')).code, 43);
  assert.equal((await a.cliWith('', 'node', 'add', 'second')).code, 2);
  assert.equal((await a.cliWith(token, 'node', 'add', 'Wrong_Name')).code, 12);
  assert.equal((await a.cli('node', 'set', 'beta', 'colour=blue')).code, 2);
  assert.equal((await a.cli('node', 'set', 'beta', 'allow=all')).code, 2);
  assert.equal((await a.cli('node', 'set', 'beta', 'address=nowhere')).code, 2);
  for (const args of [['node', 'show', 'nothing'], ['node', 'remove', '-y', 'nothing'], ['--node', 'nothing', 'list']]) assert.equal((await a.cli(...args)).code, 43, args.join(' '));
});

test('an address that says nothing, and one where nobody is', async () => {
  const silent = createServer((socket) => { socket.on('error', () => {}); }).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const silentPort = (silent.address() as { port: number }).port;
  await a.json('node', 'set', 'beta', `address=127.0.0.1:${silentPort}`);
  const begun = Date.now();
  assert.equal((await a.cli('--node', 'beta', 'list')).code, 47);
  assert.equal((await a.json<NodeView[]>('node', 'list'))[0]!.state, 'unreachable');
  assert.ok(Date.now() - begun < 12_000);
  silent.close();
  await a.json('node', 'set', 'beta', `address=127.0.0.1:${port}`);
  assert.equal((await a.json<NodeView[]>('node', 'list'))[0]!.state, 'ok');
});

test('what is too large, and what is no request: the daemon lives, and the paired node is served', async () => {
  await b.restart(); // attempts begin anew
  const large = await ask(port, 'POST', '/node/v1/pair', 'x'.repeat(2 << 20), strange);
  assert.ok(large.status === 0 || large.body.includes('request.invalid'), JSON.stringify(large).slice(0, 300));
  assert.equal((await ask(port, 'POST', '/node/v1/pair', '{}', strange, { 'x-large': 'y'.repeat(30_000) })).status, 0);
  const socket = await handshake(port, strange);
  socket.on('error', () => {});
  socket.resume();
  socket.write('\x00\x01GARBAGE\r\n\r\n');
  if (!socket.closed) await new Promise((resolve) => { socket.once('close', resolve); }); // not once(): an error is as good an end
  assert.equal((await a.json<NodeView[]>('node', 'list'))[0]!.state, 'ok');
});

test('a paired node is held to sizes, too', async () => {
  await b.json('node', 'set', 'alpha', 'allow=manage');
  // Often: the answer comes while the body is still on its way, and must not be lost for that.
  for (let n = 0; n < 30; n += 1) {
    const answer = await a.api.raw('POST', '/v1/nodes/beta/api/v1/ves', { name: 'x', template: 'y'.repeat(3 << 20) });
    assert.deepEqual([answer.status, /body is too large/.test(JSON.stringify(answer.body))], [400, true], `round ${n}: ${JSON.stringify(answer.body)}`);
  }
  assert.equal((await a.cli('--node', 'beta', 'list')).code, 0);
});

test('a port that is taken: the daemon runs, and doctor says why nobody hears it', async () => {
  const taken = await makeNode('taken', { noTemplate: true, settings: (settings) => { settings.nodes.listen = `127.0.0.1:${port}`; } });
  try {
    await taken.start();
    assert.match((await taken.cli('doctor')).stdout, /nodes: This node cannot listen at 127\.0\.0\.1:\d+: .*EADDRINUSE/);
  } finally {
    await taken.destroy();
  }
});

test('three nodes: each pair is its own', async () => {
  const c = await makeNode('gamma', { noTemplate: true });
  try {
    await c.start();
    await pair(c, b, 'beta', { there: 'manage' });
    assert.equal((await c.cli('--node', 'beta', 'list')).code, 0);
    await b.json('node', 'set', 'gamma', 'allow=none');
    assert.equal((await c.cli('--node', 'beta', 'list')).code, 49);
    assert.equal((await a.cli('--node', 'beta', 'list')).code, 0, 'alpha keeps its own rights');
    assert.deepEqual((await b.json<NodeView[]>('node', 'list')).map(({ name, state }) => [name, state]), [['alpha', 'ok'], ['gamma', 'ok']]);
    assert.equal((await b.cli('node', 'rotate', '--ca')).code, 0);
    assert.deepEqual([(await a.cli('--node', 'beta', 'list')).code, (await c.json<NodeView[]>('node', 'list'))[0]!.state], [0, 'ok']);
  } finally {
    await c.destroy();
  }
});
