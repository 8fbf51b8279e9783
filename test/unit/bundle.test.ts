/** The bundle of the command line says what its sources say: what rolldown.config.ts does to the code must not show. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { rolldown } from 'rolldown';
import config from '../../rolldown.config.ts';

const ROOT = join(import.meta.dirname, '../..');

/** Help loads every command; the others meet the network, settings, and errors. */
const CALLS = [['help'], ['create', '--help'], ['list'], ['exec', 've', 'true'], ['template', 'import', '/etc/hostname'], ['--json', 'frobnicate'], ['version', '--client']];

test('the bundle answers as the sources do', async (t) => {
  const options = (config as { input: string; output: object; plugins: { name: string }[] }[]).find(({ input }) => input.endsWith('cli/main.ts'));
  assert.ok(options);
  const built = await rolldown({ ...options, plugins: options.plugins.filter(({ name }) => name !== 'warm-up') });
  const { output: [chunk] } = await built.generate({ ...options.output, file: undefined });
  // As deep as dist/: the code finds files of the tree by its own place.
  const file = join(ROOT, '.cache', `bundle-${process.pid}.cjs`);
  mkdirSync(join(ROOT, '.cache'), { recursive: true });
  writeFileSync(file, chunk.code);
  t.after(() => rmSync(file));
  const answer = (program: string, call: string[]): unknown[] => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, '--socket', '/nonexistent', ...call], { encoding: 'utf8' });
    return [status, stdout, stderr];
  };
  for (const call of CALLS) assert.deepEqual(answer(file, call), answer(join(ROOT, 'src/cli/main.ts'), call), call.join(' '));
});
