import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assert as check, ipV4, ipV6, property } from 'fast-check';
import { contains, formatIp, formatPrefix, linkLocal, overlaps, parseIp, parsePrefix } from './ip.ts';
import type { Prefix } from './ip.ts';

const prefix = (text: string): Prefix => parsePrefix(text) as Prefix;

test('every address has one text, that of the platform', () => {
  check(property(ipV6(), (text) => {
    const ip = parseIp(text);
    assert.ok(ip);
    const ours = formatIp(ip);
    // The URL parser writes an IPv4 tail in hex groups, as we do.
    assert.equal(ours, new URL(`http://[${text}]/`).hostname.slice(1, -1));
    assert.deepEqual(parseIp(ours), ip);
  }));
  check(property(ipV4(), (text) => assert.equal(formatIp(parseIp(text) ?? { family: 6, value: 0n }), text)));
});

test('what is no address is refused', () => {
  for (const text of ['', '1.2.3', '1.2.3.4/24', 'fe80::1%eth0', '::g', '1.2.3.4\n', 'localhost', '01.2.3.4']) assert.equal(parseIp(text), undefined, text);
  for (const text of ['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', 'fd00::/129', '10.0.0.0/-1', 'default']) assert.equal(parsePrefix(text), undefined, text);
});

test('prefixes clear host bits, contain and overlap', () => {
  assert.equal(formatPrefix(prefix('10.1.2.3/8')), '10.0.0.0/8');
  assert.equal(formatPrefix(prefix('10.1.2.3')), '10.1.2.3/32');
  assert.ok(contains(prefix('fd00::/64'), { family: 6, value: prefix('fd00::ffff').value }));
  assert.ok(!contains(prefix('0.0.0.0/0'), { family: 6, value: 1n }));
  assert.ok(overlaps(prefix('10.0.0.0/8'), prefix('10.187.0.0/16')) && overlaps(prefix('10.187.0.0/16'), prefix('10.0.0.0/8')));
  assert.ok(!overlaps(prefix('10.186.0.0/16'), prefix('10.187.0.0/16')));
});

test('the link-local address is the one that Linux makes', () => {
  assert.equal(linkLocal('02:00:00:00:00:65'), 'fe80::ff:fe00:65');
  assert.equal(linkLocal('36:1d:0a:ff:00:01'), 'fe80::341d:aff:feff:1');
});
