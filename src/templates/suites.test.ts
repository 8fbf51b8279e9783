import { test } from 'node:test';
import assert from 'node:assert/strict';
import { hostRelease, parseOneLine } from '../kernel/package-sources.ts';
import { findSuite } from './suites.ts';

const DEBIAN = hostRelease('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n');
const SOURCES = parseOneLine(`deb http://one.example/debian bookworm main
deb http://one.example/debian bookworm-updates main
deb http://two.example/security bookworm-security main`);

test('the host\'s own release comes from the host\'s own sources', () => {
  const suite = findSuite('host', undefined, '', DEBIAN, SOURCES);
  assert.equal(suite.name, 'debian-12');
  assert.deepEqual(suite.sources.map((s) => `${s.mirror} ${s.suite}`), [
    'http://one.example/debian bookworm', 'http://one.example/debian bookworm-updates', 'http://two.example/security bookworm-security',
  ]);
});

test('another Debian suite comes from the same mirrors; a mirror given by hand stands alone', () => {
  assert.deepEqual(findSuite('trixie', undefined, '', DEBIAN, SOURCES).sources.map((s) => `${s.mirror} ${s.suite}`), [
    'http://one.example/debian trixie', 'http://one.example/debian trixie-updates', 'http://two.example/security trixie-security',
  ]);
  assert.deepEqual(findSuite('trixie', 'https://mine.example/d', '', DEBIAN, SOURCES).sources.map((s) => `${s.mirror} ${s.suite}`), ['https://mine.example/d trixie']);
  assert.deepEqual(findSuite('sid', undefined, '', DEBIAN, SOURCES).sources.map((s) => s.suite), ['sid']);
});

test('suites that are nobody\'s, or have no mirror here, are refused with what to do', () => {
  assert.throws(() => findSuite('warty', undefined, '', DEBIAN, SOURCES), /no suite that Veld knows/);
  assert.throws(() => findSuite('../etc', undefined, '', DEBIAN, SOURCES), /no name of a suite/);
  assert.throws(() => findSuite('noble', undefined, '', DEBIAN, SOURCES), /no mirror of Ubuntu/);
  assert.throws(() => findSuite('bookworm', 'ftp://x', '', DEBIAN, SOURCES), /not an http/);
  assert.throws(() => findSuite('bookworm', 'http://x [trusted=yes]', '', DEBIAN, SOURCES), /not an http/);
});
