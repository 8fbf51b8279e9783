import assert from 'node:assert/strict';
import { test } from 'node:test';
import { displayWidth, layoutFacts, layoutTable, paintStatus, truncate } from './table.ts';

const plain = { width: Infinity, colour: false };

test('columns are aligned, numbers to the right, without blanks at the ends of lines', () => {
  const text = layoutTable([{ title: 'NAME' }, { title: 'N', right: true }, { title: 'STATUS' }], [['web', '101', 'running'], ['database', '7', '']], plain);
  assert.equal(text, 'NAME        N  STATUS\nweb       101  running\ndatabase    7\n');
});

test('a table that is too wide shrinks its widest shrinking column, to the terminal\'s width exactly', () => {
  const text = layoutTable([{ title: 'NAME' }, { title: 'ADDRESSES', shrink: true }], [['web', '10.187.0.2 fd5e:1d00:187::2']], { width: 20, colour: false });
  assert.equal(text, 'NAME  ADDRESSES\nweb   10.187.0.2 fd…\n');
});

test('what cannot shrink stays whole', () => {
  assert.equal(layoutTable([{ title: 'FINGERPRINT' }], [['0123456789abcdef']], { width: 5, colour: false }), 'FINGERPRINT\n0123456789abcdef\n');
});

test('colours do not change the alignment', () => {
  const text = layoutTable([{ title: 'S', paint: paintStatus }, { title: 'T' }], [['running', 'x'], ['stopped', 'y']], { width: 80, colour: true });
  // eslint-disable-next-line no-control-regex
  assert.equal(text.replace(/\x1b\[[0-9;]*m/g, ''), 'S        T\nrunning  x\nstopped  y\n');
  assert.match(text, /\x1b\[32mrunning\x1b\[39m/);
});

test('cells cannot break lines or reach the terminal with control sequences', () => {
  assert.equal(layoutTable([{ title: 'A' }], [['one\ntwo\x1b]0;owned\x07\x1b[2Jthree']], plain), 'A\none twothree\n');
});

test('wide characters count two columns, marks none', () => {
  assert.equal(displayWidth('日本'), 4);
  assert.equal(displayWidth('e\u0301'), 1);
  assert.equal(truncate('日本語', 5), '日本…');
});

test('facts without a value are left out', () => {
  assert.equal(layoutFacts([['Name', 'web'], ['Started', undefined], ['Addresses', 'a']], plain), 'Name:       web\nAddresses:  a\n');
});
