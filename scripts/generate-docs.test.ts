import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { defaultSettings } from '../src/lib/settings.ts';
import { REFERENCE, generateDocs } from './generate-docs.ts';

test('the generated reference pages say what the tables say', async () => {
  for (const [name, content] of Object.entries(await generateDocs())) {
    assert.equal(readFileSync(join(REFERENCE, name), 'utf8'), content, `docs/reference/${name} is out of date: run node scripts/generate-docs.ts`);
  }
});

test('settings.md names every setting, and none that does not exist', () => {
  const keys = (object: object, prefix = ''): string[] => Object.entries(object).flatMap(([key, value]) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) ? keys(value as object, `${prefix}${key}.`) : [prefix + key]);
  const page = readFileSync(join(REFERENCE, 'settings.md'), 'utf8');
  const documented = [...page.matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1]!);
  assert.deepEqual(new Set(documented), new Set(keys(defaultSettings()).filter((key) => key !== 'libexecDir')));
});
