/** The runner repeats a file only for what its caller named, and counts the last run alone. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, test } from 'node:test';

const ROOT = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'veld-runner-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Run a file whose first run prints this and fails, in a process of its own: node:test does not run files within a test. */
function runOf(name: string, printed: string, more = {}): string {
  const file = join(folder, `${name}.test.mjs`);
  writeFileSync(file, `
import { existsSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
test('one', () => {});
test('two', () => {
  if (existsSync(${JSON.stringify(`${file}.ran`)})) return;
  writeFileSync(${JSON.stringify(`${file}.ran`)}, '');
  console.log(${JSON.stringify(printed)});
  throw new Error('first run');
});`);
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const program = join(folder, `run-${name}.mjs`);
  writeFileSync(program, `const { runFiles } = await import(${JSON.stringify(join(ROOT, 'test/lib/runner.ts'))});
    const totals = await runFiles([${JSON.stringify(relative(ROOT, file))}], { concurrency: 1, timeout: 60_000, logs: ${JSON.stringify(join(folder, 'logs'))}, signal: new AbortController().signal, say: (line) => console.log(line), again: 'the machine broke', ...${JSON.stringify(more)} });
    console.log(JSON.stringify(totals));`);
  const { stdout, stderr } = spawnSync(process.execPath, [program], { encoding: 'utf8', env });
  return stdout + stderr;
}

test('a failed file that printed the word runs once more', () => {
  const said = runOf('broke', '# one: the machine broke: SIGABRT');
  assert.match(said, /broke\.test\.mjs runs once more: the machine broke/);
  assert.match(said, /\{"passed":2,"failed":0,"skipped":0\}/);
});

test('one that failed otherwise does not', () => {
  const said = runOf('failed', 'something else');
  assert.doesNotMatch(said, /once more/);
  assert.match(said, /\{"passed":1,"failed":1,"skipped":0\}/);
});

test('one whose turn comes too late is not begun, and counts as skipped', () => {
  const said = runOf('late', 'something', { until: Date.now() - 1 });
  assert.match(said, /skipped: .*late\.test\.mjs \(no time is left for it\)/);
  assert.match(said, /\{"passed":0,"failed":0,"skipped":1\}/);
  assert.match(runOf('in-time', 'something', { until: Date.now() + 600_000 }), /"passed":1,"failed":1/);
});
