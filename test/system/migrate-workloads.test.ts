/**
 * The workload matrix, moved between two nodes again and again while the clients stay connected: all rows that can be moved, in `./check full`.
 * VELD_TEST_ROWS and VELD_TEST_ROUNDS as in workloads.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WORKLOADS } from './workloads/index.ts';
import { doRow, type RowResult } from './workloads/row.ts';
import { table } from './workloads/table.ts';

const FULL = process.env.VELD_TEST_FULL !== undefined;
const WANTED = process.env.VELD_TEST_ROWS?.split(',');
const ROUNDS = Number(process.env.VELD_TEST_ROUNDS ?? 10);
const TIMES = ['stood ms', 'all ms'] as const;

const rows = WORKLOADS.filter(({ name, refused }) => !refused && (WANTED ? WANTED.some((word) => name.includes(word)) : FULL));
const results: RowResult[] = [];

for (const workload of rows) {
  test(workload.name, async (t) => {
    const result = await doRow(workload, ROUNDS, 'two nodes');
    results.push(result);
    t.diagnostic(table([result], TIMES).at(-1)!); // the whole comes late
    assert.doesNotMatch(result.outcome, /^FAILS/);
  });
}

test('the table', { skip: rows.length === 0 && 'in ./check full' }, (t) => {
  for (const line of table(results, TIMES)) t.diagnostic(line);
});
