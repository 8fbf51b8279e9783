import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkName, checkTemplateName } from './names.ts';

const refuses = (check: (name: unknown) => string, names: unknown[]): void => {
  for (const name of names) assert.throws(() => check(name), (error: { code?: string }) => error.code === 'name.invalid', String(name));
};

describe('names', () => {
  it('takes names that are host names', () => {
    for (const name of ['a', 'web', 'web-1', 'x'.repeat(63), 'all-of-it', 'a1']) assert.equal(checkName(name), name);
  });

  it('refuses names that mean something else, or could break out of where they are written', () => {
    refuses(checkName, ['', '1', '101', '1a', '-a', 'a-', 'A', 'a_b', 'a.b', 'a b', 'a\n', 'a\nb', 'x'.repeat(64), 'all', 'none', 'self', 'localhost', '../a', 'a/b', 'ü',
      'abcdef01-0000-4000-8000-000000000000', null, undefined, 5, ['a'], { toString: () => 'a' }]);
  });

  it('keeps names of templates apart from fingerprints', () => {
    for (const name of ['debian-12', 'ubuntu-24.04', 'c++11', 'dead', 'deadbee', 'deadbeefs']) assert.equal(checkTemplateName(name), name);
    refuses(checkTemplateName, ['deadbeef', 'a'.repeat(63), '12', 'a..b', 'a/b', '.a', 'a.', 'all', 'A', 'a b', 'a\n', 7]);
  });
});
