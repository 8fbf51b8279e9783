import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadSettings } from './settings.ts';

test('what may be null is null or of its kind, and in its range', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-settings-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'settings.json');
  const load = (text: string) => {
    writeFileSync(file, text);
    return loadSettings(file);
  };
  assert.equal(load('{}').migration.bandwidth, null);
  assert.equal(load('{"migration": {"bandwidth": null}}').migration.bandwidth, null);
  assert.equal(load('{"migration": {"bandwidth": 50000000}}').migration.bandwidth, 50_000_000);
  for (const bad of ['"50M"', '0', '-1', '65535', '1e20', '100000.5', 'true', '{}', '[]']) assert.throws(() => load(`{"migration": {"bandwidth": ${bad}}}`), { code: 'settings.invalid', message: /migration\.bandwidth must be/ }, bad);
  assert.throws(() => load('{"log": {"maxBytes": null}}'), { code: 'settings.invalid' });
});
