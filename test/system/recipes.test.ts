/** Templates from recipes: what is done and tried in throw-away VEs becomes a template, and what fails leaves nothing. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { OperationRecord } from '../../src/store/types.ts';
import type { TemplateView } from '../../src/ve/types.ts';
import { TEMPLATE } from '../lib/cache.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';
import { wordsWith } from '../lib/words.ts';

/** All points at which a daemon can die. */
const FULL = process.env.VELD_TEST_FULL !== undefined;
const veld = await fileInstance({
  settings: (own) => {
    own.recipesDir = join(own.stateDir, '../recipes');
    own.deploy.warm = false; // what stands ready of a template would be in the way of what is looked for here
    mkdirSync(own.recipesDir, { recursive: true });
  },
});
const { ok, refused, said } = wordsWith(veld);

/** Write a recipe of the node's. @returns its name */
function recipe(name: string, text: string): string {
  writeFileSync(join(veld.settings.recipesDir, `${name}.yaml`), `name: ${name}\n${text}`);
  return name;
}
const templates = async (): Promise<string[]> => (await veld.json<TemplateView[]>('template', 'list')).map(({ name }) => name);
const layers = (): string[] => readdirSync(join(veld.settings.stateDir, 'layers')).sort();
const show = (name: string): Promise<TemplateView> => veld.json<TemplateView>('template', 'show', name);
/** Nothing of a build is there: neither a VE nor a tree, a group or a link. */
async function nothingOf(before: { layers: string[]; templates: string[] }, what: string): Promise<void> {
  await until(`what was made of ${what} to go`, () => JSON.stringify(layers()) === JSON.stringify(before.layers), 20_000, 100);
  assert.deepEqual(await templates(), before.templates, what);
  assert.deepEqual(readdirSync(join(veld.settings.stateDir, 'ves')).filter((name) => !name.startsWith('.')), [], what);
  assert.deepEqual(readdirSync(join(veld.settings.runDir, 'ves')), [], what);
  assert.deepEqual(veld.outline().filter((line) => /build-|vd-|veth/.test(line)), [], what);
}
const now = async (): Promise<{ layers: string[]; templates: string[] }> => ({ layers: layers(), templates: await templates() });

const SHOP = `description: A small shop
from: {template: ${TEMPLATE}}
users:
  - name: deploy
    uid: 1234
    groups: [shop, adm]
    keys: [ssh-ed25519 AAAA somebody]
  - {name: worker, system: true}
files:
  - path: /etc/systemd/system/shop.service
    content: |
      [Service]
      ExecStart=/usr/local/bin/shop
      [Install]
      WantedBy=multi-user.target
  - {path: /usr/local/bin/shop, source: shop.sh, mode: "0755"}
  - {path: /srv/shop/secret, content: s3cret, mode: "0640", owner: "root:shop"}
  - {path: /etc/localtime, content: none}
run:
  - echo "built by $(id -un) on $(hostname)" >/srv/shop/built; [ "$(cat /proc/1/comm)" != systemd ]
  - |
    # nothing of the build is kept
    echo log >/var/log/x; echo tmp >/tmp/x; echo run >/run/x; touch /root/.bash_history
    nohup sh -c 'while :; do date >/tmp/clock; sleep 0.01; done' >/dev/null 2>&1 &
  - ln /srv/shop/secret /srv/shop/again; setfattr -n user.kind -v shop /srv/shop/secret 2>/dev/null || true
services: {enable: [shop], disable: [ssh]}
limits: {size: 2G, time: 60s}
tests:
  - systemctl is-active shop
  - '! systemctl is-active ssh'
  - test "$(stat -c %U:%G:%a:%h /srv/shop/secret)" = root:shop:640:2
`;

test('a recipe becomes a template, and a VE of it is as it says', async () => {
  writeFileSync(join(veld.settings.recipesDir, 'shop.sh'), '#!/bin/sh\nexec sleep infinity\n');
  recipe('shop', SHOP);
  assert.match(await ok('template', 'recipes'), new RegExp(`shop +here +${TEMPLATE} +A small shop`));
  const before = await now();
  assert.match(await ok('template', 'build', 'shop'), /template shop built/);
  const shop = await show('shop');
  const base = await show(TEMPLATE);
  assert.deepEqual([shop.os, shop.release, shop.architecture, shop.source.kind, shop.source.base, shop.source.tests], [base.os, base.release, base.architecture, 'recipe', TEMPLATE, 3]);
  assert.deepEqual(layers(), [...before.layers, shop.layers[0]!.id].sort(), 'one layer more, and nothing else');
  assert.deepEqual(await veld.list(), []);
  await ok('create', 'web', '--template', 'shop', '--start');
  assert.equal(await veld.booted('web'), 'running');
  assert.equal(await said('web', 'cat /srv/shop/built'), 'built by root on localhost');
  assert.equal(await said('web', 'id deploy'), 'uid=1234(deploy) gid=1234(deploy) groups=1234(deploy),4(adm),1000(shop)');
  assert.equal(await said('web', 'stat -c %U:%a /home/deploy/.ssh/authorized_keys; cat /home/deploy/.ssh/authorized_keys'), 'deploy:600\nssh-ed25519 AAAA somebody');
  assert.equal(await said('web', 'cat /etc/localtime; test -L /etc/localtime || echo file'), 'nonefile');
  assert.equal(await said('web', 'ls -d /tmp/x /var/log/x /run/x /root/.bash_history /usr/sbin/policy-rc.d /etc/.veld-resolv.conf /run/veld-keeper 2>/dev/null; cat /etc/hostname'), 'web');
  assert.match(await said('web', 'cat /etc/resolv.conf'), /nameserver/);
  // Attributes of the base have come through the VE as they were.
  const caps = (id: string): string => execFileSync('/bin/sh', ['-c', 'cd "$0" && find . -xdev -print0 | sort -z | xargs -0 getfattr -h -m - -d -e hex 2>/dev/null | grep -A1 ping || true', join(veld.settings.stateDir, 'layers', id, 'fs')], { encoding: 'utf8' });
  assert.equal(caps(shop.layers[0]!.id), caps(base.layers.at(-1)!.id));
  await ok('destroy', '--force', 'web');
});

test('built again it is the very same, and takes the place of another one only when told', async () => {
  const before = await now();
  const { fingerprint } = await show('shop');
  await refused(16, /The same content is already there as shop/, 'template', 'build', 'shop', '--name', 'twice');
  await refused(16, /There is a template named shop already/, 'template', 'build', 'shop');
  await ok('template', 'build', 'shop', '--replace');
  assert.equal((await show('shop')).fingerprint, fingerprint);
  await nothingOf(before, 'the same again');

  recipe('shop', SHOP.replace('s3cret', 'another'));
  await ok('template', 'build', 'shop', '--replace');
  const newer = await show('shop');
  assert.notEqual(newer.fingerprint, fingerprint);
  assert.deepEqual(await templates(), before.templates, 'nobody stood on the older one');
  await ok('create', 'web', '--template', 'shop');
  recipe('shop', SHOP);
  const { stderr } = await veld.cli('template', 'build', 'shop', '--replace');
  assert.match(stderr, /VEs stand on the older one, which is called shop-\d{8} now/);
  assert.equal((await show('shop')).fingerprint, fingerprint);
  await ok('destroy', '--force', 'web');
  await ok('template', 'delete', (await templates()).find((name) => name.startsWith('shop-'))!);
});

test('one stands on another, and packages come by its own apt', async () => {
  // A repository of one package, in the template itself: nobody outside of this machine is asked.
  const folder = join(veld.dir, 'deb');
  for (const path of ['hello/DEBIAN', 'hello/usr/bin', 'hello/usr/share/doc/veld-hello', 'hello/etc/init.d']) mkdirSync(join(folder, path), { recursive: true });
  writeFileSync(join(folder, 'hello/DEBIAN/control'), 'Package: veld-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: hello\n');
  writeFileSync(join(folder, 'hello/DEBIAN/postinst'), '#!/bin/sh -e\necho "$DEBIAN_FRONTEND $SOURCE_DATE_EPOCH" >/srv/installed\ninvoke-rc.d hello start\n', { mode: 0o755 });
  writeFileSync(join(folder, 'hello/etc/init.d/hello'), '#!/bin/sh\n### BEGIN INIT INFO\n# Provides: hello\n### END INIT INFO\necho started >/srv/started\n', { mode: 0o755 });
  writeFileSync(join(folder, 'hello/usr/bin/veld-hello'), '#!/bin/sh\necho hello\n', { mode: 0o755 });
  writeFileSync(join(folder, 'hello/usr/share/doc/veld-hello/manual'), 'long\n');
  execFileSync('/usr/bin/dpkg-deb', ['--root-owner-group', '--build', join(folder, 'hello'), join(veld.settings.recipesDir, 'hello.deb')]);
  const deb = execFileSync('/bin/sh', ['-c', 'cd "$0" && echo "Size: $(stat -c %s hello.deb)" && echo "SHA256: $(sha256sum hello.deb | cut -d" " -f1)"', veld.settings.recipesDir], { encoding: 'utf8' });
  writeFileSync(join(veld.settings.recipesDir, 'Packages'), `Package: veld-hello\nVersion: 1.0\nArchitecture: all\nFilename: ./hello.deb\n${deb}Description: hello\n`);
  recipe('depot', `from: {template: ${TEMPLATE}}
files:
  - {path: /srv/depot/hello.deb, source: hello.deb}
  - {path: /srv/depot/Packages, source: Packages}
  - {path: /etc/apt/sources.list.d/veld.sources, content: "Types: deb\\nURIs: file:/srv/depot\\nSuites: ./\\nTrusted: yes\\n"}
`);
  recipe('greeter', 'from: {template: depot}\npackages: [veld-hello]\ntests: ["test $(veld-hello) = hello"]\n');
  await refused(15, /no template "depot"(.|\n)*veld template build depot/, 'template', 'build', 'greeter');
  await ok('template', 'build', 'depot');
  await ok('template', 'build', 'greeter');
  assert.deepEqual([(await show('greeter')).source.base, (await show('greeter')).source.include], ['depot', ['veld-hello']]);
  await ok('create', 'web', '--template', 'greeter', '--start');
  assert.equal(await said('web', 'veld-hello; cat /srv/installed; ls /srv/started /usr/share/doc/veld-hello/manual /var/lib/apt/lists/partial 2>/dev/null; true'), 'hello\nnoninteractive 1704067200');
  await ok('destroy', '--force', 'web');
  recipe('greeter', 'from: {template: depot}\npackages: [veld-nothing]\n');
  await refused(18, /install veld-nothing ended with status 100; its last words were: .*Unable to locate package veld-nothing/, 'template', 'build', 'greeter', '--name', 'void');
  for (const name of ['greeter', 'depot']) await ok('template', 'delete', name);
});

test('what fails is refused, each in its own words, and leaves nothing but its log', async () => {
  const before = await now();
  const from = `from: {template: ${TEMPLATE}}\n`;
  const bad = async (code: number, words: RegExp, text: string): Promise<void> => {
    await refused(code, words, 'template', 'build', recipe('bad', text));
    await nothingOf(before, text);
  };
  await bad(18, /bad\.yaml:3: echo one; echo two; false ended with status 1; its last words were: one \/ two(.|\n)*veld template log bad/, `${from}run: [echo one; echo two; false]\n`);
  assert.match(await ok('template', 'log', 'bad'), /^== \S+ bad\.yaml:3: echo one; echo two; false\none\ntwo\n== \S+ it came to nothing: /m);
  await bad(18, /bad\.yaml:3: test: grep -q nothing .* ended with status/, `${from}tests: [grep -q nothing /etc/hostname]\n`);
  await bad(18, /user daemon ended with status 9; .*already exists/, `${from}users: [{name: daemon}]\n`);
  await bad(18, /file \/etc ended with status 1; .*is a folder/, `${from}files: [{path: /etc, content: x}]\n`);
  await bad(18, /file \/srv\/x ended with status 1; .*invalid user/, `${from}files: [{path: /srv/x, content: x, owner: nobody-there}]\n`);
  await bad(18, /enable nonsense ended with status 1/, `${from}services: {enable: [nonsense]}\n`);
  await bad(18, /sleep 100 did not end within 1 s/, `${from}run: [sleep 100]\nlimits: {time: 1s}\n`);
  await bad(18, /The tree has more than the 8 MiB that its recipe allows/, `${from}limits: {size: 8M}\n`);
  await bad(18, /(kill -9 -1|clean up) (ended|failed)/, `${from}run: [kill -9 -1]\n`);
  await bad(18, /veld-keeper\); sleep 1 (ended|failed)/, `${from}run: [kill -9 $(cat /run/veld-keeper); sleep 1]\n`);
  await bad(88, /bad\.yaml:3: there is no key "colour"/, `${from}colour: red\n`);
  await bad(18, /no suite that Veld knows/, 'from: debian-99\n');
  await refused(88, /no file/, 'template', 'build', './none.yaml');
  await refused(88, /No build of "other"/, 'template', 'log', 'other');
  await refused(12, /cannot be the name/, 'template', 'build', 'shop', '--name', 'Bad Name');
  await refused(2, /--replace is for recipes/, 'template', 'build', 'host', '--replace');
  // The host's own, and the base's, were out of reach.
  await bad(18, /test -e/, `${from}run: ["test -e ${veld.settings.stateDir}"]\n`);
});

test('cancelled, or with a daemon that dies anywhere, nothing is half there', async () => {
  const before = await now();
  recipe('slow', `from: {template: ${TEMPLATE}}\nrun: [echo begun; sleep 600]\n`);
  const { id } = await veld.api.call<OperationRecord>('POST', '/v1/templates/recipe', { recipe: 'slow' });
  await until('its line to run', async () => (await veld.cli('template', 'log', 'slow')).stdout.includes('begun\n'), 30_000, 100);
  await refused(16, /is being built already/, 'template', 'build', 'slow');
  assert.deepEqual(await veld.list(), [], 'nobody sees the VE in which it is made');
  await refused(16, /is used by build-/, 'template', 'delete', TEMPLATE);
  await ok('operation', 'cancel', id);
  await until('it to end', async () => (await veld.api.call<OperationRecord>('GET', `/v1/operations/${id}`)).state === 'cancelled', 20_000, 50);
  await nothingOf(before, 'what was cancelled');

  recipe('quick', `from: {template: ${TEMPLATE}}\nrun: [echo quick >/srv/quick]\ntests: [test -e /srv/quick]\n`);
  for (const point of FULL ? ['phase:template-build.make', 'recipe.step', 'recipe.taken', 'recipe.layer', 'recipe.test', 'phase:template-build.commit'] : ['recipe.taken', 'recipe.test']) {
    await veld.restart({ VELD_FAULT: `kill:${point}` });
    await veld.cliAcross(['template', 'build', 'quick']);
    await nothingOf(before, point);
  }
  await ok('template', 'build', 'quick');
  await ok('template', 'delete', 'quick');
  await ok('template', 'delete', 'shop');
});
