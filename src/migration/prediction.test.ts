import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VeRecord } from '../store/types.ts';
import type { FrameStream } from './frames.ts';
import { checkMaxFreeze, expected, learn, Speed } from './prediction.ts';

test('what is expected follows the speed that was seen, and what earlier ones stood for besides', async () => {
  const link = { given: 0 };
  const speed = new Speed();
  const unknown = expected(speed, 110 << 20) - expected(speed, 0);
  assert.ok(unknown > 900 && unknown < 1100, 'a wire of 1 Gbit/s, before anything is known');
  await speed.measure(link as FrameStream, async () => {
    link.given += 1000;
    await sleep(50);
  });
  assert.equal(expected(speed, 110 << 20) - expected(speed, 0), unknown, 'a few bytes tell nothing');
  await speed.measure(link as FrameStream, async () => {
    link.given += 8 << 20;
    await sleep(100);
  });
  assert.ok(speed.rate > (8 << 20) / 400 && speed.rate <= (8 << 20) / 99, `${speed.rate}`);
  for (let i = 0; i < 30; i++) learn(speed, 10 * speed.rate, 310);
  assert.ok(Math.abs(expected(speed, 0) - 300) < 1, `${expected(speed, 0)}`);
});

test('a VE that would stand for too long is not moved, and why is told', () => {
  const ve = { name: 'web' } as VeRecord;
  checkMaxFreeze(ve, 5000, null, null);
  checkMaxFreeze(ve, 500, 500, null);
  assert.throws(() => checkMaxFreeze(ve, 501, 500, 7 << 20), { code: 'migration.refused', message: 'web would stand for about 501 ms, and 500 are allowed: 7 MiB of its memory change in a second. It runs on here.' });
  assert.throws(() => checkMaxFreeze(ve, 501, 500, null), { message: /are allowed\. It runs on here/ });
});
