/** Anything at all from another node: one bad frame fails one session, with an error of ours, and no more; no form lets through what is of another type. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex, PassThrough, Readable, Writable } from 'node:stream';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { VeldError } from '../lib/errors.ts';
import { checkAccept, checkForm, plain, readArrived } from './forms.ts';
import { FrameStream } from './frames.ts';
import { refusal } from './refusal.ts';
import { removal } from './removal.ts';
import type { Accept, Arrived, Offer, Refuse } from './types.ts';

const PATIENCE = { alive: 1000, dead: 5000, idle: 5000 };
const RUNS = { numRuns: 300 };

/** A link on which these pieces come, and then the end. */
function linkOf(pieces: readonly Uint8Array[]): FrameStream {
  return new FrameStream(Duplex.from({ readable: Readable.from(pieces.map((piece) => Buffer.from(piece)), { objectMode: false }), writable: new Writable({ write: (_chunk, _encoding, done) => done() }) }), PATIENCE);
}

function frame(kind: string, body: Uint8Array, length = body.length): Buffer {
  const head = Buffer.alloc(5);
  head.write(kind, 'latin1');
  head.writeUInt32BE(length >>> 0, 1);
  return Buffer.concat([head, body]);
}

const frames = fc.array(fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.tuple(fc.constantFrom('J', 'D', 'E', 'X', 'K', 'Z'), fc.uint8Array({ maxLength: 40 }), fc.option(fc.nat(2 ** 32 - 1))).map(([kind, body, length]) => frame(kind, body, length ?? body.length)),
  fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.constantFrom(0, 5000, (1 << 20) - 40, 1 << 20, 2 << 20), fc.option(fc.nat(40)), fc.uint8Array({ maxLength: 2 })).map(([body, zeros, cut, more]) =>
    frame('Z', Buffer.concat([zstdCompressSync(Buffer.concat([body, Buffer.alloc(zeros)])).subarray(0, cut ?? undefined), more]))),
  fc.json().map((text) => frame('J', Buffer.from(text))),
  fc.record({ type: fc.constantFrom('offer', 'grant', '__proto__') }, { requiredKeys: [] }).map((message) => frame('J', Buffer.from(JSON.stringify(message)))),
), { maxLength: 12 });

/** What was thrown, if it is one of ours that says whose fault it is. */
async function outcome(work: Promise<unknown>): Promise<void> {
  const error = await work.then(() => undefined, (reason: unknown) => reason);
  if (error !== undefined) assert.ok(error instanceof VeldError && ['migration.stream', 'migration.link'].includes(error.code), (error as Error).message);
}

test('whatever bytes come, in whatever pieces, a session ends with an error of its own', async () => {
  await fc.assert(fc.asyncProperty(frames, fc.integer({ min: 1, max: 64 }), fc.array(fc.boolean(), { maxLength: 12 }), fc.boolean(), async (parts, step, reads, compressed) => {
    const all = Buffer.concat(parts);
    const link = linkOf(Array.from({ length: Math.ceil(all.length / step) }, (_, i) => all.subarray(i * step, (i + 1) * step)));
    if (compressed) link.compress();
    const take = (part: Buffer): void => assert.ok(part.length <= 1 << 20);
    for (const bulk of reads) await outcome(bulk ? link.receiveParts(take) : link.receive('offer', 'grant'));
    await outcome(link.sendBulk(Readable.from([Buffer.from('x')])));
    await link.finish(100);
    assert.ok(link.failure);
  }), RUNS);
});

test('frames in any pieces are the frames that were sent', async () => {
  await fc.assert(fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 8 }), fc.integer({ min: 1, max: 50 }), fc.boolean(), async (given, step, compressed) => {
    const bodies = compressed ? given.map((body) => Buffer.concat([body, Buffer.alloc(5000)])) : given;
    const all = Buffer.concat([...bodies.map((body) => (compressed ? frame('Z', zstdCompressSync(body)) : frame('D', body))), frame('E', Buffer.alloc(0)), frame('J', Buffer.from('{"type":"done"}'))]);
    const link = linkOf(Array.from({ length: Math.ceil(all.length / step) }, (_, i) => all.subarray(i * step, (i + 1) * step)));
    if (compressed) link.compress();
    const got: Buffer[] = [];
    await link.receiveBulk(new Writable({ write: (chunk: Buffer, _encoding, done) => { got.push(Buffer.from(chunk)); done(); } }));
    assert.ok(Buffer.concat(got).equals(Buffer.concat(bodies)));
    await link.receive('done');
    link.close();
  }), RUNS);
});

test('a target that fails at its very end fails the taking', async () => {
  const link = linkOf([frame('D', Buffer.from('x')), frame('E', Buffer.alloc(0))]);
  await assert.rejects(link.receiveBulk(new Writable({ write: (_chunk, _encoding, done) => done(), final: (done) => done(new Error('not whole')) })), /not whole/);
  link.close();
});

test('signs of life alone, and data by drops, are no progress', async () => {
  const impatient = { alive: 10, dead: 5000, idle: 150 };
  for (const drop of [frame('K', Buffer.alloc(0)), frame('D', Buffer.from('x'))]) {
    const wire = new PassThrough();
    const link = new FrameStream(Duplex.from({ readable: wire, writable: new Writable({ write: (_chunk, _encoding, done) => done() }) }), impatient);
    const timer = setInterval(() => wire.write(drop), 20);
    await assert.rejects(link.receiveBulk(new Writable({ write: (_chunk, _encoding, done) => done() })), { code: 'migration.link', message: /signs of life/ });
    clearInterval(timer);
  }
  // Nobody waits: it may take as long as it takes.
  const link = new FrameStream(Duplex.from({ readable: new PassThrough(), writable: new Writable({ write: (_chunk, _encoding, done) => done() }) }), impatient);
  await new Promise((resolve) => { setTimeout(resolve, 300); });
  assert.equal(link.failure, undefined);
  link.close();
});

const OFFER: Offer = {
  type: 'offer', protocol: 1, id: 'a'.repeat(32), epoch: 1, dryRun: false, kind: 'running',
  ve: { uuid: '8ff212a7-9901-41bb-83dc-579712c95f48', name: 'web', template: 'b'.repeat(64), properties: {}, addresses: [], mac: '02:00:5e:00:53:01', uidBase: 65_536, createdAt: '2026-01-01T00:00:00.000Z', guestDirty: false, resolvers: '' },
  needs: { engine: 'e'.repeat(64), architecture: 'x64', processor: [], kernel: '6.1', cgroups: 'v2', memory: 1 },
  template: { fingerprint: 'b'.repeat(64), name: 'test', os: 'debian', release: '12', architecture: 'amd64', size: 1, createdAt: '2026-01-01T00:00:00.000Z', source: { packages: ['a'] } },
  templateLayers: 1, layers: [{ uidBase: 65_536 }], diskBase: 0, disk: 1, copy: false, compress: ['zstd'], snapshotLayers: [{ uidBase: 65_536 }],
  snapshots: [{ id: 'c'.repeat(32), name: 'one', createdAt: '2026-01-01T00:00:00.000Z', properties: {}, layers: [0, 1], engine: 'e'.repeat(64), processor: ['sse'], memory: 1 }],
};

/** Paths of all values of an object. */
function pathsOf(value: unknown, path: string[] = []): string[][] {
  return typeof value !== 'object' || value === null ? [path] : [...path.length > 0 ? [path] : [], ...Object.entries(value).flatMap(([key, each]) => pathsOf(each, [...path, key]))];
}

function withValue(path: readonly string[], value: unknown): Offer {
  const copy = structuredClone(OFFER);
  let at = copy as unknown as Record<string, unknown>;
  for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>;
  at[path.at(-1)!] = value;
  return copy;
}

test('each field of an offer is of its type, or the offer is refused by an error of ours', () => {
  checkForm(OFFER);
  // The type was looked at before, and the protocol is; what the rest of these say is looked at where it is used.
  const free = new Set(['type', 'protocol', 've.uidBase', 've.properties', 'template.source', 'template.source.packages', 'template.source.packages.0']);
  fc.assert(fc.property(fc.constantFrom(...pathsOf(OFFER)), fc.jsonValue(), (path, value) => {
    const offer = withValue(path, value);
    const known = path.reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], OFFER);
    try {
      checkForm(offer);
    } catch (error) {
      assert.ok(error instanceof VeldError && ['migration.stream', 'name.invalid'].includes(error.code), `${path.join('.')}: ${String(error)}`);
      return;
    }
    if (!free.has(path.join('.'))) assert.equal(Array.isArray(value) ? 'array' : typeof value, Array.isArray(known) ? 'array' : typeof known, path.join('.'));
  }), { numRuns: 5000 });
});

test('what a target answers is made plain, whatever it is', () => {
  // eslint-disable-next-line no-control-regex
  const harmless = (text: unknown): void => assert.ok(typeof text === 'string' && !/[\x00-\x1f\x7f-\x9f\u202e]/.test(text), JSON.stringify(text));
  const anything = fc.oneof(fc.jsonValue(), fc.string({ unit: 'binary' }));
  fc.assert(fc.property(anything, anything, anything, (a, b, c) => {
    harmless(plain(a));
    const { number, trouble } = readArrived({ number: a, trouble: b } as unknown as Arrived);
    assert.ok(Number.isSafeInteger(number));
    if (trouble !== null) harmless(trouble);
    harmless(refusal({ error: { code: a, message: b, hint: c } } as unknown as Refuse).message);
    harmless(refusal({ error: a } as unknown as Refuse).hint);
    try {
      const { notes } = checkAccept({ type: 'accept', template: a, notes: b } as unknown as Accept);
      notes.forEach(harmless);
    } catch (error) {
      assert.equal((error as VeldError).code, 'migration.stream');
    }
  }), { numRuns: 1000 });
});

test('names to remove come in any pieces, and only what they name goes', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-removal-'));
  t.after(() => rmSync(folder, { recursive: true }));
  await fc.assert(fc.asyncProperty(fc.uniqueArray(fc.stringMatching(/^[a-z]{1,8}$/), { minLength: 1, maxLength: 20 }), fc.integer({ min: 1, max: 7 }), async (names, step) => {
    for (const name of ['KEPT', ...names]) writeFileSync(join(folder, name), '');
    const all = Buffer.from(names.map((name) => `${name}\0`).join(''));
    const stream = removal(folder, all.length, new AbortController().signal);
    for (let at = 0; at < all.length; at += step) stream.write(all.subarray(at, at + step));
    stream.end();
    await once(stream, 'finish');
    assert.deepEqual(readdirSync(folder), ['KEPT']);
  }), { numRuns: 50 });
});
