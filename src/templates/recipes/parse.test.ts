import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { VeldError } from '../../lib/errors.ts';
import { findSuite } from '../suites.ts';
import { listRecipes, loadRecipe } from './catalogue.ts';
import { DEFAULT_LIMITS, parseRecipe } from './parse.ts';

const refusal = (text: string): string => {
  try {
    parseRecipe(text, 'x.yaml');
  } catch (error) {
    assert.ok(error instanceof VeldError && error.code === 'recipe.invalid', String(error));
    return error.message;
  }
  return assert.fail(`taken: ${text.slice(0, 200)}`);
};

test('all that may stand in a recipe', () => {
  assert.deepEqual(parseRecipe('name: small\nfrom: debian-12\n', 'x.yaml'), {
    name: 'small', description: '', from: { suite: 'debian-12' }, init: 'systemd', mirror: null, packages: [], files: [], users: [], run: [], services: { enable: [], disable: [] }, limits: DEFAULT_LIMITS, tests: [],
  });
  const recipe = parseRecipe(`# A comment
name: shop-2.0
description: A shop
from: {template: debian-12-server}
packages:
  - apache2
  - libstdc++6
files:
  - path: /etc/motd
    content: |
      Hello
        you
    mode: "0644"
    owner: root:root
  - {path: /srv/logo.png, source: files/logo.png, owner: "33"}
users: [{name: deploy, uid: 1500, groups: [sudo], shell: /bin/bash, home: /srv/deploy, keys: ["ssh-ed25519 AAAA x"]}, {name: _w-1, system: true}]
run:
  - a2enmod rewrite
  - |
    cd /srv
    true
services: {enable: [apache2, "getty@tty1.service"], disable: [ssh]}
limits: {size: 1.5G, memory: 512M, time: 90s}
tests: [systemctl is-active apache2]
`, 'x.yaml');
  assert.deepEqual(recipe.from, { template: 'debian-12-server' });
  assert.deepEqual(recipe.files, [
    { path: '/etc/motd', content: 'Hello\n  you\n', source: null, mode: '0644', owner: 'root:root', line: 9 }, { path: '/srv/logo.png', content: null, source: 'files/logo.png', mode: '0644', owner: '33', line: 15 },
  ]);
  assert.deepEqual(recipe.users.map(({ name, uid, system, home }) => [name, uid, system, home]), [['deploy', 1500, false, '/srv/deploy'], ['_w-1', null, true, null]]);
  assert.deepEqual(recipe.run, [{ command: 'a2enmod rewrite', line: 18 }, { command: 'cd /srv\ntrue\n', line: 19 }]);
  assert.deepEqual(recipe.limits, { size: 1.5 * 2 ** 30, memory: 512 << 20, time: 90 });
});

test('each thing that is wrong has its line and its words', () => {
  const head = 'name: x\nfrom: debian-12\n';
  const wrong: [text: string, words: RegExp][] = [
    ['', /must be a mapping/], ['- x', /must be a mapping/], ['from: debian-12', /has no `name`/], ['name: x', /has no `from`/], ['name: 5\nfrom: a', /:1: name must be text: quote it, "5"/], ['name: Bad Name\nfrom: a', /:1: name is refused: "Bad Name" cannot be/],
    ['name: x\nfrom: [a]', /:2: from must be a mapping/], ['name: x\nfrom: {template: ../x}', /:2: from.template is no name of a template/], ['name: x\nfrom: "a b"', /from is no name of a suite/], ['name: x\nfrom: {}', /:2: from must be a suite/],
    ['name: x\nfrom: {template: a}\ninit: systemd', /:3: init is for suites/], ['name: x\nfrom: {template: a}\nmirror: http://x', /:3: mirror is for suites/],
    [`${head}init: upstart`, /:3: init must be one of systemd, sysvinit, busybox, none/], [`${head}mirror: ftp://x`, /:3: mirror must be an http/], [`${head}colour: red`, /:3: there is no key "colour"; keys are name, /],
    [`${head}__proto__: {}`, /there is no key "__proto__"/], [`${head}constructor: {}`, /there is no key "constructor"/], [`${head}name: y`, /:3: this is no YAML: Map keys must be unique/],
    [`${head}packages: apache2`, /:3: packages must be a list/], [`${head}packages:\n  - apache2\n  - "--force"`, /:5: packages\[1\] is no name of a package/], [`${head}packages: [a1, a1]`, /packages\[1\] is there twice/], [`${head}packages: [8]`, /packages\[0\] must be text/],
    [`${head}files: [{content: x}]`, /:3: files\[0\] has no `path`/], [`${head}files: [{path: /a}]`, /needs one of `content` and `source`/], [`${head}files: [{path: /a, content: x, source: y}]`, /needs one of/],
    [`${head}files: [{path: a, content: x}]`, /files\[0\].path must be an absolute path/], [`${head}files: [{path: /a/../b, content: x}]`, /must be an absolute path/], [`${head}files: [{path: /a/, content: x}]`, /must be an absolute path/],
    [`${head}files: [{path: /etc/hosts, content: x}]`, /is a file that each VE has of its own/], [`${head}files: [{path: /run/x, content: x}]`, /where nothing of a template is kept/], [`${head}files: [{path: /proc, content: x}]`, /where nothing/],
    [`${head}files:\n  - path: /a\n    content: x\n    mode: 0644`, /:6: files\[0\].mode must be text: quote it, "0644"/], [`${head}files: [{path: /a, content: x, mode: "888"}]`, /octal/], [`${head}files: [{path: /a, content: x, owner: "root root"}]`, /USER or USER:GROUP/],
    [`${head}files: [{path: /a, source: ../x}]`, /beside the recipe/], [`${head}files: [{path: /a, source: /etc/shadow}]`, /beside the recipe/], [`${head}files: [{path: /a, content: x, colour: red}]`, /no key "colour" in files\[0\]/],
    [`${head}files: [{path: /a, content: x}, {path: /a, content: y}]`, /files\[1\] is there twice/], [`${head}files: [{path: "/a\\nb", content: x}]`, /control characters/], [`${head}files: [{path: /a, content: "\\0"}]`, /control characters/],
    [`${head}users: [{}]`, /users\[0\] has no `name`/], [`${head}users: [{name: Root}]`, /is no name of a user/], [`${head}users: [{name: "-x"}]`, /is no name of a user/], [`${head}users: [{name: a, uid: 0}]`, /from 1 to 65533/], [`${head}users: [{name: a, uid: "5"}]`, /whole number/],
    [`${head}users: [{name: a, shell: bash}]`, /users\[0\].shell must be an absolute path/], [`${head}users: [{name: a, home: /a/../b}]`, /must be an absolute path/], [`${head}users: [{name: a, groups: ["a,b"]}]`, /is no name of a group/], [`${head}users: [{name: a, system: "yes"}]`, /true or false/],
    [`${head}users: [{name: a, keys: ["a\\nb"]}]`, /control characters/], [`${head}users: [{name: a, password: x}]`, /no key "password"/], [`${head}users: [{name: a}, {name: a}]`, /users\[1\] is there twice/],
    [`${head}run: true`, /run must be a list/], [`${head}run: [true]`, /run\[0\] must be text/], [`${head}run: [" "]`, /run\[0\] is empty/], [`${head}run: [{a: b}]`, /run\[0\] must be text/],
    [`${head}services: [a]`, /services must be a mapping/], [`${head}services: {start: [a]}`, /no key "start" in services/], [`${head}services: {enable: ["--now"]}`, /services.enable\[0\] is no name of a service/], [`${head}init: none\nservices: {enable: [a]}`, /make no sense without an init/],
    [`${head}limits: {size: 5}`, /limits.size must be text/], [`${head}limits: {size: big}`, /limits.size must be an amount of at least 1 MiB/], [`${head}limits: {size: 1000}`, /must be text/], [`${head}limits: {memory: 1M}`, /at least 64 MiB/],
    [`${head}limits: {time: 5}`, /must be text/], [`${head}limits: {time: 5d}`, /a time such as/], [`${head}limits: {time: 0s}`, /from 1 second/], [`${head}limits: {time: 25h}`, /24 hours/], [`${head}tests: [""]`, /tests\[0\] is empty/],
    ['name: &x a\nfrom: *x', /:1: anchors and aliases are not taken/], ['a: &a [x]\nb: [*a, *a]', /anchors and aliases/], ['<<: {name: x}', /there is no key "<<"/], ['name: !!binary aGk=', /:1: .*binary/], ['name: !x y', /:1: this is no YAML: Unresolved tag/],
    ['name: x\n---\nfrom: y', /:2: this is no YAML: .*multiple documents/], ['name: "x', /this is no YAML/], ['\tname: x', /this is no YAML/], ['? [a]\n: b', /this is no YAML: With stringKeys/], ['[[[', /this is no YAML/],
    ['['.repeat(100_000), /too deep/], [`a: ${'['.repeat(200)}${']'.repeat(200)}`, /:1: this lies too deep/], [Array.from({ length: 2000 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'), /256 KiB|too deep/], ['a'.repeat(300_000), /256 KiB/],
  ];
  for (const [text, words] of wrong) {
    const message = refusal(text);
    assert.match(message, words, text.slice(0, 200));
    assert.match(message, /^x\.yaml/);
  }
});

test('shell and settings of others are content, never more', () => {
  const { run, files } = parseRecipe(`name: x\nfrom: a\nrun: ["if [ -e x ]; then echo '{'; fi"]\nfiles: [{path: /a, content: "a: &b *c\\n\\t!!x"}]\n`, 'x.yaml');
  assert.deepEqual([run[0]!.command, files[0]!.content], ["if [ -e x ]; then echo '{'; fi", 'a: &b *c\n\t!!x']);
});

test('recipes of the node: shipped ones, those of the administrator, and files', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-recipes-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const [recipesDir, libexecDir] = [join(folder, 'etc'), join(folder, 'libexec')];
  for (const path of [recipesDir, libexecDir, join(folder, 'share/recipes')]) mkdirSync(path, { recursive: true });
  const places = { recipesDir, libexecDir };
  const put = (path: string, text: string): void => writeFileSync(join(folder, path), text);
  put('share/recipes/lamp.yaml', 'name: lamp\nfrom: a\ndescription: shipped\n');
  put('share/recipes/nodejs.yaml', 'name: nodejs\nfrom: a\n');
  put('etc/lamp.yaml', 'name: lamp\nfrom: {template: b}\ndescription: ours\n');
  put('etc/broken.yaml', 'x');
  put('etc/other.yaml', 'name: another\nfrom: a\n');
  put('etc/Bad Name.yaml', 'name: x\nfrom: a\n');
  assert.deepEqual(listRecipes(places).map(({ name, shipped, from, description, error }) => [name, shipped, from, description, error === null]), [
    ['broken', false, '', '', false], ['lamp', false, 'b', 'ours', true], ['nodejs', true, 'a', '', true], ['other', false, '', '', false],
  ]);
  assert.throws(() => loadRecipe(places, 'none'), { code: 'recipe.not_found' });
  assert.throws(() => loadRecipe(places, 'broken'), { code: 'recipe.invalid' });
  assert.throws(() => loadRecipe(places, 'other'), /its `name` is another/);
  assert.throws(() => loadRecipe(places, join(folder, 'none.yaml')), { code: 'recipe.not_found' });
  assert.throws(() => loadRecipe(places, folder), /not an ordinary file/);
  assert.equal(loadRecipe(places, join(recipesDir, 'other.yaml')).recipe.name, 'another');

  const file = join(folder, 'own.yaml');
  put('own.yaml', 'name: own\nfrom: a\nfiles:\n  - {path: /a, source: part/a}\n');
  mkdirSync(join(folder, 'part'));
  assert.throws(() => loadRecipe(places, file), /own\.yaml:4: part\/a cannot be read/);
  put('part/a', 'one');
  const one = loadRecipe(places, file);
  assert.equal(one.sources.get('part/a')!.toString(), 'one');
  assert.equal(loadRecipe(places, file).hash, one.hash);
  put('part/a', 'two');
  assert.notEqual(loadRecipe(places, file).hash, one.hash);
  rmSync(join(folder, 'part/a'));
  symlinkSync('/etc/hostname', join(folder, 'part/a'));
  assert.throws(() => loadRecipe(places, file), /leads out of the folder/);
  rmSync(join(folder, 'part/a'));
  symlinkSync('../etc/lamp.yaml', join(folder, 'part/a'));
  assert.match(loadRecipe(places, file).sources.get('part/a')!.toString(), /ours/);
});

test('the recipes that ship can be read, say what they are for, try what they make, and begin with suites that are known', () => {
  const folder = join(import.meta.dirname, '../../../share/recipes');
  const shipped = listRecipes({ recipesDir: '/nowhere', libexecDir: join(import.meta.dirname, '../../../libexec') });
  assert.deepEqual(shipped.map(({ name }) => `${name}.yaml`), readdirSync(folder).sort());
  assert.ok(shipped.length >= 8);
  for (const { name, error, description, file } of shipped) {
    assert.equal(error, null, name);
    assert.notEqual(description, '', name);
    const { recipe } = loadRecipe({ recipesDir: '/nowhere', libexecDir: join(import.meta.dirname, '../../../libexec') }, name);
    assert.ok(recipe.tests.length > 0, file);
    if (!('suite' in recipe.from)) continue;
    try {
      findSuite(recipe.from.suite, 'http://mirror.example', '');
    } catch (reason) {
      assert.match((reason as Error).message, /Ubuntu's keyring/, name); // not a fault of the recipe
    }
  }
});
