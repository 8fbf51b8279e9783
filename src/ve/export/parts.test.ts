import assert from 'node:assert/strict';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { PartReader, PartWriter } from './parts.ts';

/** What a writer makes of parts. */
async function written(parts: readonly Buffer[][]): Promise<Buffer> {
  const out = new PassThrough({ highWaterMark: 64 << 20 });
  const writer = new PartWriter(out);
  for (const part of parts) await writer.bulk(part);
  out.end();
  return Buffer.concat(await out.toArray() as Buffer[]);
}

async function read(bytes: Buffer, at: readonly number[], count: number): Promise<Buffer[]> {
  const cuts = [0, ...at.map((one) => one % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  const reader = new PartReader(Readable.from(cuts.slice(1).map((to, i) => bytes.subarray(cuts[i], to)).filter((piece) => piece.length > 0)));
  const parts: Buffer[] = [];
  for (let i = 0; i < count; i++) {
    const pieces: Buffer[] = [];
    for await (const piece of reader.bulk()) pieces.push(Buffer.from(piece));
    parts.push(Buffer.concat(pieces));
  }
  await reader.end();
  return parts;
}

const MARK = (await written([[]])).subarray(0, -1);

test('whatever the bytes are, and however they come, the parts are what they were', async () => {
  const piece = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.nat(MARK.length).map((length) => MARK.subarray(0, length)), fc.constant(MARK), fc.nat(MARK.length).map((from) => MARK.subarray(from)), fc.constantFrom(Buffer.of(0), Buffer.of(1)))
    .map((bytes) => Buffer.from(bytes));
  await fc.assert(fc.asyncProperty(fc.array(fc.array(piece, { maxLength: 6 }), { minLength: 1, maxLength: 4 }), fc.array(fc.nat(), { maxLength: 8 }), async (parts, at) => {
    assert.deepEqual(await read(await written(parts), at, parts.length), parts.map((pieces) => Buffer.concat(pieces)));
  }), { numRuns: 500 });
});

test('the same bytes are written in the same way, however they are cut', async () => {
  await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.nat(200), async (bytes, at) => {
    const whole = Buffer.concat([Buffer.from(bytes), MARK, Buffer.from(bytes)]);
    assert.deepEqual(await written([[whole.subarray(0, at), whole.subarray(at)]]), await written([[whole]]));
  }), { numRuns: 200 });
});

test('what is cut short, goes on, or is no part is told apart', async () => {
  const whole = await written([[Buffer.from('one')], [Buffer.from('two')]]);
  await assert.rejects(read(whole.subarray(0, -1), [], 2), /cut short/);
  await assert.rejects(read(whole, [], 1), /goes on behind its end/);
  await assert.rejects(read(Buffer.concat([MARK, Buffer.of(7)]), [], 1), /a mark that is none/);
  const message = async (text: string): Promise<unknown> => new PartReader(Readable.from([await written([[Buffer.from(text)]])])).message();
  assert.deepEqual(await message('{"type":"x","y":1}'), { type: 'x', y: 1 });
  for (const text of ['', '{', '1', 'null', '{"kind":1}']) await assert.rejects(message(text), /message/);
  await assert.rejects(message(`{"type":"${'x'.repeat(5 << 20)}"}`), /too long/);
});
