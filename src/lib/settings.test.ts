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

test('where templates are served is an address or nothing, and a certificate comes with its key', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-settings-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'settings.json');
  const load = (images: Record<string, unknown>) => {
    writeFileSync(file, JSON.stringify({ images }));
    return loadSettings(file).images;
  };
  assert.deepEqual(load({}), { listen: '', scheme: 'https', address: '', certificate: '', key: '', gnupgHome: '', keep: 3 });
  assert.equal(load({ listen: '[::]:8443', address: 'images.example.org:443', certificate: '/c', key: '/k' }).listen, '[::]:8443');
  for (const [bad, why] of [
    [{ listen: '8443' }, /images\.listen must be/], [{ listen: 'localhost:8443' }, /images\.listen must be/], [{ listen: '0.0.0.0:0' }, /images\.listen must have a port/], [{ listen: '0.0.0.0:70000' }, /images\.listen must have a port/],
    [{ address: 'https://a' }, /images\.address must be/], [{ scheme: 'ftp' }, /images\.scheme must be one of/], [{ certificate: '/c' }, /must both be given/], [{ certificate: 'c', key: '/k' }, /images\.certificate must be an absolute/],
    [{ scheme: 'http', certificate: '/c', key: '/k' }, /images\.scheme is http/], [{ keep: 0 }, /images\.keep/], [{ keep: 1.5 }, /images\.keep/], [{ gnupgHome: 'x' }, /images\.gnupgHome/], [{ port: 1 }, /not a known setting/],
  ] as const) assert.throws(() => load(bad), { code: 'settings.invalid', message: why }, JSON.stringify(bad));
});
