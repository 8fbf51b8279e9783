/** The record of what limits were seen to do. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { columnOf, note, readRecord } from '../lib/limits/record.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-record-'));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'seen.json');
const fill = { property: 'pids.limit', over: 'fork: EAGAIN', counted: 'failcnt' };
const [one, other] = [{ groups: 'v2', kernel: '6.12.48+deb13-amd64' }, { groups: 'hybrid', kernel: '6.18.1' }] as const;

test('what was seen is noted for each host by itself where a record is wanted, and nowhere else', () => {
  delete process.env.VELD_TEST_RECORD;
  note(one, fill, { state: 'held' });
  assert.deepEqual(readRecord(file), {});
  process.env.VELD_TEST_RECORD = file;
  note(one, fill, { state: 'refused', why: 'no pids controller' });
  note(other, { ...fill, property: 'cpu.limit' }, { state: 'written', why: 'one CPU' });
  note(other, fill, { state: 'held', neighbour: { count: 3, slowest: 9 } });
  note(one, fill, { state: 'held' });
  const record = readRecord(file);
  assert.deepEqual(Object.keys(record), ['cpu.limit', 'pids.limit']);
  const { hosts } = record['pids.limit']!;
  assert.deepEqual(Object.keys(hosts).sort(), ['hybrid 6.18', 'v2 6.12']);
  assert.match(hosts['v2 6.12']!.date, /^\d{4}-\d\d-\d\d$/);
  assert.deepEqual([hosts['v2 6.12']!.state, hosts['v2 6.12']!.why, hosts['hybrid 6.18']!.neighbour], ['held', undefined, { count: 3, slowest: 9 }]);
  assert.equal(columnOf(one), 'v2 6.12');
});
