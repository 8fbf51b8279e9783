import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBuildLog, readBuildLog } from './log.ts';

test('a log has what was said, the last words are those since Veld\'s own line, and there is an end to it', (t) => {
  const stateDir = mkdtempSync(join(tmpdir(), 'veld-log-'));
  t.after(() => rmSync(stateDir, { recursive: true }));
  const log = openBuildLog({ stateDir }, 'shop');
  log.say('first');
  log.write(Buffer.from('one\ntw'));
  log.write(Buffer.from('o\r\n\nthree'));
  assert.deepEqual(log.last(), ['one', 'two', 'three']);
  log.say('second');
  assert.deepEqual(log.last(), []);
  for (let i = 0; i < 20; i++) log.write(Buffer.from(`${i} ${'x'.repeat(1000)}\n`));
  assert.deepEqual(log.last().map((line) => [line.slice(0, 2), line.length])[0], ['8 ', 300]);
  assert.match(readBuildLog({ stateDir }, 'shop'), /^== \S+ first\none\ntwo\r\n\nthree\n== \S+ second\n0 x/);
  for (let i = 0; i < 6; i++) log.write(Buffer.alloc(1 << 20, 'y'));
  log.close();
  const { size, mode } = statSync(join(stateDir, 'builds/shop.log'));
  assert.ok(size < (4 << 20) + 100 && readBuildLog({ stateDir }, 'shop').endsWith('(The rest was left out.)\n'));
  assert.equal(mode & 0o777, 0o600);
  for (let i = 0; i < 60; i++) openBuildLog({ stateDir }, `name-${i}`).close();
  assert.equal(readdirSync(join(stateDir, 'builds')).length, 50);
  for (const name of ['none', '../builds/name-59', '', 'name-59.log']) assert.throws(() => readBuildLog({ stateDir }, name), { code: 'recipe.not_found' });
});
