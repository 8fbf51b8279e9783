import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { Readable, Writable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { FrameStream } from './frames.ts';
import { createThrottle } from './throttle.ts';

test('however it is asked, no more goes in a time than the rate allows, and a burst', () => {
  fc.assert(fc.property(fc.integer({ min: 65_536, max: 1 << 30 }), fc.array(fc.tuple(fc.integer({ min: 1, max: 1 << 20 }), fc.nat(3000)), { minLength: 1, maxLength: 100 }), (rate, steps) => {
    let now = 0;
    const throttle = createThrottle(rate, () => now);
    let gone = 0;
    for (const [bytes, idle] of steps) {
      now += idle;
      now += throttle.take(bytes);
      gone += bytes;
      assert.ok(gone <= rate * (now / 1000 + 0.1) + 1, `${gone} bytes in ${now} ms`);
    }
  }));
});

test('who has nothing else to wait for gets all of the rate', () => {
  let now = 0;
  const throttle = createThrottle(1_000_000, () => now);
  for (let i = 0; i < 1000; i++) now += throttle.take(throttle.part);
  assert.ok(Math.abs(throttle.part * 1000 / (now / 1000) / 1_000_000 - 1) < 0.01);
});

/** Two ends of a TCP connection. */
async function pair(t: TestContext): Promise<[FrameStream, FrameStream]> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as { port: number }).port, '127.0.0.1');
  const [raw] = await once(server, 'connection') as [Socket];
  const ends: [FrameStream, FrameStream] = [new FrameStream(socket), new FrameStream(raw)];
  t.after(() => {
    for (const end of ends) end.close();
    server.close();
  });
  return ends;
}

/** Bytes per second that arrive. */
async function rateOf(t: TestContext, bytes: number, limit?: number): Promise<number> {
  const [near, far] = await pair(t);
  if (limit !== undefined) near.limit(limit);
  const began = performance.now();
  await Promise.all([near.sendBulk(Readable.from([Buffer.alloc(bytes)])), far.receiveBulk(new Writable({ write: (_chunk, _encoding, done) => done() }))]);
  return bytes / (performance.now() - began) * 1000;
}

test('bulk data goes at the rate that was asked for, whichever it is', async (t) => {
  const rates = { 2e6: await rateOf(t, 1e6, 2e6), 8e6: await rateOf(t, 4e6, 8e6) };
  t.diagnostic(`| ${Object.entries(rates).map(([limit, rate]) => `${(rate / 1e6).toFixed(2)} of ${Number(limit) / 1e6} MB/s`).join(', ')}`);
  // Beyond it is the burst of a tenth of a second, of half a second.
  for (const [limit, rate] of Object.entries(rates)) assert.ok(rate <= 1.26 * Number(limit) && rate > 0.2 * Number(limit), `${rate} of ${limit}`);
  // (Not each time on a machine that has much else to do.)
  let free = 0;
  for (let left = 5; left > 0 && free <= 2 * rates[8e6]; left--) free = await rateOf(t, 8e6);
  assert.ok(free > 2 * rates[8e6], 'without a limit it is another one');
});

test('who waits for its turn hears at once that the rest is not wanted, and is not taken for dead', async (t) => {
  const [near, far] = await pair(t);
  near.limit(65_536);
  const sending = near.sendBulk(Readable.from([Buffer.alloc(50_000_000)]));
  far.send({ type: 'refuse' });
  assert.equal(await sending, false);
  assert.ok(near.sent < 5_000_000);
});
