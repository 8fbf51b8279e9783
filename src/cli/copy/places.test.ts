import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameOf, parsePlace } from './places.ts';

test('a place is in a VE when its first part ends with a colon', () => {
  assert.deepEqual(parsePlace('web:/etc/motd'), { kind: 've', ve: 'web', path: '/etc/motd', shown: 'web:/etc/motd' });
  assert.deepEqual(parsePlace('101:srv/a:b'), { kind: 've', ve: '101', path: '/srv/a:b', shown: '101:srv/a:b' });
  for (const local of ['a', './a:b', '/a:b/c', '../x', 'dir/a:b', '.']) assert.equal(parsePlace(local).kind, 'local', local);
  assert.equal(parsePlace('-').kind, 'stream');
  assert.throws(() => parsePlace('web:'), { code: 'usage' });
  assert.throws(() => parsePlace(':/etc'), { code: 'usage' });
});

test('the name that a source has in a folder', () => {
  const cases: [string, string][] = [['/etc/motd', 'motd'], ['/etc/', 'etc'], ['a', 'a'], ['/', ''], ['.', ''], ['..', ''], ['/srv/.', ''], ['/srv/./', ''], ['a/..', ''], ['/x/.hidden', '.hidden'], ['/x/..y', '..y']];
  for (const [path, name] of cases) assert.equal(nameOf(path), name, path);
});
