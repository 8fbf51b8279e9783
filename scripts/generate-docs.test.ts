import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { defaultSettings } from '../src/lib/settings.ts';
import { Compile } from 'typebox/compile';
import { apiDocument, apiPage } from './api-page.ts';
import { BEANCOUNTERS_PAGE, LIMITS, MIGRATION, REFERENCE, beancountersPage, generateDocs, limitsPage, migrationPage } from './generate-docs.ts';

test('the generated reference pages say what the tables say', async () => {
  for (const [name, content] of Object.entries(await generateDocs())) {
    assert.equal(readFileSync(join(REFERENCE, name), 'utf8'), content, `docs/reference/${name} is out of date: run node scripts/generate-docs.ts`);
  }
});

test('the page on migration has the table of what belongs to a VE as it is now', () => {
  assert.equal(readFileSync(MIGRATION, 'utf8'), migrationPage(), 'docs/explanation/migration.md is out of date: run node scripts/generate-docs.ts');
});

test('the page on beancounters has their table as it is now', () => {
  assert.equal(readFileSync(BEANCOUNTERS_PAGE, 'utf8'), beancountersPage(), 'docs/explanation/beancounters.md is out of date: run node scripts/generate-docs.ts');
});

test('the page on limits has what was seen of them', () => {
  assert.equal(readFileSync(LIMITS, 'utf8'), limitsPage(), 'docs/explanation/limits.md is out of date: run node scripts/generate-docs.ts');
});

test('settings.md names every setting, and none that does not exist', () => {
  const keys = (object: object, prefix = ''): string[] => Object.entries(object).flatMap(([key, value]) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) ? keys(value as object, `${prefix}${key}.`) : [prefix + key]);
  const page = readFileSync(join(REFERENCE, 'settings.md'), 'utf8');
  const documented = [...page.matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1]!);
  assert.deepEqual(new Set(documented), new Set(keys(defaultSettings()).filter((key) => key !== 'libexecDir')));
});

test('the page of the API has every route with an example, every type, and no link to nowhere', async () => {
  const document = await apiDocument();
  const page = apiPage(document);
  for (const [path, verbs] of Object.entries(document.paths)) {
    for (const [verb, { responses }] of Object.entries(verbs)) {
      const section = page.split(`### ${verb.toUpperCase()} ${path}\n`)[1]?.split('\n### ')[0];
      assert.match(section ?? '', responses['101'] ? /A WebSocket at/ : /^ {4}curl --unix-socket/m, `${verb} ${path}`);
    }
  }
  for (const name of Object.keys(document.components.schemas)) assert.ok(page.includes(`### Type ${name}\n`), name);
  const anchors = new Set([...page.matchAll(/^##+ (.*)$/gm)].map(([, heading]) => heading!.toLowerCase().replaceAll(/[^\w -]/g, '').replaceAll(' ', '-')));
  for (const [, target] of page.matchAll(/\]\(#([^)]*)\)/g)) assert.ok(anchors.has(target!), target);
});

test('bodies that examples send are taken, and every body that holds something has one', async () => {
  const { paths, components } = await apiDocument();
  let checked = 0;
  for (const [path, verbs] of Object.entries(paths)) {
    for (const [verb, { requestBody }] of Object.entries(verbs)) {
      const { schema, example } = requestBody?.content['application/json'] ?? {};
      if (schema?.$ref === undefined) continue;
      assert.ok(example !== undefined, `${verb} ${path} has no example`);
      assert.ok(Compile(components.schemas[schema.$ref.split('/').at(-1)!] as never).Check(example), `${verb} ${path}: ${JSON.stringify(example)}`);
      checked += 1;
    }
  }
  assert.ok(checked >= 9, `${checked} bodies`);
});
