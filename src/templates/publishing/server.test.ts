/** The server of images: what it answers, and what it does not. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { connect } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createLogger } from '../../lib/log.ts';
import { serverCertificate } from './certificate.ts';
import { createFileServer } from './server.ts';
import type { Resource } from './types.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-served-'));
const CONTENT = Buffer.from(Array.from({ length: 1000 }, (_, n) => n % 256));
writeFileSync(join(folder, 'file'), CONTENT);
writeFileSync(join(folder, 'secret'), 'secret');
const modified = new Date('2026-01-02T03:04:05.678Z');
const resources = new Map<string, Resource>([
  ['streams/v1/index.json', { content: Buffer.from('{}\n'), type: 'application/json', etag: '"doc"', modified }],
  ['images/a/rootfs.tar.xz', { file: join(folder, 'file'), size: 1000, type: 'application/x-xz', etag: '"file"', modified }],
]);
const log = createLogger({ write() {} }, 'error');
const counted = { answers: 0, bytes: 0 };
const server = createFileServer({ resources: () => resources, tls: null, log, onAnswer: (bytes) => { counted.answers += 1; counted.bytes += bytes; } });
await server.listen('127.0.0.1', 0);
after(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

interface Answer { status: number; headers: Record<string, string | string[] | undefined>; body: Buffer }
const ask = (path: string, headers: Record<string, string> = {}, method = 'GET', body?: string): Promise<Answer> => new Promise((resolve, reject) => {
  const asked = request({ port: server.port(), host: '127.0.0.1', path, method, headers, agent: false }, (answer) => {
    const parts: Buffer[] = [];
    answer.on('data', (part: Buffer) => parts.push(part));
    answer.on('end', () => resolve({ status: answer.statusCode!, headers: answer.headers, body: Buffer.concat(parts) }));
    answer.on('error', reject);
  });
  asked.on('error', (error) => reject(new Error(`${method} ${path}: ${error.message}`)));
  asked.end(body);
});
const FILE = '/images/a/rootfs.tar.xz';

test('a file, its head, and what goes with it', async () => {
  const whole = await ask(FILE);
  assert.deepEqual([whole.status, whole.headers.etag, whole.headers['last-modified'], whole.headers['content-type'], whole.headers['accept-ranges'], whole.headers['content-length']], [200, '"file"', 'Fri, 02 Jan 2026 03:04:05 GMT', 'application/x-xz', 'bytes', '1000']);
  assert.ok(whole.body.equals(CONTENT));
  assert.match(String(whole.headers['cache-control']), /immutable/);
  const head = await ask(FILE, {}, 'HEAD');
  assert.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, '1000', 0]);
  const list = await ask('/streams/v1/index.json');
  assert.deepEqual([list.status, list.body.toString(), list.headers['cache-control']], [200, '{}\n', 'no-cache']);
  assert.equal((await ask('//streams/v1/index.json?x=1')).status, 200, 'lxc-download asks like this');
  assert.ok(counted.answers >= 4 && counted.bytes >= 1000);
});

test('parts', async () => {
  const part = async (range: string, more: Record<string, string> = {}, path = FILE): Promise<[number, string | undefined, Buffer]> => {
    const { status, headers, body } = await ask(path, { range, ...more });
    return [status, headers['content-range'] as string | undefined, body];
  };
  assert.deepEqual(await part('bytes=0-9'), [206, 'bytes 0-9/1000', CONTENT.subarray(0, 10)]);
  assert.deepEqual(await part('bytes=990-'), [206, 'bytes 990-999/1000', CONTENT.subarray(990)]);
  assert.deepEqual(await part('bytes=-10'), [206, 'bytes 990-999/1000', CONTENT.subarray(990)]);
  assert.deepEqual(await part('bytes=990-5000'), [206, 'bytes 990-999/1000', CONTENT.subarray(990)]);
  assert.deepEqual(await part('bytes=-5000'), [206, 'bytes 0-999/1000', CONTENT]);
  assert.deepEqual(await part('bytes=1-1', {}, '/streams/v1/index.json'), [206, 'bytes 1-1/3', Buffer.from('}')]);
  for (const range of ['bytes=1000-', 'bytes=5000-6000', 'bytes=-0']) assert.deepEqual((await part(range)).slice(0, 2), [416, 'bytes */1000'], range);
  for (const range of ['bytes=5-4', 'bytes=0-1,5-6', 'lines=1-2', 'bytes=-', 'bytes=a-b', `bytes=${'9'.repeat(30)}-`]) assert.deepEqual((await part(range)).slice(0, 2), [200, undefined], range);
  assert.equal((await part('bytes=5-9', { 'if-range': '"file"' }))[0], 206);
  assert.equal((await part('bytes=5-9', { 'if-range': 'Fri, 02 Jan 2026 03:04:05 GMT' }))[0], 206);
  assert.equal((await part('bytes=5-9', { 'if-range': '"another"' }))[0], 200, 'it is another file by now');
  assert.equal((await part('bytes=5-9', { 'if-range': 'Fri, 02 Jan 2026 03:04:04 GMT' }))[0], 200);
});

test('what the client has already is not sent again', async () => {
  for (const tag of ['"file"', 'W/"file"', '"x", "file"', '*']) assert.deepEqual([(await ask(FILE, { 'if-none-match': tag })).status, (await ask(FILE, { 'if-none-match': tag })).body.length], [304, 0], tag);
  assert.equal((await ask(FILE, { 'if-none-match': '"x"', 'if-modified-since': 'Fri, 02 Jan 2026 03:04:05 GMT' })).status, 200, 'the tag decides');
  assert.equal((await ask(FILE, { 'if-modified-since': 'Fri, 02 Jan 2026 03:04:05 GMT' })).status, 304);
  assert.equal((await ask(FILE, { 'if-modified-since': 'Fri, 02 Jan 2026 03:04:04 GMT' })).status, 200);
  assert.equal((await ask(FILE, { 'if-modified-since': 'yesterday' })).status, 200);
});

test('nothing but what is listed, and nothing but GET and HEAD', async () => {
  for (const path of ['/', '/streams', '/streams/v1/', '/secret', '/images/a/../../secret', '/images/a/%2e%2e/%2e%2e/secret', '/%2e%2e%2fsecret', '/..%5csecret', `/${'../'.repeat(20)}etc/passwd`, `${folder}/secret`, '/streams/v1/index.json%00', '/streams/v1/./index.json',
    '/%73treams/v1/index.json', '/__proto__', '/constructor', '/file', FILE.toUpperCase()]) {
    const { status, body } = await ask(path);
    assert.deepEqual([status, body.toString()], [404, 'Not found.\n'], path);
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE']) {
    const { status, headers } = await ask(FILE, {}, method);
    assert.deepEqual([status, headers.allow], [405, 'GET, HEAD'], method);
  }
  assert.equal((await ask(FILE, { 'content-length': '6' }, 'GET', 'a body')).status, 200);
});

test('a file that is gone fails one request, and tells nothing of the inside', async () => {
  resources.set('lost', { file: join(folder, 'lost'), size: 5, type: 'x/y', etag: '"l"', modified });
  const { status, body } = await ask('/lost');
  assert.deepEqual([status, body.toString()], [500, 'That did not work.\n']);
  writeFileSync(join(folder, 'lost'), 'short');
  assert.equal((await ask('/lost')).body.toString(), 'short');
  unlinkSync(join(folder, 'lost'));
  assert.equal((await ask(FILE)).status, 200);
});

test('connections of one address have a limit, and go when nothing comes', async () => {
  const sockets = Array.from({ length: 80 }, () => connect(server.port(), '127.0.0.1'));
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  const closed = sockets.filter((socket) => { socket.resume(); return true; }).map((socket) => new Promise<boolean>((resolve) => {
    socket.on('error', () => resolve(true));
    socket.on('close', () => resolve(true));
    setTimeout(() => resolve(false), 1000);
  }));
  const ended = (await Promise.all(closed)).filter(Boolean).length;
  assert.ok(ended >= 16 && ended < 80, `${ended} of 80 were ended`);
  for (const socket of sockets) socket.destroy();
  const bytes = connect(server.port(), '127.0.0.1');
  bytes.on('error', () => {});
  bytes.write('nonsense\r\n\r\n');
  bytes.resume();
  await once(bytes, 'close');
  assert.equal((await ask(FILE)).status, 200);
});

test('TLS by a certificate of its own that clients can check by name and address; it stays, and is renewed', async (t) => {
  const file = join(folder, 'tls.json');
  const images = { listen: '127.0.0.1:1', scheme: 'https' as const, address: 'images.example.org:443', certificate: '', key: '', gnupgHome: '', keep: 3 };
  const first = serverCertificate(file, images);
  assert.deepEqual(serverCertificate(file, images), first);
  const later = serverCertificate(file, images, Date.now() + 46 * 86_400_000);
  assert.notEqual(later.cert, first.cert);
  assert.equal(later.authority, first.authority);
  assert.notEqual(serverCertificate(file, { ...images, address: 'other.example.org:443' }).cert, later.cert, 'it has another name now');
  const secure = createFileServer({ resources: () => resources, tls: later, log });
  await secure.listen('127.0.0.1', 0);
  t.after(() => secure.close());
  const status = (servername: string | undefined, ca = later.authority!): Promise<number | string> => new Promise((resolve) => {
    tlsRequest({ port: secure.port(), host: '127.0.0.1', path: FILE, ca, agent: false, ...servername !== undefined && { servername } }, (answer) => {
      answer.resume();
      resolve(answer.statusCode!);
    }).on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message)).end();
  });
  assert.equal(await status(undefined), 200);
  assert.equal(await status('images.example.org'), 200);
  assert.equal(await status('evil.example.org'), 'ERR_TLS_CERT_ALTNAME_INVALID');
  assert.equal(await status(undefined, serverCertificate(join(folder, 'tls2.json'), images).authority!), 'SELF_SIGNED_CERT_IN_CHAIN');
  const given = { certificate: join(folder, 'given.crt'), key: join(folder, 'given.key') };
  assert.throws(() => serverCertificate(file, { ...images, ...given }), { code: 'published.not_listening' });
  writeFileSync(given.certificate, first.cert);
  writeFileSync(given.key, first.key);
  assert.deepEqual(serverCertificate(file, { ...images, ...given }), { cert: first.cert, key: first.key, authority: null });
});
