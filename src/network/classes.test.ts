import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { classRanges, formatRange, parseClasses } from './classes.ts';
import { contains, formatIp, formatPrefix, parseIp, parsePrefix } from './ip.ts';
import type { Prefix } from './ip.ts';

const pools = [parsePrefix('10.187.0.0/16')!, parsePrefix('fd5e:1d00:187::/64')!];
const named = (texts: string[]): Record<string, string[]> => Object.fromEntries(parseClasses(texts, pools).map(({ name, networks }) => [name, networks.map(formatPrefix)]));

test('the pools are inside, and all else outside, whatever the settings name besides', () => {
  assert.deepEqual(named([]), { inside: ['10.187.0.0/16', 'fd5e:1d00:187::/64'], outside: [] });
  const some = named(['inside=10.0.0.0/8, fd00::/8', 'backup=192.0.2.0/24', 'backup=198.51.100.7', 'outside=10.9.0.0/16']);
  assert.deepEqual(some, { inside: ['10.0.0.0/8', 'fd00::/8', '10.187.0.0/16', 'fd5e:1d00:187::/64'], backup: ['192.0.2.0/24', '198.51.100.7/32'], outside: ['10.9.0.0/16'] });
  assert.deepEqual(Object.keys(some), ['inside', 'backup', 'outside']);
  assert.deepEqual(named(['own=10.187.0.0/16']).inside, ['fd5e:1d00:187::/64'], 'a class that has a pool by name');
});

test('what is no list of classes is refused with the place where it is wrong', () => {
  for (const [texts, words] of [
    [['inside'], /"inside", which is not NAME=NETWORK/], [['In=10.0.0.0/8'], /NAME=NETWORK/], [['a-b=10.0.0.0/8'], /NAME=NETWORK/], [['a=10.0.0.0/33'], /"10\.0\.0\.0\/33", which is no network/], [['a='], /"", which is no network/],
    [['a=10.0.0.0/8', 'b=10.1.2.3/8'], /10\.0\.0\.0\/8 to two classes, a and b/], [Array.from({ length: 15 }, (_, i) => `c${i}=192.0.2.${i}`), /17 classes/],
  ] as const) assert.throws(() => parseClasses(texts, pools), { code: 'settings.invalid', message: words }, texts.join());
});

test('ranges: the longest prefix has an address, and borders are where they are', () => {
  const ranges = classRanges(parseClasses(['inside=10.0.0.0/8', 'backup=10.1.0.0/16', 'outside=10.1.2.0/24'], []), 4).map((range) => `${formatRange(range)} ${range.name}`);
  assert.deepEqual(ranges, ['10.0.0.0-10.0.255.255 inside', '10.1.0.0-10.1.1.255 backup', '10.1.2.0-10.1.2.255 outside', '10.1.3.0-10.1.255.255 backup', '10.2.0.0-10.255.255.255 inside']);
  assert.deepEqual(classRanges(parseClasses(['all=::/0,0.0.0.0/0,192.0.2.1'], []), 6).map(formatRange), ['::/0']);
  assert.deepEqual(classRanges(parseClasses(['a=192.0.2.0/25', 'a=192.0.2.128/25', 'b=192.0.3.1'], []), 4).map(formatRange), ['192.0.2.0-192.0.2.255', '192.0.3.1']);
});

test('ranges say of every address what a search for the longest prefix says (random networks)', () => {
  const network = fc.record({ value: fc.bigInt(0n, 0xffffffffn), bits: fc.integer({ min: 0, max: 32 }), name: fc.constantFrom('a', 'b', 'c') });
  fc.assert(fc.property(fc.array(network, { maxLength: 12 }), fc.array(fc.bigInt(0n, 0xffffffffn), { maxLength: 20 }), (networks, addresses) => {
    const unique = new Map(networks.map(({ value, bits, name }) => [formatPrefix(parsePrefix(`${formatIp({ family: 4, value })}/${bits}`)!), name]));
    const classes = parseClasses([...unique].map(([text, name]) => `${name}=${text}`), []);
    const ranges = classRanges(classes, 4);
    for (const [i, range] of ranges.entries()) assert.ok(range.first <= range.last && (i === 0 || ranges[i - 1]!.last < range.first));
    const edges = ranges.flatMap(({ first, last }) => [first, last]);
    for (const value of [...addresses, ...edges, 0n, 0xffffffffn]) {
      const prefixes: [Prefix, string][] = [...unique].map(([text, name]) => [parsePrefix(text)!, name]);
      const best = prefixes.filter(([prefix]) => contains(prefix, { family: 4, value })).toSorted(([one], [other]) => other.bits - one.bits)[0]?.[1];
      assert.equal(ranges.find(({ first, last }) => first <= value && value <= last)?.name, best);
    }
  }));
  assert.ok(parseIp('10.0.0.1'));
});
