import { test } from 'node:test';
import assert from 'node:assert/strict';
import { hostRelease, parseOneLine } from '../kernel/package-sources.ts';
import { templateName } from './builder.ts';
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

test('a suite has the names that people say', () => {
  const codename = (name: string): string => findSuite(name, 'https://mine.example/d', '', DEBIAN, SOURCES).codename;
  assert.deepEqual(['debian-11', 'debian-12', 'debian-13', 'debian-14', 'debian-testing', 'debian-sid', 'bullseye'].map(codename),
    ['bullseye', 'bookworm', 'trixie', 'forky', 'testing', 'sid', 'bullseye']);
  assert.throws(() => findSuite('ubuntu-24.04', undefined, '', DEBIAN, SOURCES), /no mirror of Ubuntu noble/);
  for (const wrong of ['debian-9', 'constructor', 'debian-']) assert.throws(() => codename(wrong), /no suite that Veld knows/);
});

test('a template is named after its suite and its init', () => {
  assert.deepEqual([templateName({}, 'debian-12'), templateName({ init: 'systemd' }, 'debian-12'), templateName({ init: 'busybox' }, 'debian-12'),
    templateName({ init: 'none' }, 'debian-12'), templateName({ init: 'none', name: 'mine' }, 'debian-12')],
  ['debian-12', 'debian-12', 'debian-12-busybox', 'debian-12-app', 'mine']);
});

test('suites that are nobody\'s, or have no mirror here, are refused with what to do', () => {
  assert.throws(() => findSuite('warty', undefined, '', DEBIAN, SOURCES), /no suite that Veld knows/);
  assert.throws(() => findSuite('../etc', undefined, '', DEBIAN, SOURCES), /no name of a suite/);
  assert.throws(() => findSuite('noble', undefined, '', DEBIAN, SOURCES), /no mirror of Ubuntu/);
  assert.throws(() => findSuite('bookworm', 'ftp://x', '', DEBIAN, SOURCES), /not an http/);
  assert.throws(() => findSuite('bookworm', 'http://x [trusted=yes]', '', DEBIAN, SOURCES), /not an http/);
});
