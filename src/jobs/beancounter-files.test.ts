import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import { writeBeancounterFiles } from './beancounter-files.ts';

test('each VE that asks is written for; one that fails is told of once, one that has ended never, and none holds up the others', async () => {
  const written: string[] = [];
  const errors: string[] = [];
  const end = writeBeancounterFiles({
    ves: () => ['broken', 'ended', 'web'].map((uuid) => ({ uuid, name: uuid })),
    async write(uuid) {
      if (uuid === 'broken') throw new Error('no space');
      if (uuid === 'ended') throw new VeldError('ve.not_running', 'It has ended.');
      written.push(uuid);
    },
    log: { error: (details: unknown) => { errors.push((details as { ve: string }).ve); } },
  }, 5);
  while (written.length < 3) await sleep(5);
  await end();
  const count = written.length;
  await sleep(30);
  assert.equal(written.length, count, 'ended');
  assert.deepEqual(errors, ['broken']);
});

test('a round that takes long is not begun twice', async () => {
  let [going, most] = [0, 0];
  const rounds: number[] = [];
  const end = writeBeancounterFiles({
    ves: () => [{ uuid: 'web', name: 'web' }],
    async write() {
      most = Math.max(most, going += 1);
      await sleep(20);
      going -= 1;
      rounds.push(going);
    },
    log: { error: assert.fail },
  }, 2);
  while (rounds.length < 3) await sleep(5);
  await end();
  assert.equal(most, 1);
});
