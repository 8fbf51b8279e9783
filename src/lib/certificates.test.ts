import assert from 'node:assert/strict';
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { test } from 'node:test';
import { areTimely, fingerprintOf, isAuthority, isIssuedBy, makeAuthority, makeTlsCertificate } from './certificates.ts';

const DAY = 86_400_000;
const authority = makeAuthority('one', 3653);
const leaf = makeTlsCertificate(authority, 'leaf', 90);
const x = (pair: { certificate: string }): X509Certificate => new X509Certificate(pair.certificate);

test('an authority and a certificate of it are what they should be', () => {
  assert.equal(x(authority).ca, true);
  assert.equal(x(leaf).ca, false);
  assert.equal(x(leaf).issuer, 'CN=one');
  assert.ok(x(leaf).checkPrivateKey(createPrivateKey(leaf.key)));
  assert.ok(isAuthority(x(authority)));
  assert.ok(isIssuedBy(x(leaf), x(authority)));
  assert.match(fingerprintOf(x(leaf)), /^[0-9a-f]{64}$/);
  assert.equal(fingerprintOf(x(leaf)), x(leaf).fingerprint256.replaceAll(':', '').toLowerCase());
});

test('nothing else is believed', () => {
  const twin = makeAuthority('one', 3653);
  assert.equal(isIssuedBy(x(leaf), x(twin)), false, 'another key under the same name');
  assert.equal(isIssuedBy(x(leaf), x(leaf)), false, 'a certificate is no authority');
  assert.equal(isIssuedBy(x(authority), x(authority)), false, 'an authority is no certificate for TLS');
  const forged = makeTlsCertificate({ ...authority, key: twin.key }, 'leaf', 90);
  assert.equal(isIssuedBy(x(forged), x(authority)), false, 'signed with another key');
});

test('times are kept, also beyond 2049', () => {
  const now = Date.now();
  const both = [x(leaf), x(authority)];
  assert.deepEqual([0, 89, -0.9, 91, -1.1].map((days) => areTimely(both, now + days * DAY)), [true, true, true, false, false]);
  assert.equal(areTimely([x(makeTlsCertificate(authority, 'l', 9000)), x(authority)], now + 4000 * DAY), false, 'the authority has ended');
  const long = makeAuthority('long', 36_500);
  assert.equal(new Date(x(long).validTo).getFullYear() >= 2120, true);
});

test('a server is found by its names and addresses, and by no others', () => {
  const server = x(makeTlsCertificate(authority, 'server', 90, ['images.example.org', '192.0.2.7', '2001:db8::7', '::1', 'fd00:1:2:3:4:5:6:7']));
  assert.equal(server.checkHost('images.example.org'), 'images.example.org');
  for (const address of ['192.0.2.7', '2001:db8::7', '::1', 'fd00:1:2:3:4:5:6:7']) assert.equal(server.checkIP(address), address, address);
  assert.deepEqual([server.checkHost('other.example.org'), server.checkIP('192.0.2.8'), server.checkIP('2001:db8::8')], [undefined, undefined, undefined]);
  assert.ok(isIssuedBy(server, x(authority)));
});
