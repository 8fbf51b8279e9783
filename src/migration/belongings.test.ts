import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PROPERTIES } from '../spec/properties.ts';
import { sampleLayer, sampleTemplate, sampleVe } from '../store/conformance.ts';
import { connect } from '../store/connection.ts';
import { MIGRATIONS } from '../store/migrations.ts';
import { openStore } from '../store/sqlite.ts';
import { belongings, PLACES, PROPERTY_WAYS, RECORDS, TABLES } from './belongings.ts';

/** Names that are on one side only. */
function differ(actual: Iterable<string>, listed: Iterable<string>): { missing: string[]; gone: string[] } {
  const [here, there] = [new Set(actual), new Set(listed)];
  return { missing: [...here].filter((name) => !there.has(name)), gone: [...there].filter((name) => !here.has(name)) };
}
const SAME = { missing: [], gone: [] };
const snake = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

test('each table and column of a fresh store is in the list, and nothing that is in no store', () => {
  const db = connect(':memory:', MIGRATIONS);
  const tables = db.all(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`).map(({ name }) => String(name));
  assert.deepEqual(differ(tables, [...Object.keys(RECORDS), ...Object.keys(TABLES)]), SAME);
  for (const table of tables) {
    const columns = db.all(`PRAGMA table_info(${table})`).map(({ name }) => String(name));
    // Layers of a record are in a table of their own.
    const listed = table in RECORDS ? Object.keys(RECORDS[table as 'ves']).filter((field) => field !== 'layers').map(snake) : TABLES[table]![2].split(' ');
    assert.deepEqual(differ(columns, listed), SAME, table);
  }
  db.close();
});

test('each field of a record is in the list, and none that there is not', () => {
  const store = openStore(':memory:');
  const [ve, layer] = [sampleVe(1), sampleLayer('layer')];
  store.insertVe(ve);
  store.insertTemplate(sampleTemplate('test', 'f'));
  store.insertLayer(layer);
  store.insertSnapshot({ id: 'snapshot', ve: ve.uuid, name: 'one', description: '', parent: null, createdAt: ve.createdAt, layers: [], properties: {}, engine: null });
  const read = { ves: store.listVes()[0], templates: store.listTemplates()[0], layers: store.listLayers()[0], snapshots: store.listSnapshots()[0] };
  for (const [table, record] of Object.entries(read)) assert.deepEqual(differ(Object.keys(record!), Object.keys(RECORDS[table as 'ves'])), SAME, table);
  store.close();
});

test('each property is in the list, and none that there is not', () => {
  assert.deepEqual(differ(PROPERTIES.map(({ name }) => name), Object.keys(PROPERTY_WAYS)), SAME);
});

test('each place in the state folder that the sources name is in the list, and none that they do not', () => {
  const root = join(import.meta.dirname, '..');
  const sources = readdirSync(root, { recursive: true }).map(String).filter((file) => file.endsWith('.ts') && !/test\.ts$|testing/.test(file));
  const places = sources.flatMap((file) => {
    // What is there for a moment only begins with a dot; in volumes.ts the state folder has another name.
    const pattern = file.endsWith('storage/volumes.ts') ? /\bjoin\(root, '([^.'/][^'/]*)/g : /\bstateDir, '([^.'/][^'/]*)/g;
    return [...readFileSync(join(root, file), 'utf8').matchAll(pattern)].map(([, place]) => place!);
  });
  assert.deepEqual(differ(places, Object.keys(PLACES)), SAME);
});

test('whoever says that something stays says why', () => {
  for (const [kind, names, how, why] of belongings()) assert.ok(how !== 'stays' || why.length > 5, `${kind}: ${names}`);
});
