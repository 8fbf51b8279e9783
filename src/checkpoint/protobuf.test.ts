import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { changeMessage, textsOf, varint, type Changes } from './protobuf.ts';

/** A field: key, then content. */
const number = (field: number, value: number): Buffer => Buffer.concat([varint(BigInt(field << 3)), varint(BigInt(value))]);
const bytes = (field: number, content: Uint8Array): Buffer => Buffer.concat([varint(BigInt((field << 3) | 2)), varint(BigInt(content.length)), content]);

test('without changes a message is the same, to the byte', () => {
  const field = fc.oneof(
    fc.tuple(fc.integer({ min: 1, max: 1000 }), fc.nat()).map(([no, value]) => number(no, value)),
    fc.tuple(fc.integer({ min: 1, max: 1000 }), fc.uint8Array({ maxLength: 40 })).map(([no, content]) => bytes(no, content)),
    fc.uint8Array({ minLength: 8, maxLength: 8 }).map((content) => Buffer.concat([varint(BigInt((5 << 3) | 1)), content])),
    fc.uint8Array({ minLength: 4, maxLength: 4 }).map((content) => Buffer.concat([varint(BigInt((6 << 3) | 5)), content])),
  );
  fc.assert(fc.property(fc.array(field, { maxLength: 20 }), (fields) => {
    const message = Buffer.concat(fields);
    assert.ok(changeMessage(message, {}).equals(message));
    // What is changed by a function that changes nothing, too.
    assert.ok(changeMessage(message, { 1: { number: (value) => value } }).equals(message));
  }));
});

test('numbers and strings change where they are named, in messages within messages', () => {
  const inner = Buffer.concat([number(1, 5), number(2, 300), bytes(3, Buffer.from('text'))]);
  const message = Buffer.concat([bytes(1, inner), number(2, 300), bytes(1, inner)]);
  const changes: Changes = { 1: { message: { 2: { number: (value) => value * 1_000_000 }, 3: { text: (value) => `${value}, longer than it was` } } } };
  const changed = Buffer.concat([number(1, 5), number(2, 300_000_000), bytes(3, Buffer.from('text, longer than it was'))]);
  assert.ok(changeMessage(message, changes).equals(Buffer.concat([bytes(1, changed), number(2, 300), bytes(1, changed)])));
});

test('what is left out is gone, and nothing else', () => {
  const inner = Buffer.concat([number(1, 5), bytes(3, Buffer.from('x')), bytes(3, Buffer.from('y'))]);
  const message = Buffer.concat([bytes(1, inner), bytes(3, Buffer.from('stays')), number(4, 7)]);
  assert.ok(changeMessage(message, { 1: { message: { 3: 'left out' } }, 4: 'left out' }).equals(Buffer.concat([bytes(1, number(1, 5)), bytes(3, Buffer.from('stays'))])));
});

test('messages are kept or left out by what is in them, and what is no text stays as it is', () => {
  const raw = Buffer.from([0xff, 0x2f, 0xfe]);
  const named = (name: string | Buffer): Buffer => bytes(2, Buffer.concat([number(3, 9), bytes(1, Buffer.from(name as string))]));
  const message = Buffer.concat([named('a'), named('b'), named(raw), number(1, 1)]);
  assert.deepEqual(textsOf(message.subarray(2, 2 + message[1]!), 1), ['a']);
  const changed = changeMessage(message, { 2: { message: { 1: { text: (text) => text.replace('b', 'longer') } }, keep: (inner) => !textsOf(inner, 1).includes('a') } });
  assert.ok(changed.equals(Buffer.concat([named('longer'), named(raw), number(1, 1)])));
});

test('what is no message is refused', () => {
  for (const broken of [[0x08], [0x0a, 5, 1], [0x0b], [0x09, 1, 2], Array.from({ length: 12 }, () => 0xff)]) {
    assert.throws(() => changeMessage(Buffer.from(broken), {}), RangeError);
  }
});

test('any bytes are either a message or refused', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (content) => {
    try {
      changeMessage(content, { 1: { message: {} }, 2: { number: (value) => value } });
    } catch (error) {
      assert.ok(error instanceof RangeError, String(error));
    }
  }));
});
