import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lastDue, parseKeep } from './backup-properties.ts';
import { parseProperties } from './properties.ts';

const due = (schedule: string, now: string): string => {
  const at = lastDue(schedule, new Date(now));
  return `${at.getFullYear()}-${String(at.getMonth() + 1).padStart(2, '0')}-${String(at.getDate()).padStart(2, '0')} ${String(at.getHours()).padStart(2, '0')}:${String(at.getMinutes()).padStart(2, '0')}`;
};

test('a schedule was due last at or before now', () => {
  assert.equal(due('hourly', '2026-11-27T10:00:00'), '2026-11-27 10:00');
  assert.equal(due('hourly@15', '2026-11-27T10:14:59'), '2026-11-27 09:15');
  assert.equal(due('hourly@15', '2026-01-01T00:14:59'), '2025-12-31 23:15');
  assert.equal(due('daily', '2026-11-27T01:59:00'), '2026-11-26 02:00');
  assert.equal(due('daily@23:30', '2026-11-27T23:30:00'), '2026-11-27 23:30');
  assert.equal(due('daily@23:30', '2026-03-01T10:00:00'), '2026-02-28 23:30');
  // 2026-11-27 is a Friday.
  assert.equal(due('weekly', '2026-11-27T10:00:00'), '2026-11-22 02:00');
  assert.equal(due('weekly@fri-11:00', '2026-11-27T10:00:00'), '2026-11-20 11:00');
  assert.equal(due('weekly@fri-09:00', '2026-11-27T10:00:00'), '2026-11-27 09:00');
  assert.equal(due('weekly@sat', '2026-11-27T10:00:00'), '2026-11-21 02:00');
});

test('what is kept is read by its letters; nonsense is refused', () => {
  assert.deepEqual(parseKeep('7d 4w 6m'), { daily: 7, weekly: 4, monthly: 6 });
  assert.deepEqual(parseKeep('10l 24h 2y'), { last: 10, hourly: 24, yearly: 2 });
  for (const [name, value] of [['backup.keep', ''], ['backup.keep', '0d'], ['backup.keep', '7 d'], ['backup.keep', '7x'], ['backup.schedule', 'daily@24:00'], ['backup.schedule', 'monthly'], ['backup.repository', 'No']] as const) {
    assert.throws(() => parseProperties({ [name]: value }), name);
  }
});
