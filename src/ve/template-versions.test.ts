import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Task } from '../ops/types.ts';
import { openStore } from '../store/sqlite.ts';
import type { Store, TemplateRecord } from '../store/types.ts';
import { fingerprintOf } from '../templates/tree.ts';
import type { VeContext } from './context.ts';
import { findVersion, rollBackTemplate, succession, templateHistory } from './template-versions.ts';

const task = { phase() {}, commit() {} } as unknown as Task;

function bench(): { context: VeContext; store: Store; make(digit: string, name: string, source?: Record<string, unknown>): TemplateRecord; replace(old: string, digit: string): void; list(key: string): string[] } {
  const store = openStore(':memory:');
  const context = { store, events: { emit() {} } } as unknown as VeContext;
  const make = (digit: string, name: string, source: Record<string, unknown> = {}): TemplateRecord => {
    const id = digit.repeat(32);
    store.insertLayer({ id, uidBase: 0, createdAt: '2026-01-01T00:00:00.000Z', size: Number.parseInt(digit, 16) });
    const template = { fingerprint: digit.repeat(64), name, os: 'debian', release: '12', architecture: 'amd64', layers: [{ id, uidBase: 0 }], size: 1, createdAt: '2026-01-01T00:00:00.000Z', source };
    store.insertTemplate(template);
    return template;
  };
  return {
    context, store, make,
    replace(old, digit) {
      const { replaced, kept } = succession(store, store.findTemplate(old)!);
      store.updateTemplate(replaced.fingerprint, replaced);
      kept(make(digit, old, { kind: 'commit', ve: `ve-${digit}` }));
    },
    list: (key) => templateHistory(context, key, () => 0).map(({ number, name, current, size, ve }) => `${number} ${name}${current ? '*' : ''} ${size} ${ve}`),
  };
}

test('a new version takes the name; an earlier one gets it back, and forward again', () => {
  const { context, store, make, replace, list } = bench();
  make('1', 'shop', { kind: 'image', source: 'x', product: 'y', serial: '1' });
  assert.deepEqual(list('shop'), ['1 shop* 1 null']);
  replace('shop', '2');
  assert.equal(store.findTemplate('shop-v1')!.source.replaced, 'kept', 'so that an update of images passes over it');
  replace('shop', '3');
  assert.deepEqual(list('shop-v2'), ['3 shop* 3 ve-3', '2 shop-v2 2 ve-2', '1 shop-v1 1 null']);
  assert.deepEqual(rollBackTemplate(context, 'shop', 'v1', task), { name: 'shop', version: 1, before: 'shop-v3', fingerprint: '1'.repeat(64) });
  assert.equal(store.findTemplate('shop')!.source.replaced, undefined);
  assert.throws(() => findVersion(context, 'shop'), /no version before/);
  assert.throws(() => findVersion(context, 'shop', '1'), /is version 1 already/);
  assert.throws(() => findVersion(context, 'shop', '9'), /no version "9"/);
  rollBackTemplate(context, 'shop', 'shop-v3', task);
  assert.deepEqual(list('shop'), ['3 shop* 3 ve-3', '2 shop-v2 2 ve-2', '1 shop-v1 1 null']);
  rollBackTemplate(context, 'shop', undefined, task);
  assert.deepEqual(list('shop'), ['3 shop-v3 3 ve-3', '2 shop* 2 ve-2', '1 shop-v1 1 null']);
  // The next one comes after all, and goes back to the one that it has replaced.
  replace('shop', '4');
  assert.deepEqual(list('shop')[0], '4 shop* 4 ve-4');
});

test('numbers of versions that are gone are not given again; a name of somebody else\'s is left alone', () => {
  const { context, store, make, replace, list } = bench();
  make('1', 'shop');
  make('a', 'shop-v1');
  replace('shop', '2');
  assert.deepEqual(list('shop'), ['2 shop* 2 ve-2', '1 shop-v1-2 1 null']);
  assert.deepEqual(list('shop-v1'), ['1 shop-v1* 10 null'], 'which is no version of shop');
  store.deleteTemplate('2'.repeat(64));
  assert.deepEqual(list('shop'), ['1 shop-v1-2 1 null'], 'by the name that nobody has now');
  assert.deepEqual(rollBackTemplate(context, 'shop', undefined, task), { name: 'shop', version: 1, before: null, fingerprint: '1'.repeat(64) });
  replace('shop', '3');
  assert.deepEqual(list('shop'), ['3 shop* 3 ve-3', '1 shop-v1-2 1 null']);
  // One that was built anew under the name is the next.
  store.deleteTemplate('3'.repeat(64));
  make('4', 'shop');
  assert.deepEqual(list('shop'), ['4 shop* 4 null', '1 shop-v1-2 1 null']);
  assert.throws(() => templateHistory(context, 'none', () => 0), /no template "none"/);
});

test('the fingerprint of layers is that of the tree which they make', { skip: process.getuid?.() !== 0 && 'needs root' }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veld-versions-'));
  t.after(() => rmSync(dir, { recursive: true }));
  for (const folder of ['low/etc', 'high/etc', 'flat/etc']) mkdirSync(join(dir, folder), { recursive: true });
  for (const [path, content] of [['low/etc/a', 'old'], ['high/etc/a', 'new'], ['low/etc/b', 'b'], ['flat/etc/a', 'new'], ['flat/etc/b', 'b']] as const) writeFileSync(join(dir, path), content);
  assert.equal(await fingerprintOf([join(dir, 'low'), join(dir, 'high')]), await fingerprintOf(join(dir, 'flat')));
  assert.notEqual(await fingerprintOf([join(dir, 'low')]), await fingerprintOf(join(dir, 'flat')));
});
