import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openStore } from '../store/sqlite.ts';
import type { VeRecord } from '../store/types.ts';
import { allocateRange, RANGES, uidBlock } from './uid-ranges.ts';

function ve(number: number, uidBase: number, layerBase = 0): VeRecord {
  return {
    uuid: `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`, number, name: `v${number}`, template: 'f'.repeat(64), layers: [{ id: 'l', uidBase: layerBase }],
    uidBase, properties: {}, addresses: [], mac: '02:00:00:00:00:01', desired: 'stopped', ready: true, guestDirty: false, createdAt: '', lastExit: null, suspended: null, deployed: null, notStarted: null,
  };
}

test('a block keeps clear of what /etc/subuid promises, and is chosen once', () => {
  const store = openStore(':memory:');
  const taken = [{ start: 0x3c000000, count: 0x40000000 }];
  const block = uidBlock(store, taken);
  assert.ok(block.base >= 0x7c000000 && block.base + block.count * 65536 <= 0x7fff0000);
  assert.deepEqual(uidBlock(store, []), block);
  store.close();
});

test('no block left is an error in words', () => {
  const store = openStore(':memory:');
  assert.throws(() => uidBlock(store, [{ start: 0, count: 0xffffffff }]), { code: 'uid.none_free' });
  store.close();
});

test('a range is given once, is free again afterwards, and stays away from ranges that layers name', () => {
  const store = openStore(':memory:');
  const { base } = uidBlock(store);
  assert.equal(allocateRange(store), base);
  store.insertLayer({ id: 'l', uidBase: 0, createdAt: '', size: 0 });
  store.insertVe(ve(101, base, base + 65536));
  assert.equal(allocateRange(store), base + 2 * 65536);
  store.insertLayer({ id: 'frozen', uidBase: base + 2 * 65536, createdAt: '', size: 0 });
  assert.equal(allocateRange(store), base + 3 * 65536);
  store.deleteVe(ve(101, 0).uuid);
  assert.equal(allocateRange(store), base);
  for (let i = 0; i < RANGES; i++) if (i !== 2) store.insertVe(ve(200 + i, base + i * 65536));
  assert.throws(() => allocateRange(store), { code: 'uid.none_free' });
  store.close();
});
