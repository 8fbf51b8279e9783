import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalMount, mountsFrom, parseMount } from './disk-mounts.ts';

test('folders are read with their options, in any order', () => {
  assert.deepEqual(parseMount('/srv/data:/data'), { host: '/srv/data', inside: '/data', readOnly: false, plain: false });
  assert.equal(canonicalMount('/srv/data:/mnt/data:plain:ro'), '/srv/data:/mnt/data:ro:plain');
});

test('what leads elsewhere, or into what the VE needs for itself, is refused', () => {
  for (const text of ['/srv', 'srv:/data', '/srv:data', '/srv/../etc:/data', '/srv:/data/..', '/srv:/', '/:/data', '/srv/:/data', '/srv:/data/', '/srv//x:/data', '/srv:/proc/sys', '/srv:/dev', '/srv:/run/x', '/srv:/etc', '/srv:/usr',
    '/srv:/data:rw', '/srv:/data:ro:ro', '/a b:/data', '/a,b:/data', `/${'x'.repeat(120)}:/data`, '/srv:/da\nta']) assert.equal(parseMount(text), undefined, text);
  for (const text of ['/srv:/etc/mine', '/srv/.hidden:/usr/local/x', '/srv/a..b:/data']) assert.notEqual(parseMount(text), undefined, text);
});

test('what lies in another one is mounted after it', () => {
  assert.deepEqual(mountsFrom(['/a:/data/deep', '/b:/other', '/c:/data']).map(({ inside }) => inside), ['/data', '/other', '/data/deep']);
});
