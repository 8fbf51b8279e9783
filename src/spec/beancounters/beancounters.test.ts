/** The table of beancounters, pairs of barrier and limit, OpenVZ's formulas and its file. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PROPERTIES } from '../properties.ts';
import { allocated, checkPairs, lowMemory, memoryAndSwap, type Pairs } from './formulas.ts';
import { compare, formatAmount, formatPair, isOrdered, pagesOf, parseAmount, parsePair, type Pair } from './pairs.ts';
import { BEANCOUNTERS, PAGE, UNLIMITED, type Beancounters, type Unit } from './table.ts';
import { beancountersText } from './text.ts';

/** Names of OpenVZ's kernel in its order (kernel/bc/resources.c). */
const ORDER = 'kmemsize lockedpages privvmpages shmpages dummy numproc physpages vmguarpages oomguarpages numtcpsock numflock numpty numsiginfo tcpsndbuf tcprcvbuf othersockbuf dgramrcvbuf numothersock dcachesize numfile dummy dummy dummy numiptent swappages';

test('the table has OpenVZ\'s rows in OpenVZ\'s order, and says of each what it is', () => {
  assert.equal(BEANCOUNTERS.map(({ name }) => name).join(' '), ORDER);
  const of = (rank: string): string[] => BEANCOUNTERS.filter((row) => row.rank === rank && row.name !== 'dummy').map(({ name }) => name).sort();
  assert.deepEqual(of('primary'), ['numothersock', 'numproc', 'numtcpsock', 'vmguarpages']);
  assert.deepEqual(of('secondary'), ['dgramrcvbuf', 'kmemsize', 'oomguarpages', 'othersockbuf', 'privvmpages', 'tcprcvbuf', 'tcpsndbuf']);
  assert.deepEqual(BEANCOUNTERS.filter(({ pair }) => pair === 'both').map(({ name }) => name).sort(),
    ['dcachesize', 'dgramrcvbuf', 'kmemsize', 'numflock', 'othersockbuf', 'privvmpages', 'tcprcvbuf', 'tcpsndbuf']);
  for (const row of BEANCOUNTERS) {
    assert.equal(row.unit, row.name.endsWith('pages') ? 'pages' : row.name === 'dummy' || row.name.startsWith('num') ? 'items' : 'bytes', row.name);
    // What is held must be counted, or nobody could see it; what is not counted is held by nobody.
    for (const host of ['v2', 'hybrid'] as const) if (row.held[host] !== '') assert.ok(row.counted[host] !== '' && row.property !== undefined, row.name);
    if (row.property !== undefined) assert.ok(PROPERTIES.some(({ name }) => name === row.property), row.property);
  }
});

const amount = fc.option(fc.maxSafeNat(), { nil: null });
const unit = fc.constantFrom<Unit>('items', 'pages', 'bytes');

test('an amount is what it was after it was written, and no text is half read', () => {
  fc.assert(fc.property(amount, unit, (value, unit) => {
    assert.equal(parseAmount(value === null ? 'unlimited' : String(value), unit), value);
    assert.equal(parseAmount(formatAmount(value), unit), value);
  }));
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom('1', '9', 'K', 'P', 'x', ' ', '-', '.', ':', 'u') }), unit, (text, unit) => {
    if (!/^\d+[KP]?$/.test(text)) assert.equal(parseAmount(text, unit), undefined);
  }));
});

test('suffixes are powers of 1024 and pages; LONG_MAX and more is no limit', () => {
  assert.equal(parseAmount('8K', 'pages'), 2);
  assert.equal(parseAmount('1', 'pages'), 1);
  assert.equal(parseAmount('1B', 'pages'), 1);
  assert.equal(parseAmount('3P', 'bytes'), 3 * PAGE);
  assert.equal(parseAmount('3p', 'pages'), 3);
  assert.equal(parseAmount('2G', 'bytes'), 2 ** 31);
  assert.equal(parseAmount('10K', 'items'), undefined);
  assert.equal(parseAmount(String(UNLIMITED), 'bytes'), null);
  assert.equal(parseAmount(String(UNLIMITED - 1n), 'bytes'), undefined, 'cannot be kept exactly');
  assert.equal(formatAmount(null), '9223372036854775807');
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 40 }), (bytes) => {
    assert.equal(parseAmount(`${bytes}B`, 'pages'), pagesOf(bytes));
    assert.ok(pagesOf(bytes) * PAGE >= bytes && (pagesOf(bytes) - 1) * PAGE < bytes);
  }));
});

test('a pair is read as it was written, its barrier never above its limit', () => {
  fc.assert(fc.property(amount, amount, unit, (barrier, limit, unit) => {
    const pair = { barrier, limit };
    const read = parsePair(formatPair(pair), unit);
    if (isOrdered(pair)) assert.deepEqual(read, pair);
    else assert.equal(read, undefined);
  }));
  assert.deepEqual(parsePair('80', 'items'), { barrier: 80, limit: 80 });
  assert.deepEqual(parsePair('1K:unlimited', 'bytes'), { barrier: 1024, limit: null });
  for (const wrong of ['', ':', '1:', ':1', '1:2:3', '2:1', 'unlimited:5', '1.5', '-1', ' 1']) assert.equal(parsePair(wrong, 'bytes'), undefined, wrong);
});

test('amounts have one order, with unlimited at its end', () => {
  fc.assert(fc.property(amount, amount, amount, (a, b, c) => {
    assert.equal(Math.sign(compare(a, b)), -Math.sign(compare(b, a)) + 0);
    if (compare(a, b) <= 0 && compare(b, c) <= 0) assert.ok(compare(a, c) <= 0);
    assert.ok(compare(a, null) <= 0);
  }));
});

/** The basic sample of OpenVZ, ve-basic.conf-sample: consistent but for what vzcfgvalidate recommends. */
const BASIC: Pairs = pairs('kmemsize=14372700:14790164 lockedpages=256:256 privvmpages=65536:69632 shmpages=21504:21504 numproc=240:240 physpages=0:unlimited vmguarpages=33792:unlimited'
  + ' oomguarpages=26112:unlimited numtcpsock=360:360 numflock=188:206 numpty=16:16 numsiginfo=256:256 tcpsndbuf=1720320:2703360 tcprcvbuf=1720320:2703360 othersockbuf=1126080:2097152'
  + ' dgramrcvbuf=262144:262144 numothersock=360:360 dcachesize=3409920:3624960 numfile=9312:9312 numiptent=128:128');

function pairs(text: string): Pairs {
  return Object.fromEntries(text.split(' ').map((word) => {
    const [name, value] = word.split('=') as [string, string];
    return [name, parsePair(value, BEANCOUNTERS.find((row) => row.name === name)!.unit)!];
  }));
}

test('the formulas find nothing wrong with OpenVZ\'s own sample, and each thing that is made wrong', () => {
  assert.deepEqual(checkPairs(BASIC, { avnumproc: 80 }).filter(({ severity }) => severity !== 'recommendation'), []);
  const wrong = (change: string, options = { avnumproc: 80 }): string[] => checkPairs({ ...BASIC, ...pairs(change) }, options).map(({ severity, name }) => `${severity} ${name}`);
  assert.deepEqual(wrong('numtcpsock=100:200'), ['error numtcpsock']);
  assert.deepEqual(wrong('kmemsize=2000000:2100000'), ['error kmemsize']);
  assert.deepEqual(wrong('tcpsndbuf=1720320:1720321'), ['error tcpsndbuf']);
  assert.deepEqual(wrong('tcprcvbuf=1720320:1720321'), ['warning tcprcvbuf']);
  assert.deepEqual(wrong('tcpsndbuf=65535:2703360'), ['warning tcpsndbuf']);
  assert.deepEqual(wrong('othersockbuf=1126080:1126090'), ['error othersockbuf']);
  assert.deepEqual(wrong('dgramrcvbuf=132095:132095'), ['recommendation dgramrcvbuf']);
  assert.deepEqual(wrong('dgramrcvbuf=32767:32767'), ['warning dgramrcvbuf']);
  assert.deepEqual(wrong('vmguarpages=33792:33792'), ['warning vmguarpages']);
  assert.deepEqual(wrong('privvmpages=33791:69632'), ['warning privvmpages']);
  assert.deepEqual(wrong('physpages=1:unlimited'), ['warning physpages']);
  assert.deepEqual(wrong('numfile=700:700'), ['warning numfile']);
  assert.deepEqual(wrong('numfile=9441:9441'), ['warning dcachesize']);
  assert.deepEqual(checkPairs({ nonsense: { barrier: 1, limit: 1 } }).map(({ message }) => message), ['There is no beancounter nonsense.']);
  assert.deepEqual(checkPairs({ numproc: { barrier: 2, limit: 1 } }).map(({ severity }) => severity), ['error']);
});

test('with VSwap only memory and swap are looked at, against what the host has', () => {
  const vswap = (text: string): string[] => checkPairs(pairs(text), { host: { ram: 1000, swap: 500 } }).map(({ severity, name }) => `${severity} ${name}`);
  assert.deepEqual(vswap('physpages=0:1000 swappages=0:500 kmemsize=1:1'), []);
  assert.deepEqual(vswap('physpages=0:1001 swappages=0:500'), ['warning physpages']);
  assert.deepEqual(vswap('physpages=0:1000 swappages=1:501'), ['error swappages', 'warning swappages']);
  assert.deepEqual(vswap('physpages=0:unlimited swappages=0:0'), ['warning physpages']);
});

test('what the formulas ask for puts it right, whatever was wrong', () => {
  const pair: fc.Arbitrary<Pair> = fc.tuple(amount, amount).map(([a, b]) => (compare(a, b) <= 0 ? { barrier: a, limit: b } : { barrier: b, limit: a }));
  const names = [...new Set(ORDER.split(' '))].filter((name) => name !== 'dummy' && name !== 'swappages');
  fc.assert(fc.property(fc.record(Object.fromEntries(names.map((name) => [name, pair])), { requiredKeys: [] }), (given) => {
    for (const { name, needed, message } of checkPairs(given as Record<string, Pair>)) {
      if (needed === undefined || !Number.isSafeInteger(needed)) continue;
      const { barrier, limit } = given[name]!;
      const better = /^Limit and barrier|^The limit of/.test(message) ? { barrier, limit: needed } : { barrier: needed, limit: limit !== null && limit < needed ? needed : limit };
      const left = checkPairs({ ...given, [name]: better } as Record<string, Pair>);
      assert.ok(!left.some((other) => other.name === name && other.message.slice(0, 20) === message.slice(0, 20) && other.needed === needed), message);
    }
  }));
});

test('sums of low memory, of memory with swap and of what may be allocated', () => {
  const amounts = { kmemsize: 1000, tcpsndbuf: 10, tcprcvbuf: 20, othersockbuf: 30, dgramrcvbuf: 40, oomguarpages: 2, privvmpages: 5, numproc: 99 };
  assert.equal(lowMemory(amounts), 1100);
  assert.equal(memoryAndSwap(amounts), 2 * 4096 + 1100);
  assert.equal(allocated(amounts), 5 * 4096 + 1100);
  assert.equal(lowMemory({ kmemsize: null }), 0);
});

test('the file is OpenVZ\'s to the last blank', () => {
  const all: Beancounters = {
    number: 123,
    rows: [
      { name: 'kmemsize', unit: 'bytes', held: 836_919, maxheld: 1_005_343, barrier: 2_752_512, limit: 2_936_012, failcnt: 0, kept: [], counted: 'x', enforced: null, note: null },
      { name: 'dummy', unit: 'items', held: 0, maxheld: 0, barrier: null, limit: null, failcnt: 0, kept: [], counted: null, enforced: null, note: null },
      { name: 'numothersock', unit: 'items', held: 1, maxheld: 2, barrier: null, limit: null, failcnt: 7, kept: [], counted: 'x', enforced: 'x', note: null },
    ],
  };
  assert.equal(beancountersText(all), [
    'Version: 2.5',
    '       uid  resource                     held              maxheld              barrier                limit              failcnt',
    '       123: kmemsize                   836919              1005343              2752512              2936012                    0',
    '            dummy                           0                    0                    0                    0                    0',
    '            numothersock                    1                    2  9223372036854775807  9223372036854775807                    7',
    '',
  ].join('\n'));
});
