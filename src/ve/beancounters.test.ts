/** File locks in the kernel's table. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countLocks } from './beancounters.ts';

test('locks that processes hold count, of every kind; not those that are waited for, and nobody else\'s', () => {
  const table = [
    '1: POSIX  ADVISORY  WRITE 101 fe:00:1314 0 EOF',
    '1: -> POSIX  ADVISORY  WRITE 102 fe:00:1314 0 EOF',
    '2: FLOCK  ADVISORY  WRITE 102 00:16:12 0 EOF',
    '3: OFDLCK ADVISORY  READ  -1 fe:00:1315 0 EOF',
    '4: LEASE  ACTIVE    READ  101 fe:00:1316 0 EOF',
    '10: POSIX  ADVISORY  READ  7 fe:00:1314 0 9',
    '',
  ].join('\n');
  assert.equal(countLocks(new Set([101, 102]), table), 3);
  assert.equal(countLocks(new Set([7]), table), 1);
  assert.equal(countLocks(new Set(), table), 0);
  assert.equal(countLocks(new Set([1]), ''), 0);
});
