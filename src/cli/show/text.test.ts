import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAge, formatBytes, formatSeconds, formatTime, sanitise } from './text.ts';

test('bytes are shown with at most three figures and a binary unit', () => {
  const cases: [number, string][] = [[0, '0 B'], [1023, '1023 B'], [1024, '1 KiB'], [1536, '1.5 KiB'], [512 << 20, '512 MiB'], [2 ** 30 - 1, '1 GiB'], [2 ** 40 * 3.25, '3.3 TiB']];
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text);
});

test('durations are shown in their two largest units', () => {
  const cases: [number, string][] = [[0, '0 s'], [0.25, '0.3 s'], [42, '42 s'], [185, '3 min 5 s'], [3600, '1 h'], [90_061, '1 d 1 h']];
  for (const [seconds, text] of cases) assert.equal(formatSeconds(seconds), text);
});

test('times say how long ago they were', () => {
  assert.match(formatTime('2026-11-23T12:00:00Z', Date.parse('2026-11-23T12:01:05Z')), /^2026-11-23 \d\d:\d\d:00 \(1 min 5 s ago\)$/);
  assert.equal(formatAge(null), '-');
});

test('a VE\'s output cannot reprogram the terminal; colours, tabs and newlines stay', () => {
  assert.equal(sanitise('\x1b[31mred\x1b[0m\tx\r\ny'), '\x1b[31mred\x1b[0m\tx\ny');
  assert.equal(sanitise('a\x1b]0;title\x07b\x1b]52;c;AAAA\x1b\\c\x1b[2Jd\x1b[?1049he\x1bPq1\x1b\\f\x9b31mg\x07\x00h\x1bci'), 'abcdef31mghi');
});
