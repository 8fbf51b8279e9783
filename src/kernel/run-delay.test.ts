import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import { runDelay } from './run-delay.ts';

test('it grows while others have the processors', async (t) => {
  const before = runDelay();
  const others = Array.from({ length: 2 * availableParallelism() }, () => spawn('timeout', ['20', 'sh', '-c', 'while :; do :; done'], { stdio: 'ignore' }));
  t.after(() => { for (const other of others) other.kill('SIGTERM'); });
  for (const end = performance.now() + 15_000; runDelay() - before < 20 && performance.now() < end;) await new Promise((resolve) => { setImmediate(resolve); });
  assert.ok(runDelay() - before >= 20, `${runDelay() - before} ms`);
});
