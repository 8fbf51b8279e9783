import { test } from 'node:test';
import assert from 'node:assert/strict';
import { parseDebName, parseRelease } from './mmdebstrap.ts';

const RELEASE = `-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian
Suite: testing
Codename: forky
Date: Fri, 30 Oct 2026 08:08:01 UTC
Valid-Until: Fri, 06 Nov 2026 08:08:01 UTC
`;

test('a Release file past its Valid-Until is expired, one before is not, one without never is', () => {
  const release = parseRelease(RELEASE, Date.parse('2026-11-23T00:00:00Z'));
  assert.deepEqual(release, { suite: 'testing', codename: 'forky', date: '2026-10-30T08:08:01.000Z', validUntil: '2026-11-06T08:08:01.000Z', expired: true });
  assert.equal(parseRelease(RELEASE, Date.parse('2026-11-01T00:00:00Z')).expired, false);
  assert.deepEqual(parseRelease('Suite: stable\n', 0), { suite: 'stable', codename: '', date: null, validUntil: null, expired: false });
});

test('package names and versions from file names', () => {
  assert.deepEqual(parseDebName('libcap2_1%3a2.78-1+b1_amd64.deb'), { name: 'libcap2', version: '1:2.78-1+b1' });
  assert.deepEqual(parseDebName('libdb5.3t64_5.3.28+dfsg2-11+b1_all.deb'), { name: 'libdb5.3t64', version: '5.3.28+dfsg2-11+b1' });
  assert.equal(parseDebName('partial'), undefined);
  assert.equal(parseDebName('lock'), undefined);
});
