import { test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { debianMirror, hostRelease, mirrorOf, packageSources, parseDeb822, parseOneLine } from './package-sources.ts';

const DEBIAN = hostRelease('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n');
const UBUNTU = hostRelease('PRETTY_NAME="Ubuntu 24.04 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n');

test('os-release: quoted and bare values, ID is not ID_LIKE', () => {
  assert.deepEqual(UBUNTU, { id: 'ubuntu', codename: 'noble', version: '24.04', title: 'Ubuntu 24.04 LTS' });
  assert.equal(DEBIAN.id, 'debian');
});

test('one-line sources: options, comments, source packages', () => {
  const found = parseOneLine(`# deb http://off.example/debian bookworm main
deb [arch=amd64,i386 signed-by=/k.gpg] http://one.example/debian bookworm main contrib # ours
deb-src http://one.example/debian bookworm main
 deb   http://two.example/flat ./
`);
  assert.deepEqual(found, [
    { uris: ['http://one.example/debian'], suites: ['bookworm'], components: ['main', 'contrib'], architectures: ['amd64', 'i386'] },
    { uris: ['http://two.example/flat'], suites: ['./'], components: [], architectures: [] },
  ]);
});

test('deb822 sources: several values, continuation, comments inside a stanza, disabled and source-only stanzas', () => {
  const found = parseDeb822(`Types: deb deb-src
# a snapshot
URIs: http://one.example/debian/
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /k.gpg

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://src.example/debian
Suites: bookworm
Components: main
`);
  assert.deepEqual(found, [{ uris: ['http://one.example/debian/'], suites: ['bookworm', 'bookworm-updates'], components: ['main'], architectures: [] }]);
});

test('the mirror of a suite is that of its main component; a mirror list gives its first entry', (t) => {
  const etc = mkdtempSync(join(tmpdir(), 'veld-apt-'));
  t.after(() => rmSync(etc, { recursive: true }));
  mkdirSync(join(etc, 'sources.list.d'));
  writeFileSync(join(etc, 'list'), '# mirrors\nhttps://listed.example/debian\n');
  writeFileSync(join(etc, 'sources.list'), `deb http://other.example/debian bookworm contrib\ndeb mirror+file:${etc}/list bookworm main\n`);
  writeFileSync(join(etc, 'sources.list.d', 'u.sources'), 'Types: deb\nURIs: http://u.example/debian/\nSuites: trixie\nComponents: main\n');
  writeFileSync(join(etc, 'sources.list.d', 'ignored.save'), 'deb http://old.example/debian bookworm main\n');
  const sources = packageSources(etc);
  assert.equal(mirrorOf('bookworm', sources), 'https://listed.example/debian');
  assert.equal(mirrorOf('trixie', sources), 'http://u.example/debian');
  assert.equal(mirrorOf('sid', sources), undefined);
});

test('the engine\'s mirror: configured, or the host\'s own on Debian, or a clear error', () => {
  const sources = parseOneLine('deb http://own.example/debian bookworm main\ndeb http://ubuntu.example/ubuntu noble main');
  assert.equal(debianMirror('https://set.example/debian/', UBUNTU, sources), 'https://set.example/debian');
  assert.equal(debianMirror('', DEBIAN, sources), 'http://own.example/debian');
  assert.throws(() => debianMirror('', UBUNTU, sources), (error: { code: string; hint: string }) => error.code === 'engine.failed' && /engine\.mirror/.test(error.hint));
  assert.throws(() => debianMirror('ftp://x', DEBIAN, sources), /not an http/);
});
