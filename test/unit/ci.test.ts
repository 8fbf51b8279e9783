/** .ci/run adds up what its two parts say, and believes neither blindly. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const tree = mkdtempSync(join(tmpdir(), 'veld-ci-'));
after(() => rmSync(tree, { recursive: true, force: true }));
mkdirSync(join(tree, '.ci'));
copyFileSync(join(import.meta.dirname, '../../.ci/run'), join(tree, '.ci/run'));

/** Run it with a `check` that does this. */
function ci(script: string): { status: number | null; lines: string[] } {
  writeFileSync(join(tree, 'check'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const { status, stdout } = spawnSync(join(tree, '.ci/run'), { encoding: 'utf8', cwd: '/' });
  return { status, lines: stdout.trimEnd().split('\n') };
}

test('both pass: the last line is the sum, and both summaries stand above it', () => {
  const { status, lines } = ci('if [ "${1-}" = vm ]; then echo "5 passed, 0 failed"; else echo "12 passed, 0 failed"; fi');
  assert.equal(status, 0);
  assert.deepEqual(lines, ['12 passed, 0 failed', '5 passed, 0 failed', '', './check: 12 passed, 0 failed, status 0', './check vm: 5 passed, 0 failed, status 0', '17 passed, 0 failed']);
});

for (const [what, script, last] of [
  ['the first fails', 'if [ "${1-}" = vm ]; then echo "5 passed, 0 failed"; else echo "2 passed, 3 failed"; exit 1; fi', '7 passed, 3 failed'],
  ['the second fails', 'if [ "${1-}" = vm ]; then echo "1 passed, 20 failed"; exit 1; else echo "2 passed, 0 failed"; fi', '3 passed, 20 failed'],
  ['one fails without saying so', 'echo "4 passed, 0 failed"; [ "${1-}" = vm ]', '8 passed, 1 failed'],
  ['one is killed', 'echo "1 passed, 0 failed"; [ "${1-}" != vm ] || kill -9 $$', '2 passed, 1 failed'],
  ['one says nothing', '[ "${1-}" = vm ] || echo "4 passed, 0 failed"', '4 passed, 1 failed'],
  ['one says that a test failed, and ends well', 'if [ "${1-}" = vm ]; then echo "1 passed, 1 failed"; else echo "1 passed, 0 failed"; fi', '2 passed, 1 failed'],
] as const) {
  test(`${what}: the whole fails`, () => {
    const { status, lines } = ci(script);
    assert.equal(status, 1);
    assert.equal(lines.at(-1), last);
  });
}
