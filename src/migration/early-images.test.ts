import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EarlyImages } from './early-images.ts';
import { FrameStream } from './frames.ts';
import { MemoryReceived } from './memory-received.ts';
import { sendState } from './state-files.ts';
import type { BetweenMessage, TreeMessage } from './types.ts';

const MIB = 1 << 20;

test('memory goes while criu writes it; when criu begins anew, so does what was sent', { timeout: 60_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-early-'));
  const [near, far] = duplexPair().map((stream) => new FrameStream(stream, { alive: 100, dead: 5000, idle: 20_000 })) as [FrameStream, FrameStream];
  const [from, to] = [join(folder, 'from'), join(folder, 'to')];
  const early = new EarlyImages(near, from);
  t.after(async () => {
    near.close();
    far.close();
    await early.end().catch(() => {});
    rmSync(folder, { recursive: true });
  });
  mkdirSync(join(from, 'images'), { recursive: true });
  const image = (name: string): string => join(from, 'images', name);
  const received = new MemoryReceived(to, 64 * MIB);
  const taking = (async (): Promise<string> => {
    for (;;) {
      const message = await far.receive<BetweenMessage | TreeMessage>('part', 'anew', 'round');
      if (message.type !== 'part' && message.type !== 'anew') return received.takeState(far);
      await received.take(far, message);
    }
  })();
  taking.catch(() => {}); // awaited below
  const gone = async (name: string, bytes: number): Promise<void> => {
    while ((early.sent.get(`images/${name}`) ?? 0) < bytes) await sleep(5);
  };

  await early.begin();
  writeFileSync(image('pages-1.img'), Buffer.alloc(3 * MIB, 'old'));
  writeFileSync(image('pages-2.img'), Buffer.alloc(2 * MIB, 'never again'));
  await gone('pages-1.img', 3 * MIB);
  await gone('pages-2.img', 2 * MIB);

  await early.begin();
  assert.deepEqual(readdirSync(join(from, 'images')), [], 'or what was there would be taken for new');
  writeFileSync(image('files.img'), 'not before its time');
  writeFileSync(image('pages-1.img'), Buffer.alloc(2 * MIB, 'new'));
  await gone('pages-1.img', 2 * MIB);
  appendFileSync(image('pages-1.img'), Buffer.alloc(3 * MIB, 'newer'));
  await gone('pages-1.img', 5 * MIB);
  appendFileSync(image('pages-1.img'), 'and a little');
  await early.end();
  const before = near.given;
  near.send({ type: 'round' });
  await sendState(near, from, undefined, { early: early.sent });
  assert.equal(near.given - before, 'not before its time'.length + 'and a little'.length);
  const state = await taking;
  assert.deepEqual(readdirSync(join(state, 'images')).sort(), ['files.img', 'pages-1.img']);
  for (const name of ['files.img', 'pages-1.img']) assert.ok(readFileSync(join(state, 'images', name)).equals(readFileSync(image(name))), name);
});
