import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run } from './run.ts';

test('what a program said before its end is there, however busy this process is', async () => {
  // The end of one child makes Node see that of all others, before what they have written; a loop whose every turn is long makes timers due by then.
  const busy = (): void => { for (const end = Date.now() + 25; Date.now() < end;); };
  let going = true;
  const spin = (): void => {
    busy();
    if (going) setImmediate(spin);
  };
  spin();
  const results = await Promise.all(Array.from({ length: 40 }, (_, i) => run('/bin/sh', ['-c', `sleep 0.${10 + i}; echo out ${i}; echo err ${i} >&2; exit 1`], { allow: [1], onLine: busy })));
  going = false;
  assert.deepEqual(results.map(({ stdout, stderr }) => stdout + stderr), results.map((_, i) => `out ${i}\nerr ${i}\n`));
});

test('a grandchild that holds the pipes does not hold up the answer', async () => {
  const since = Date.now();
  assert.equal((await run('/bin/sh', ['-c', 'sleep 5 & echo done'])).stdout, 'done\n');
  assert.ok(Date.now() - since < 3000);
});
