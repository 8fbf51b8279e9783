import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Duplex, Readable, Writable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { connect, createServer, type Socket } from 'node:net';
import { zstdCompressSync } from 'node:zlib';
import { FrameStream } from './frames.ts';

/** Bulk data as a whole. */
async function collect(link: FrameStream): Promise<Buffer> {
  const parts: Buffer[] = [];
  await link.receiveBulk(new Writable({ write: (chunk: Buffer, _encoding, done) => { parts.push(chunk); done(); } }));
  return Buffer.concat(parts);
}

/** Two ends of a TCP connection. By default neither takes a busy machine for a dead one. */
async function pair(t: TestContext, patience = { alive: 20, dead: 10_000, idle: 60_000 }): Promise<{ near: FrameStream; far: FrameStream; raw: Socket }> {
  const server = createServer({ allowHalfOpen: false });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  const accepted = new Promise<Socket>((resolve) => { server.once('connection', resolve); });
  const socket = connect((server.address() as { port: number }).port, '127.0.0.1');
  const raw = await accepted;
  const [near, far] = [new FrameStream(socket, patience), new FrameStream(raw, patience)];
  t.after(() => {
    near.close();
    far.close();
    server.close();
  });
  return { near, far, raw };
}

test('messages and data come in the order in which they were sent, and whole', async (t) => {
  const { near, far } = await pair(t);
  const big = Buffer.alloc(3_000_000, 'abc');
  near.send({ type: 'one' });
  const sending = near.sendBulk(Readable.from([big.subarray(0, 1), big.subarray(1)])).then(() => near.send({ type: 'two' }));
  assert.deepEqual(await far.receive('one'), { type: 'one' });
  assert.ok((await collect(far)).equals(big));
  assert.deepEqual(await far.receive('two'), { type: 'two' });
  await sending;
  assert.equal(near.sent, big.length);
  assert.equal(far.received, big.length);
});

test('a slow taker slows the giver, and is not taken for dead while signs of life come', async (t) => {
  const { near, far } = await pair(t, { alive: 50, dead: 1000, idle: 10_000 });
  const slow = new Writable({ highWaterMark: 1, write(_chunk, _encoding, done) { setTimeout(done, 100); } });
  const giving = near.sendBulk(Readable.from(Array.from({ length: 12 }, () => Buffer.alloc(200_000))));
  await Promise.all([giving, far.receiveBulk(slow)]);
  assert.equal(far.received, 2_400_000);
});

test('what was said just before the other side ended is heard, whatever was being done', async (t) => {
  const why = { type: 'refuse', error: { code: 'disk.full', message: 'x'.repeat(100_000) } };
  const endless = (pause: number): Readable => Readable.from((async function* () {
    for (;;) {
      yield Buffer.alloc(100_000);
      if (pause > 0) await new Promise((resolve) => { setTimeout(resolve, pause); });
    }
  })());
  for (const doing of ['sending', 'sending slowly', 'receiving'] as const) {
    for (let i = 0; i < 20; i++) {
      const { near, far } = await pair(t);
      const told = doing === 'receiving' ? undefined : near.sendBulk(endless(doing === 'sending' ? 0 : 50));
      if (i % 2 === 0) await new Promise((resolve) => { setTimeout(resolve, i); });
      far.send(why);
      void far.finish(5000);
      assert.equal(await told, doing === 'receiving' ? undefined : false);
      assert.deepEqual(await near.receive('refuse'), why, `${doing}, ${i}`);
      near.close();
    }
  }
});

test('and what had come when the connection broke', async () => {
  const body = Buffer.from(JSON.stringify({ type: 'refuse' }));
  const head = Buffer.from([0x4a, 0, 0, 0, body.length]);
  const stream = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  const link = new FrameStream(stream);
  const receiving = link.receive('refuse');
  stream.push(head);
  await new Promise(setImmediate);
  stream.push(Buffer.concat([body, head]));
  stream.destroy(new Error('reset'));
  assert.deepEqual(await receiving, { type: 'refuse' });
  await assert.rejects(link.receive('refuse'), { code: 'migration.link', message: /reset/ });
});

test('a stream that was closed here hears nothing more', async (t) => {
  const { near, far } = await pair(t);
  far.send({ type: 'grant' });
  await new Promise((resolve) => { setTimeout(resolve, 50); });
  near.close();
  await assert.rejects(near.receive('grant'), { code: 'migration.link' });
});

test('what breaks off is an error on the other side, and so is what does not belong there', async (t) => {
  const { near, far } = await pair(t);
  const broken = assert.rejects(near.sendBulk(Readable.from((function* () { yield Buffer.from('x'); throw new Error('no more'); })())), /no more/);
  await assert.rejects(far.receiveBulk(new Writable({ write: (_c, _e, done) => done() })), { code: 'migration.stream' });
  await broken;
  const other = await pair(t);
  other.near.send({ type: 'grant' });
  await assert.rejects(other.far.receive('offer'), { code: 'migration.stream' });
  await assert.rejects(other.far.receive('offer'), { code: 'migration.link' });
});

test('whoever does not want the rest says so in the middle of it', async (t) => {
  const { near, far } = await pair(t);
  const endless = Readable.from((function* () { for (;;) yield Buffer.alloc(100_000); })());
  const sending = near.sendBulk(endless);
  far.send({ type: 'refuse' });
  assert.equal(await sending, false);
  assert.deepEqual(await near.receive('refuse'), { type: 'refuse' });
});

test('a target that fails ends the taking, with its own error', async (t) => {
  const { near, far } = await pair(t);
  near.sendBulk(Readable.from(Array.from({ length: 50 }, () => Buffer.alloc(100_000)))).catch(() => {});
  const failing = new Writable({ write(_chunk, _encoding, done) { done(new Error('no space')); } });
  await assert.rejects(far.receiveBulk(failing), /no space/);
});

test('an end, a cut and silence are all a broken link', async (t) => {
  const ended = await pair(t);
  ended.near.close();
  await assert.rejects(ended.far.receive(), { code: 'migration.link' });
  const silent = await pair(t, { alive: 10_000, dead: 100, idle: 10_000 });
  const watched = new FrameStream(new Duplex({ read() {}, write(_c, _e, done) { done(); } }), { alive: 20, dead: 100, idle: 10_000 });
  await assert.rejects(watched.receive(), { code: 'migration.link', message: /nothing was heard/ });
  silent.raw.destroy();
  await assert.rejects(silent.near.receive(), { code: 'migration.link' });
});

test('nonsense is refused before it is believed', async () => {
  for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n'), Buffer.from([0x4a, 0x7f, 0xff, 0xff, 0xff]), Buffer.from([0x4b, 0, 0, 0, 1, 0]), Buffer.concat([Buffer.from([0x4a, 0, 0, 0, 4]), Buffer.from('null')])]) {
    const end = new FrameStream(Duplex.from({ readable: Readable.from([bytes]), writable: new Writable({ write: (_c, _e, done) => done() }) }), { alive: 50, dead: 500, idle: 10_000 });
    await assert.rejects(end.receive(), { code: 'migration.stream' });
    end.close();
  }
});

/** Text, as far as zstd is concerned. */
const TEXT = Buffer.from(Array.from({ length: 60_000 }, (_, i) => `${i * 7919 % 10_007} of a thousand and one things\n`).join(''));

test('on a slow wire what is sent is compressed, where it becomes smaller, and comes as it was', async (t) => {
  const noise = randomBytes(1_500_000);
  const all = Buffer.concat([TEXT, noise, TEXT, noise, TEXT]);
  // On a machine that has much else to do it is the processor that is slow, and rightly nothing is compressed: but not each time.
  for (let left = 6; ; left--) {
    const { near, far } = await pair(t, { alive: 20, dead: 5000, idle: 10_000 });
    for (const link of [near, far]) link.compress();
    near.limit(4e6);
    // Pieces of all sizes.
    const pieces = (function* () { for (let [at, size] = [0, 1]; at < all.length; at += size, size = size * 3 % 200_003) yield all.subarray(at, at + size); })();
    const [whole, got] = await Promise.all([near.sendBulk(Readable.from(pieces)), collect(far)]);
    assert.ok(whole && got.equals(all));
    assert.deepEqual([near.given, far.received], [all.length, all.length]);
    t.diagnostic(`| ${all.length} bytes went as ${near.sent}`);
    if (near.sent === all.length && left > 1) continue;
    assert.ok(near.sent < all.length - 0.4 * TEXT.length && near.sent > 2 * noise.length, `${near.sent} of ${all.length}`);
    break;
  }
});

test('on a fast wire it goes as it is', async (t) => {
  const { near, far } = await pair(t, { alive: 20, dead: 5000, idle: 10_000 });
  for (const link of [near, far]) link.compress();
  const taken = far.receiveBulk(new Writable({ write: (_chunk, _encoding, done) => done() }));
  await near.sendBulk(Readable.from((function* () { for (let i = 0; i < 100; i++) yield TEXT.subarray(0, 1 << 20); })()));
  await taken;
  assert.deepEqual([near.sent, far.received], [near.given, near.given]);
});

test('a part that would become more than a part is refused, and so is whatever nobody has compressed', async () => {
  const frame = (body: Buffer): Buffer => {
    const head = Buffer.alloc(5);
    head.write('Z');
    head.writeUInt32BE(body.length, 1);
    return Buffer.concat([head, body]);
  };
  const linkOf = (...pieces: Buffer[]): FrameStream => new FrameStream(Duplex.from({ readable: Readable.from(pieces), writable: new Writable({ write: (_c, _e, done) => done() }) }), { alive: 50, dead: 500, idle: 10_000 });
  const end = Buffer.from([0x45, 0, 0, 0, 0]);
  const good = zstdCompressSync(Buffer.alloc(1 << 20));
  const link = linkOf(frame(good), end);
  link.compress();
  assert.equal((await collect(link)).length, 1 << 20);
  link.close();
  // By hand (RFC 8878, 3.1.1): magic number, a window of 2^27 bytes, one block: a byte that is there 100,000 times.
  const wide = Buffer.alloc(10);
  wide.set([0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3]);
  wide.writeUIntLE(100_000 << 3 | 1 << 1 | 1, 6, 3);
  const cases: [string, Buffer][] = [
    ['one byte more', zstdCompressSync(Buffer.alloc((1 << 20) + 1))], ['a bomb', zstdCompressSync(Buffer.alloc(64 << 20))], ['much memory', wide], ['cut off', good.subarray(0, -4)],
    ['more behind it', Buffer.concat([good, Buffer.from('x')])], ['two of them', Buffer.concat([good, good])], ['nothing', zstdCompressSync(Buffer.alloc(0))], ['little', zstdCompressSync(Buffer.alloc(4000))],
    ['what has not become smaller', zstdCompressSync(randomBytes(10_000))], ['no frame', Buffer.alloc(100, 'x')], ['empty', Buffer.alloc(0)],
  ];
  for (const [what, body] of cases) {
    const bad = linkOf(frame(body), end);
    bad.compress();
    let taken = 0;
    await assert.rejects(bad.receiveParts((part) => { taken += part.length; }), { code: 'migration.stream' }, what);
    assert.equal(taken, 0, what);
    bad.close();
  }
  const stranger = linkOf(frame(good), end);
  await assert.rejects(collect(stranger), { code: 'migration.stream', message: /no frame/ }, 'what was not agreed upon');
});
