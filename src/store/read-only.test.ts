import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MIGRATIONS } from './migrations.ts';
import { readRecords } from './read-only.ts';
import { openStore } from './sqlite.ts';
import type { OperationRecord } from './types.ts';

const operation = (id: string): OperationRecord => ({
  id, kind: 'start', ve: null, state: 'running', percent: 0, message: '', result: null, error: null, createdAt: '2026-01-01T00:00:00.000Z', endedAt: null, requestId: null,
});

test('records are read beside the daemon that has the store open, the newest operations first, and nothing is written', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-records-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'veld.db');
  const store = openStore(file);
  t.after(() => store.close());
  for (const id of ['a', 'b', 'c']) store.saveOperation(operation(id));
  const before = statSync(file).mtimeMs;
  const records = readRecords(file, 2);
  assert.deepEqual(records.operations.map(({ id }) => id), ['c', 'b']);
  assert.deepEqual([records.ves, records.templates, records.layers, records.journal], [[], [], [], []]);
  assert.equal(statSync(file).mtimeMs, before);
});

test('no store, and one of a newer Veld', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-records-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'veld.db');
  assert.throws(() => readRecords(file, 1), /cannot be opened/);
  openStore(file, [...MIGRATIONS, 'CREATE TABLE later (x)']).close();
  assert.throws(() => readRecords(file, 1), { code: 'store.too_new' });
});
