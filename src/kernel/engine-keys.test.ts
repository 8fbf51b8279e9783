import { test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { debianKeyring, PINNED_KEYS, primaryFingerprints } from './engine-keys.ts';

test('the shipped keyring holds exactly the pinned keys', () => {
  const found = primaryFingerprints(readFileSync(debianKeyring()));
  assert.deepEqual(found.toSorted(), Object.keys(PINNED_KEYS).toSorted());
});

test('a keyring with a changed, a strange, or a missing key is refused', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-keys-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'keys.gpg');
  const bytes = readFileSync(debianKeyring());
  const changed = Buffer.from(bytes);
  changed[100] = (changed[100] ?? 0) ^ 1; // inside the modulus of the first key
  writeFileSync(file, changed);
  assert.throws(() => debianKeyring(file), /not Debian's/);
  writeFileSync(file, bytes.subarray(0, 0));
  assert.throws(() => debianKeyring(file), /lacks the key/);
  writeFileSync(file, bytes.subarray(0, -10));
  assert.throws(() => debianKeyring(file), /cut short/);
  writeFileSync(file, Buffer.concat([bytes, Buffer.from('deb http://x y')]));
  assert.throws(() => debianKeyring(file), /no packet/);
});
