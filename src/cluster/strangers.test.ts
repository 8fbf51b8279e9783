/** What somebody without a pairing gets: nothing but one try with a token. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect as connectTcp, createServer as createTcpServer } from 'node:net';
import { connect, createServer, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { makeAuthority, makeTlsCertificate, type KeyPair } from '../lib/certificates.ts';
import { factsOf } from './hello.ts';
import { readAuthority } from './peers.ts';
import { keyOf, makeToken, proofOf, tokenFromWord, tokenToWord } from './tokens.ts';
import { openNode, pairNodes, type NodeBench } from './testing.ts';

let a: NodeBench;
let b: NodeBench;
before(async () => {
  [a, b] = [await openNode('alpha'), await openNode('beta', { tries: true })];
  await pairNodes(a, b, 'beta', { there: ['manage', 'migrate'] });
});
after(() => Promise.all([a.close(), b.close()]));

/** A stranger with an authority of its own. */
function stranger(name = 'stranger'): { authority: KeyPair; tls: ConnectionOptions } {
  const authority = makeAuthority(name, 30);
  const leaf = makeTlsCertificate(authority, 'leaf', 30);
  return { authority, tls: { cert: leaf.certificate + authority.certificate, key: leaf.key } };
}

async function shake(options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port: b.port, rejectUnauthorized: false, ...options });
  await once(socket, 'secureConnect');
  return socket;
}

/** One request on a connection. @returns status (0: broken off) and body */
function ask(socket: TLSSocket, method: string, path: string, body: string | Buffer = '', headers: Record<string, string> = {}): Promise<{ status: number; body: string }> {
  return new Promise((resolve) => {
    const call = request({ method, path, createConnection: () => socket, headers: { 'content-length': String(Buffer.byteLength(body)), 'veld-protocol': '1', ...headers } }, (answer) => {
      let got = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => { got += chunk; });
      answer.on('end', () => resolve({ status: answer.statusCode!, body: got }));
      answer.on('error', () => resolve({ status: 0, body: got }));
    });
    call.on('upgrade', () => resolve({ status: 101, body: '' }));
    call.on('error', () => resolve({ status: 0, body: '' }));
    call.end(body);
  });
}

const facts = factsOf({ cgroup: () => 2, engine: () => null, uids: { base: 1, count: 1 }, capabilities: () => [] }, ['migrate']);

/** A pairing request of a stranger. @param change of the message, last */
async function tryPair(word: string, { authority, tls }: ReturnType<typeof stranger>, change: Record<string, unknown> = {}): Promise<{ status: number; body: string }> {
  const token = tokenFromWord(word);
  const socket = await shake(tls);
  const channel = socket.exportKeyingMaterial(32, 'EXPORTER-veld-pairing', Buffer.alloc(0));
  const { fingerprint, certificate } = readAuthority(authority.certificate);
  const proof = proofOf(keyOf(token.secret), { asking: fingerprint, asked: token.fingerprint, channel });
  const message = { protocol: { min: 1, max: 1 }, token: token.id, proof, authority: certificate, name: 'eve', address: null, facts, ...change };
  const answer = await ask(socket, 'POST', '/node/v1/pair', JSON.stringify(message));
  socket.destroy();
  return answer;
}

const code = ({ body }: { body: string }): string => (JSON.parse(body) as { error: { code: string } }).error.code;
const newWord = (): string => b.nodes.token({ allow: ['manage'] }).token;

test('no certificate, a strange one, and one with the names of a paired node: one and the same refusal to everything', async () => {
  const { subject } = new X509Certificate(b.store.listNodes()[0]!.authorities[0]!.certificate);
  const forged = stranger(subject.replace('CN=', ''));
  const answers = new Set<string>();
  for (const tls of [{}, stranger().tls, forged.tls]) {
    for (const [method, path] of [['GET', '/'], ['POST', '/node/v1/hello'], ['POST', '/node/v1/unpair'], ['GET', '/node/v1/pair'], ['GET', '/node/v1/api/v1'], ['POST', '/node/v1/api/v1/ves'], ['GET', '/v1'],
      ['GET', '/metrics'], ['OPTIONS', '*'], ['POST', '/node/v1/pair/'], ['POST', '/node/v1/../v1/pair'], ['POST', '/node/v1/%70air'], ['TRACE', '/node/v1/hello']] as const) {
      const { status, body } = await ask(await shake(tls), method, path, method === 'POST' ? '{}' : '');
      answers.add(`${status} ${body}`);
    }
    const upgraded = await ask(await shake(tls), 'GET', '/node/v1/api/v1/events', '', { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-key': 'x', 'sec-websocket-version': '13' });
    answers.add(`${upgraded.status} ${upgraded.body}`);
  }
  assert.equal(answers.size, 1, [...answers].join('\n'));
  assert.match([...answers][0]!, /^403 .*node\.not_paired/);
  assert.doesNotMatch([...answers][0]!, /\d+\.\d+\.\d+|beta/);
  assert.equal(b.asked.length, 0);
});

test('nothing older than TLS 1.3, and nothing without TLS', async () => {
  await assert.rejects(shake({ maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2' }), /protocol version|alert/i);
  const plain = connectTcp(b.port, '127.0.0.1');
  plain.on('error', () => {});
  plain.write('GET /node/v1/hello HTTP/1.1\r\nHost: x\r\n\r\n');
  let got = '';
  plain.on('data', (chunk: Buffer) => { got += chunk.toString('latin1'); });
  await new Promise((resolve) => { plain.once('close', resolve); });
  assert.doesNotMatch(got, /HTTP/);
  assert.equal((await shake()).getProtocol(), 'TLSv1.3');
});

test('a token is good once; the first attempt that names it uses it up, right or wrong', async () => {
  const word = newWord();
  const wrong = tokenToWord({ ...tokenFromWord(word), secret: makeToken('x:1', 'aa'.repeat(32)).secret });
  assert.deepEqual([code(await tryPair(wrong, stranger())), code(await tryPair(word, stranger()))], ['node.token_invalid', 'node.token_invalid']);
  const good = newWord();
  const eve = stranger();
  assert.equal((await tryPair(good, eve)).status, 200);
  assert.equal(code(await tryPair(good, stranger())), 'node.token_invalid');
  const word3 = newWord();
  await assert.rejects(a.nodes.add({ name: 'beta', token: tokenToWord({ ...tokenFromWord(word3), secret: makeToken('x:1', 'aa'.repeat(32)).secret }), allow: [] }), { code: 'node.token_invalid' });
  await b.nodes.remove('eve');
});

test('a token is good for ten minutes', async () => {
  const word = newWord();
  b.clock.now += 599_000;
  assert.equal((await tryPair(word, stranger())).status, 200);
  await b.nodes.remove('eve');
  const late = newWord();
  b.clock.now += 600_001;
  assert.equal(code(await tryPair(late, stranger())), 'node.token_invalid');
  const early = newWord();
  b.clock.now -= 3_600_000;
  assert.equal(code(await tryPair(early, stranger())), 'node.token_invalid', 'a clock that went back lengthens no token');
});

test('a proof is good for one connection and one certificate', async () => {
  const [eve, mallory] = [stranger('eve'), stranger('mallory')];
  const context = (authority: KeyPair, word: string) => ({ asking: readAuthority(authority.certificate).fingerprint, asked: tokenFromWord(word).fingerprint });
  const word = newWord();
  const replayed = proofOf(keyOf(tokenFromWord(word).secret), { ...context(eve.authority, word), channel: Buffer.alloc(32) });
  assert.equal(code(await tryPair(word, eve, { proof: replayed })), 'node.token_invalid', 'of another connection');
  assert.equal(code(await tryPair(newWord(), eve, { authority: readAuthority(mallory.authority.certificate).certificate })), 'node.token_invalid', 'for another authority');
  const word2 = newWord();
  assert.equal(code(await tryPair(word2, { authority: mallory.authority, tls: eve.tls })), 'node.token_invalid', 'an authority whose key one does not have');
  const own = a.store.listNodes()[0]!.authorities[0]!.certificate;
  assert.notEqual((await tryPair(newWord(), { authority: { certificate: own, key: '' }, tls: eve.tls })).status, 200, 'the asked node\'s own authority');
  assert.deepEqual(b.store.listNodes().map(({ name }) => name), ['alpha']);
});

test('who answers with another certificate than the token says gets nothing, not even ours', async () => {
  const impostor = stranger('impostor');
  const seen: Buffer[] = [];
  let certificate: unknown;
  const server = createServer({ ...impostor.tls as { cert: string; key: string }, requestCert: true, rejectUnauthorized: false }, (socket) => {
    certificate = socket.getPeerX509Certificate();
    socket.on('data', (chunk: Buffer) => seen.push(chunk)).on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const word = newWord();
  await assert.rejects(a.nodes.add({ name: 'beta', token: word, address: `127.0.0.1:${port}`, allow: [] }), { code: 'node.untrusted', message: /its authority is not the one in the token/ });
  assert.deepEqual([certificate, seen.length], [undefined, 0]);
  // The same for a node that is paired, when somebody else answers at its address.
  await a.nodes.set('beta', { address: `127.0.0.1:${port}` });
  const [view] = await a.nodes.list(true);
  assert.equal(view!.state, 'untrusted');
  assert.equal(seen.length, 0);
  await a.nodes.set('beta', { address: `127.0.0.1:${b.port}` });
  assert.equal((await a.nodes.list(true))[0]!.state, 'ok');
  assert.equal((await tryPair(word, stranger())).status, 200, 'the token was not touched');
  await b.nodes.remove('eve');
  server.close();
});

test('a peer that says nothing, one that closes, and none', async () => {
  const silent = createTcpServer((socket) => { socket.on('error', () => {}); }).listen(0, '127.0.0.1');
  const closing = createTcpServer((socket) => { socket.destroy(); }).listen(0, '127.0.0.1');
  await Promise.all([once(silent, 'listening'), once(closing, 'listening')]);
  const add = (port: number) => a.nodes.add({ name: 'beta', token: newWord(), address: `127.0.0.1:${port}`, allow: [] });
  const begun = performance.now();
  await assert.rejects(add((silent.address() as { port: number }).port), { code: 'node.unreachable', message: /no answer within 5 s/ });
  assert.ok(performance.now() - begun < 7000);
  await assert.rejects(add((closing.address() as { port: number }).port), { code: 'node.unreachable' });
  await assert.rejects(add(1), { code: 'node.unreachable', message: /nobody listens there/ });
  closing.close();
  silent.close();
});

test('names: the token\'s, the other\'s own, and never one that is taken; what cannot be one is refused', async () => {
  const named = b.nodes.token({ allow: [], name: 'wanted' }).token;
  const [one, two, three] = [stranger(), stranger(), stranger()];
  assert.equal((await tryPair(named, one)).status, 200);
  assert.equal((await tryPair(newWord(), two, { name: 'alpha' })).status, 200);
  assert.equal((await tryPair(newWord(), three, { name: 'alpha' })).status, 200);
  assert.deepEqual(b.store.listNodes().map(({ name }) => name), ['alpha', 'alpha-2', 'alpha-3', 'wanted']);
  assert.equal((await tryPair(newWord(), one, { name: 'x' })).status, 200, 'the same authority again');
  assert.equal(b.store.listNodes().length, 4);
  for (const name of ['alpha-2', 'alpha-3', 'wanted']) await b.nodes.remove(name);
  for (const name of ['', 'A', '../x', 'a\nb', 'x'.repeat(64), 7]) assert.equal(code(await tryPair(newWord(), stranger(), { name })), 'request.invalid', String(name));
});

test('bodies and headers that are too large', async () => {
  const large = await ask(await shake(), 'POST', '/node/v1/pair', Buffer.alloc(1 << 20, 'x'));
  assert.ok(large.status === 0 || code(large) === 'request.invalid', JSON.stringify(large));
  assert.equal((await ask(await shake(), 'POST', '/node/v1/pair', '{}', { x: 'y'.repeat(20_000) })).status, 0);
  const deep = await ask(await shake(), 'POST', '/node/v1/pair', '['.repeat(30_000));
  assert.equal(code(deep), 'request.invalid');
});

test('a crowd of strangers does not keep a paired node out', async () => {
  const crowd = await Promise.all(Array.from({ length: 60 }, async () => {
    const socket = await shake().catch(() => undefined);
    socket?.on('error', () => {});
    return socket;
  }));
  const idle = Array.from({ length: 300 }, () => connectTcp(b.port, '127.0.0.1').on('error', () => {}));
  assert.equal((await a.nodes.list(true))[0]!.state, 'ok');
  assert.ok(crowd.filter((socket) => socket && !socket.destroyed).length <= 33);
  for (const socket of [...crowd, ...idle]) socket?.destroy();
});

test('anything may be sent to the pairing route: it is refused, and nobody is paired', async () => {
  const before = b.store.listNodes();
  const word = newWord();
  const valid = { protocol: { min: 1, max: 1 }, token: tokenFromWord(word).id.replace(/./g, 'f'), proof: 'A'.repeat(43), authority: readAuthority(stranger().authority.certificate).certificate, name: 'eve', address: null, facts };
  const changed = fc.tuple(fc.constantFrom(...Object.keys(valid)), fc.jsonValue()).map(([key, value]) => JSON.stringify({ ...valid, [key]: value }));
  const anything = fc.oneof(fc.json(), fc.string(), fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes)), changed, changed.map((text) => text.replace('"protocol"', '"__proto__"')));
  await fc.assert(fc.asyncProperty(anything, async (body) => {
    const socket = await shake(stranger().tls);
    const answer = await ask(socket, 'POST', '/node/v1/pair', body);
    socket.destroy();
    assert.ok(['request.invalid', 'node.token_invalid', 'node.protocol'].includes(code(answer)), answer.body);
  }), { numRuns: 150 });
  assert.deepEqual(b.store.listNodes(), before);
  assert.deepEqual(b.lines.filter(({ level }) => level === 'error'), []);
  assert.equal((await tryPair(word, stranger())).status, 200, 'the real token is still good');
});

test('attempts are counted: after ten a minute nothing is looked at', async () => {
  const c = await openNode('gamma');
  try {
    const socket = (): TLSSocket => connect({ host: '127.0.0.1', port: c.port, rejectUnauthorized: false });
    const codes: string[] = [];
    for (let n = 0; n < 12; n += 1) codes.push(code(await ask(socket(), 'POST', '/node/v1/pair', '{}')));
    assert.deepEqual(codes, [...Array.from({ length: 10 }, () => 'request.invalid'), 'daemon.overloaded', 'daemon.overloaded']);
    const word = c.nodes.token({ allow: [] }).token;
    await assert.rejects(a.nodes.add({ name: 'gamma', token: word, allow: [] }), { code: 'daemon.overloaded' });
  } finally {
    await c.close();
  }
});
