import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { adoptParent, generations, linkImages, PARENT, withUptime } from './parent.ts';

/** inventory_entry { img_version: 1, dump_uptime: 5 (where it is there), pre_dump_mode: 0 } */
const INVENTORY = Buffer.from('16313158 06000000 0801 4005 4800'.replaceAll(' ', ''), 'hex');

test('the time of a dump is set, and nothing else', () => {
  assert.equal(withUptime(INVENTORY, 300).toString('hex'), '16313158 07000000 0801 4800 40ac02'.replaceAll(' ', ''));
  assert.equal(withUptime(withUptime(INVENTORY, 300), 1).toString('hex'), '16313158 06000000 0801 4800 4001'.replaceAll(' ', ''));
});

test('a state stands on an earlier one by links to its private memory, up to eight generations', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'veld-parent-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const make = (name: string): string => {
    const images = join(dir, name);
    mkdirSync(images);
    for (const file of ['pages-1.img', 'pagemap-1.img', 'pagemap-shmem-1.img', 'core-1.img']) writeFileSync(join(images, file), name);
    writeFileSync(join(images, 'inventory.img'), INVENTORY);
    return images;
  };
  let last = make('s0');
  for (let i = 1; i < 8; i++) {
    const next = make(`s${i}`);
    assert.equal(adoptParent(last, next, 12_345), true);
    assert.equal(generations(next), i + 1);
    last = next;
  }
  const parent = join(last, PARENT);
  assert.deepEqual(readdirSync(parent).toSorted(), ['inventory.img', 'pagemap-1.img', 'pages-1.img', PARENT].toSorted());
  assert.equal(statSync(join(parent, 'pages-1.img')).ino, statSync(join(dir, 's6/pages-1.img')).ino);
  assert.deepEqual(readFileSync(join(parent, 'inventory.img')), withUptime(INVENTORY, 123_450_000));
  const ninth = make('s8');
  assert.equal(adoptParent(last, ninth, 1), false);
  assert.equal(existsSync(join(ninth, PARENT)), false);

  const copy = join(dir, 'copy');
  mkdirSync(copy);
  linkImages(last, copy, (name) => name !== 'core-1.img');
  assert.equal(generations(copy), 8);
  assert.equal(existsSync(join(copy, 'core-1.img')), false);
  assert.equal(statSync(join(copy, PARENT, PARENT, 'pages-1.img')).ino, statSync(join(dir, 's5/pages-1.img')).ino);
});
