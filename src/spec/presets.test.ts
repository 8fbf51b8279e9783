import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parsePreset, PRESET_NAME } from './presets.ts';
import { formatProperty, PROPERTIES, resolveProperties } from './properties.ts';

test('lines, comments, spaces; the first comment is what it is for', () => {
  assert.deepEqual(parsePreset('# A small server\n# more\n\ncpu.limit = 50%\n  memory.limit=512M\r\nmemory.swap=unlimited\n', 'small'), {
    description: 'A small server', properties: { 'cpu.limit': 50, 'memory.limit': 512 << 20, 'memory.swap': null },
  });
  assert.deepEqual(parsePreset('cpu.weight=200\n# no description', 'x').description, '');
});

test('what is wrong is said with its line or its property', () => {
  for (const [text, message] of [['cpu.limit', /small, line 1: it is not of the form/], ['cpu.limit=1%\n\ncpu.limit=2%', /line 3: cpu\.limit is given twice/], ['cpu.limit=much', /small: .*cpu\.limit/],
    ['colour=red', /small: .*colour/], ['__proto__=1', /small: /], ['=1', /line 1/]] as const) {
    assert.throws(() => parsePreset(text, 'small'), { code: 'preset.invalid', message });
  }
});

test('what `show --properties` prints is a preset', () => {
  const all = resolveProperties({ 'memory.limit': 1 << 30, 'network.publish': [] }) as unknown as Record<string, unknown>;
  const text = PROPERTIES.filter(({ type }) => ['bytes', 'percent', 'integer'].includes(type.kind)).map(({ name }) => `${name}=${formatProperty(name, all[name])}\n`).join('');
  const { properties } = parsePreset(text, 'web');
  for (const [name, value] of Object.entries(properties)) assert.deepEqual(value, all[name], name);
});

test('the presets that ship can be read, and say what they are for', () => {
  const folder = join(import.meta.dirname, '../../share/presets');
  const files = readdirSync(folder);
  assert.deepEqual(files.toSorted(), ['basic.conf', 'large.conf', 'medium.conf', 'small.conf']);
  for (const file of files) {
    assert.match(file.replace('.conf', ''), PRESET_NAME);
    assert.ok(parsePreset(readFileSync(join(folder, file), 'utf8'), file).description.length > 10, file);
  }
});
