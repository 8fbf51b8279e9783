import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { findPreset, listPresets } from './presets.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-presets-'));
after(() => rmSync(folder, { recursive: true }));
const settings = { presetsDir: join(folder, 'own'), libexecDir: join(folder, 'libexec') };

test('shipped ones, those of the administrator above them, and files that are none', () => {
  mkdirSync(join(folder, 'share/presets'), { recursive: true });
  mkdirSync(join(folder, 'libexec'));
  writeFileSync(join(folder, 'share/presets/small.conf'), '# shipped\ncpu.limit=50%\n');
  writeFileSync(join(folder, 'share/presets/large.conf'), '# shipped\ncpu.limit=400%\n');
  assert.deepEqual(listPresets(settings).map(({ name, shipped }) => [name, shipped]), [['large', true], ['small', true]], 'a folder that is not there is empty');
  mkdirSync(settings.presetsDir);
  writeFileSync(join(settings.presetsDir, 'small.conf'), '# mine\ncpu.limit=25%\n');
  writeFileSync(join(settings.presetsDir, 'broken.conf'), 'cpu.limit=much\n');
  for (const name of ['small.conf.bak', 'Big.conf', '.conf', 'notes.txt']) writeFileSync(join(settings.presetsDir, name), 'x=y');
  assert.deepEqual(listPresets(settings).map(({ name, shipped, error }) => [name, shipped, error === null]), [['broken', false, false], ['large', true, true], ['small', false, true]]);
  writeFileSync(join(settings.presetsDir, 've-vswap-256m.conf-sample'), 'PHYSPAGES="0:256M"\nNUMFILE="100"\n');
  const { properties, ignored, shipped } = findPreset(settings, 'vswap-256m');
  assert.deepEqual([properties, ignored, shipped], [{ 'memory.limit': 256 << 20 }, ['NUMFILE'], false], 'of OpenVZ');
  assert.deepEqual(findPreset(settings, 'small').properties, { 'cpu.limit': 25 });
  assert.throws(() => findPreset(settings, 'broken'), { code: 'preset.invalid', message: /broken\.conf: .*cpu\.limit/ });
  for (const name of ['tiny', '../small', 'Big', '__proto__']) assert.throws(() => findPreset(settings, name), { code: 'preset.not_found' });
});
