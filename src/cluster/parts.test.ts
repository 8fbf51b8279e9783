import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { makeAuthority, makeTlsCertificate } from '../lib/certificates.ts';
import { openStore } from '../store/sqlite.ts';
import type { NodeRecord } from '../store/types.ts';
import { formatEndpoint, ownAddress, parseEndpoint } from './addresses.ts';
import { createAttempts } from './attempts.ts';
import { summarise } from './hello.ts';
import { keepIdentity } from './identity.ts';
import { passedHeaders } from './passing.ts';
import { createPeers, readAuthority } from './peers.ts';
import { CALLS, RIGHTS, parseRights } from './rights.ts';
import { overlap } from './view.ts';

const DAY = 86_400_000;

test('the list of rights: nothing without a pairing but the request for one', () => {
  assert.deepEqual(Object.entries(CALLS).filter(([, need]) => need === 'nothing').map(([call]) => call), ['pair']);
  assert.equal(CALLS['api/'], 'manage');
  assert.deepEqual(Object.keys(RIGHTS), ['migrate', 'manage']);
  assert.deepEqual(parseRights('migrate,manage,migrate'), ['manage', 'migrate']);
  assert.deepEqual(parseRights('none'), []);
  for (const text of ['', 'all', 'manage,', 'none,manage', 'constructor']) assert.throws(() => parseRights(text), { code: 'usage' }, text);
});

test('addresses', () => {
  for (const text of ['192.0.2.1:7430', 'node2.example.org:1', '[2001:db8::7]:65535', '[fe80::1%eth0]:7430']) assert.equal(formatEndpoint(parseEndpoint(text)!), text);
  for (const text of ['', 'a', 'a:', ':1', 'a:0', 'a:65536', '2001:db8::7:1', '[a]:1', 'a b:1', 'a\n:1', '-a:1', '[::1]']) assert.equal(parseEndpoint(text), undefined, text);
  fc.assert(fc.property(fc.string(), (text) => {
    const endpoint = parseEndpoint(text);
    if (endpoint) assert.equal(formatEndpoint(endpoint).toLowerCase().replace(/:0+(?=\d)/, ':'), text.toLowerCase().replace(/:0+(?=\d+$)/, ':'));
  }));
  assert.equal(ownAddress({ listen: '', address: 'x:1', pools: [] }), undefined);
  assert.equal(ownAddress({ listen: '192.0.2.1:5', address: '', pools: [] }), '192.0.2.1:5');
  assert.equal(ownAddress({ listen: '0.0.0.0:5', address: 'n.example:7', pools: [] }), 'n.example:7');
});

test('attempts: ten a minute from one place, and others are not hurt by that', () => {
  let now = 0;
  const attempts = createAttempts(() => now);
  const tries = (address: string): number => Array.from({ length: 20 }, () => attempts.allow(address)).filter(Boolean).length;
  assert.equal(tries('192.0.2.1'), 10);
  assert.equal(tries('::ffff:192.0.2.1'), 0, 'the same, mapped');
  assert.equal(tries('192.0.2.2'), 10);
  assert.equal(tries('2001:db8::1'), 10);
  assert.equal(tries('2001:db8:0:0:1::'), 0, 'the same /64');
  assert.equal(tries('2001:db8:0:1::1'), 10);
  now = 60_000;
  assert.equal(tries('192.0.2.1'), 10);
  for (let n = 0; n < 50; n += 1) tries(`10.0.0.${n}`);
  assert.equal(tries('10.1.1.1'), 0, 'there is an end in all');
});

test('distance and clock: the median, and the offset of the quickest', () => {
  assert.deepEqual(summarise([{ rtt: 9, offset: 90 }, { rtt: 1, offset: 10 }, { rtt: 5, offset: 50 }]), { rtt: 5, offset: 10 });
  assert.deepEqual(overlap({ base: 0, count: 10 }, { base: 9, count: 5 }), true);
  assert.deepEqual(overlap({ base: 0, count: 10 }, { base: 10, count: 5 }), false);
});

test('the identity is made once, kept closed, renewed at half of its life, and replaced as a whole', (t) => {
  const stateDir = mkdtempSync(join(tmpdir(), 'veld-identity-'));
  t.after(() => rmSync(stateDir, { recursive: true }));
  let now = Date.now();
  const keeper = keepIdentity(stateDir, () => now);
  const first = keeper.current();
  assert.deepEqual([statSync(join(stateDir, 'nodes')).mode & 0o777, statSync(join(stateDir, 'nodes/identity.json')).mode & 0o777], [0o700, 0o600]);
  assert.deepEqual(keepIdentity(stateDir).current(), first);
  assert.equal(keeper.isDue(), false);
  now += 46 * DAY;
  assert.equal(keeper.isDue(), true);
  const second = keeper.renew();
  assert.equal(second.fingerprint, first.fingerprint);
  assert.notEqual(second.chain, first.chain);
  const next = keeper.prepare();
  assert.deepEqual(keeper.prepare(), next, 'once');
  assert.equal(keeper.current().fingerprint, first.fingerprint);
  assert.equal(keepIdentity(stateDir).next()?.fingerprint, next.fingerprint, 'a restart does not lose it');
  assert.equal(keeper.adopt().fingerprint, next.fingerprint);
  assert.equal(keeper.next(), undefined);
  assert.doesNotMatch(readFileSync(join(stateDir, 'nodes/identity.json'), 'utf8'), /"next"/);
});

test('nobody may claim the authority of another node, nor this one\'s', () => {
  const store = openStore(':memory:');
  const [own, one, two, fresh] = ['o', 'a', 'b', 'c'].map((name) => makeAuthority(name, 10));
  const record = (id: string, authority: { certificate: string }): NodeRecord => ({
    id, name: id, address: null, allow: [], authorities: [readAuthority(authority.certificate)], facts: null, ended: null, createdAt: '2026-01-01T00:00:00.000Z',
  });
  const peers = createPeers(store, () => [readAuthority(own!.certificate).fingerprint]);
  peers.save(record('one', one!));
  peers.save(record('two', two!));
  for (const claimed of [own!, two!]) assert.throws(() => peers.announce(peers.byName('one'), claimed.certificate), { code: 'request.invalid' });
  assert.throws(() => peers.announce(peers.byName('one'), makeTlsCertificate(one!, 'leaf', 5).certificate), { code: 'request.invalid' });
  peers.announce(peers.byName('one'), fresh!.certificate);
  const leaf = new X509Certificate(makeTlsCertificate(fresh!, 'leaf', 5).certificate);
  const found = peers.find(leaf)!;
  assert.equal(found.node.name, 'one');
  peers.used(found);
  assert.equal(peers.find(new X509Certificate(makeTlsCertificate(one!, 'leaf', 5).certificate)), undefined, 'the old one is over');
  peers.save({ ...peers.byName('one'), ended: { at: '', reason: '' } });
  assert.equal(peers.find(leaf), undefined, 'an ended pairing is none');
  store.close();
});

test('headers about one connection, and our own, do not pass', () => {
  const passed = passedHeaders({ 'connection': 'close', 'host': 'x', 'veld-user': '0', 'veld-protocol': '1', 'content-type': 'a', 'origin': 'o', 'transfer-encoding': 'chunked', 'sec-websocket-key': 'k' });
  assert.deepEqual(passed, { 'content-type': 'a', 'origin': 'o', 'sec-websocket-key': 'k' });
});
