import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Logger } from '../lib/log.ts';
import { mendNetwork } from './mend-network.ts';

test('says once what fails and each time what was missing; one that fails does not keep the next from its work', async () => {
  const said: string[] = [];
  const log = { warn: ({ lost }: { lost: string[] }) => said.push(`warn ${lost.join()}`), error: ({ err }: { err: Error }) => said.push(`error ${err.message}`) } as unknown as Logger;
  let looks = 0;
  const done = Promise.withResolvers<void>();
  const end = mendNetwork([
    () => {
      looks += 1;
      return looks <= 2 || looks === 4 ? Promise.reject(new Error('broken')) : Promise.resolve([]);
    },
    () => {
      if (looks === 5) done.resolve();
      return Promise.resolve(looks === 2 ? ['a table'] : []);
    },
  ], log, 1);
  const keep = setInterval(() => {}, 1000); // its own timer holds nobody
  await done.promise;
  clearInterval(keep);
  await end();
  const ended = looks;
  await new Promise((resolve) => { setTimeout(resolve, 20); });
  assert.equal(looks, ended);
  assert.deepEqual(said, ['error broken', 'warn a table', 'error broken']);
});
