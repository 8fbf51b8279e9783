import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FILLS } from '../test/lib/limits/fills.ts';
import { readRecord } from '../test/lib/limits/record.ts';
import { LIMIT_PROPERTIES, NOT_FILLED, RECORD, limitsTable } from './limits-table.ts';

test('every limit is filled by a test that was seen to, or said not to be', () => {
  const record = readRecord(RECORD);
  for (const name of LIMIT_PROPERTIES) {
    if (name in NOT_FILLED) continue;
    assert.ok(Object.keys(record[name]?.hosts ?? {}).length > 0,
      `nothing has filled ${name}: write it into test/lib/limits/, run it with VELD_TEST_RECORD=$PWD/test/lib/limits/seen.json, and then npm run docs; or say in NOT_FILLED why not`);
  }
});

test('the record has the words of the tests, and nothing that is no limit', () => {
  for (const [name, row] of Object.entries(readRecord(RECORD))) {
    assert.ok(LIMIT_PROPERTIES.includes(name), `${name} is no limit (any more)`);
    const fill = FILLS.find(({ property }) => property === name);
    if (fill !== undefined) assert.deepEqual([row.over, row.counted], [fill.over, fill.counted], `${name}: record it anew`);
  }
});

test('the table has a row for each limit', () => {
  const rows = limitsTable().trim().split('\n').slice(2);
  assert.deepEqual(rows.map((row) => /^\| `([^`]+)` \|/.exec(row)?.[1]), [...LIMIT_PROPERTIES]);
});
