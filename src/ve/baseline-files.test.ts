import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sessionsWith, systemdText } from './baseline-files.ts';

test('what sessions begin with keeps what the administrator has written, and has ours once', () => {
  const own = 'LANG=C\n# a remark\n';
  const once = sessionsWith(own, ['A=1', 'B=2']);
  assert.match(once, /^LANG=C\n# a remark\n# Written by Veld[^\n]*\nA=1\nB=2\n# \(until here\)\n$/);
  assert.equal(sessionsWith(once, ['A=1', 'B=2']), once);
  assert.equal(sessionsWith(`${once}LC_ALL=C\n`, ['A=3']).match(/A=/g)!.length, 1);
  assert.match(sessionsWith(`${once}LC_ALL=C\n`, ['A=3']), /^LANG=C\n# a remark\nLC_ALL=C\n/);
});

test('without a baseline it is what it was', () => {
  for (const own of ['', 'LANG=C\n']) assert.equal(sessionsWith(sessionsWith(own, ['A=1']), []), own);
  assert.equal(sessionsWith('LANG=C', []), 'LANG=C\n');
});

test('the drop-in of systemd', () => {
  assert.match(systemdText(['A=1']), /\n\[Manager\]\nDefaultEnvironment=A=1\n$/);
  assert.doesNotMatch(systemdText([]), /Environment/);
});
