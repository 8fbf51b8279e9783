import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRate } from './rate.ts';

test('a rate is an amount of bytes that a migration can live with', () => {
  for (const [text, rate] of [['50M', 50 << 20], ['1.5GiB', 1.5 * 2 ** 30], ['65536', 65_536], ['64k', 65_536], [' 10m ', 10 << 20]] as const) assert.equal(parseRate(text), rate);
  for (const text of ['', '0', '65535', '63K', '-50M', '50MB', '50Mbit', '50 M', '1e9', 'NaN', 'Infinity', '2P', '1.1K', 'fast', '0x100000']) assert.throws(() => parseRate(text), { code: 'usage' }, text);
});
