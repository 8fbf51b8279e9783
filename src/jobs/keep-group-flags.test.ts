import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Logger } from '../lib/log.ts';
import { keepGroupFlags } from './keep-group-flags.ts';

test('looks asked for during one are one more, and what fails is said once', async () => {
  const said: string[] = [];
  const log = { debug: ({ missing }: { missing: string[] }) => said.push(missing.join()), error: ({ err }: { err: Error }) => said.push(err.message) } as unknown as Logger;
  const answers: (string[] | Error)[] = [['nsdelegate'], [], new Error('busy'), new Error('busy'), [], new Error('busy')];
  let looks = 0;
  const keeper = keepGroupFlags(async () => {
    const answer = answers[looks++];
    await Promise.resolve();
    if (answer instanceof Error) throw answer;
    return answer ?? [];
  }, log, 1_000_000);
  await Promise.all([keeper.look(), keeper.look(), keeper.look()]);
  assert.equal(looks, 2);
  for (let i = 0; i < 4; i++) await keeper.look();
  assert.deepEqual(said, ['nsdelegate', 'busy', 'busy']);
  await keeper.close();
});
