/** Templates that are made of VEs: layers above those of their template, without what is one VE's alone; their versions; on other nodes; and daemons that die in between. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { OperationRecord } from '../../src/store/types.ts';
import type { Committed } from '../../src/ve/template-commit.ts';
import type { TemplateDiff } from '../../src/ve/template-diff.ts';
import type { VersionView } from '../../src/ve/template-versions.ts';
import type { TemplateView } from '../../src/ve/types.ts';
import { TEMPLATE } from '../lib/cache.ts';
import { fileInstance, type Instance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';
import { wordsWith } from '../lib/words.ts';

/** Models of warm images would come and go between what is counted here. */
const cold = { settings: (own: Instance['settings']): void => { own.deploy.warm = false; } };
const veld = await fileInstance(cold);
const other = await fileInstance(cold);
const { ok, refused, said } = wordsWith(veld);
const elsewhere = wordsWith(other);

const show = (name: string, of = veld): Promise<TemplateView> => of.json<TemplateView>('template', 'show', name);
const templates = async (): Promise<string[]> => (await veld.json<TemplateView[]>('template', 'list')).map(({ name }) => name);
const history = (name: string): Promise<VersionView[]> => veld.json<VersionView[]>('template', 'history', name);
const staged = (): string[] => readdirSync(join(veld.settings.stateDir, 'layers')).filter((name) => name.startsWith('.'));

/** A package without a network, and all that a disk can have in a layer: owners, modes, capabilities, attributes, hard links, holes, strange names; what is deleted and replaced of the template. */
const CHANGE = `set -e
mkdir -p /var/tmp/p/DEBIAN /var/tmp/p/opt/shop /srv/data; printf 'Package: shop\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: nobody <nobody@example.org>\\nDescription: a shop\\n' >/var/tmp/p/DEBIAN/control
echo shop >/var/tmp/p/opt/shop/file; dpkg-deb --build /var/tmp/p /var/tmp/p.deb >/dev/null; dpkg -i /var/tmp/p.deb >/dev/null 2>&1
cd /srv/data; echo one >a; ln a b; chmod 4755 a; chown 1000:1001 /srv/data; cp /bin/true cap; setcap cap_net_bind_service=ep cap 2>/dev/null || true
truncate -s 20M sparse; ln -s ../a link; mkfifo fifo; echo x >"$(printf 'bytes\\303\\244\\377')"
rm /etc/issue.net; rm -r /usr/share/doc; mkdir /usr/share/doc; echo new >/usr/share/doc/new; rm -rf /usr/share/man; echo file >/usr/share/man; echo changed >/etc/issue
mkdir -p /var/log/shop; echo old >/etc/ssh/ssh_host_ed25519_key; echo log >/var/log/shop/log; echo secret command >/root/.bash_history; echo x >/var/tmp/left
sync`;
const LOOK = 'cd / && { find srv opt usr/share/doc usr/share/man etc/issue \\( -type d -printf "%p %y %m %U:%G\\n" -o -printf "%p %y %m %U:%G %n %s %l\\n" \\) | sort; cat srv/data/a opt/shop/file usr/share/doc/new usr/share/man etc/issue; dpkg-query -W shop; getcap -r srv 2>/dev/null; ls etc/issue.net 2>&1; }';
let looked = '';

test('what a VE has changed becomes a layer above those of its template, and VEs of it have it', async () => {
  await veld.createRunning('web');
  await veld.booted('web');
  await said('web', CHANGE);
  looked = await said('web', `${LOOK} | cat -v`);
  const machine = await said('web', 'cat /etc/machine-id');
  await refused(7, /web is running/, 'template', 'commit', 'web', 'shop');
  await ok('stop', 'web');
  const made = (await veld.json<OperationRecord>('template', 'commit', 'web', 'shop', '--description', 'A shop')).result as Committed;
  const base = await show(TEMPLATE);
  assert.deepEqual(made.layers.slice(0, -1), base.layers, 'the layers of the template are shared');
  assert.deepEqual([made.layers.length, made.layers.at(-1)!.uidBase, made.source.baseName, made.source.ve, made.source.description, made.os], [base.layers.length + 1, 0, TEMPLATE, 'web', 'A shop', base.os]);
  assert.ok(made.layerSize < base.size / 4, `${made.layerSize} of ${base.size}`);
  const layer = join(veld.settings.stateDir, 'layers', made.layers.at(-1)!.id, 'fs');
  for (const gone of ['etc/ssh/ssh_host_ed25519_key', 'var/log/shop/log', 'root/.bash_history', 'var/tmp/left', 'tmp/p.deb', 'etc/hostname']) {
    assert.equal(existsSync(join(layer, gone)), false, gone);
  }
  for (const path of ['/etc/ssh/ssh_host_ed25519_key', '/var/log/shop/log', '/root/.bash_history', '/var/tmp/left']) assert.ok(made.cleaned.some((one) => one.path === path), path);
  assert.deepEqual(made.secrets, []);
  // The VE is as it was.
  await ok('start', 'web');
  assert.equal(await said('web', `cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key /var/log/shop/log /root/.bash_history`), `${machine}\nold\nlog\nsecret command`);

  for (const start of [['--start'], []]) {
    const name = start.length > 0 ? 'one' : 'two';
    await ok('create', name, '--template', 'shop', ...start);
    if (start.length === 0) await ok('start', name);
    assert.equal(await veld.booted(name), 'running');
    assert.equal(await said(name, `${LOOK} | cat -v`), looked);
    const id = await said(name, 'cat /etc/machine-id; hostname; cat /etc/hostname; test -d /var/log/shop; ls /var/log/shop');
    assert.match(id, new RegExp(`^(?!${machine})[0-9a-f]{32}\n${name}\n${name}$`));
    assert.match(await said(name, 'cat /etc/ssh/ssh_host_ed25519_key'), /BEGIN OPENSSH/, 'keys of its own: sshd is in a lower layer alone');
  }
  assert.notEqual(await said('one', 'cat /etc/ssh/ssh_host_ed25519_key.pub'), await said('two', 'cat /etc/ssh/ssh_host_ed25519_key.pub'));
  await ok('destroy', '--force', 'two');
});

test('the layers below stay as long as a template stands on them, and VEs keep theirs', async () => {
  await refused(16, /is used by web/, 'template', 'delete', TEMPLATE);
  await refused(16, /is used by one/, 'template', 'delete', 'shop');
  await ok('create', 'same', '--template', 'shop');
  await refused(79, /nothing to commit/, 'template', 'commit', 'same', 'nothing');
  await ok('destroy', 'same');
  await ok('stop', 'web');
  await refused(16, /There is a template named shop already/, 'template', 'commit', 'web', 'shop');
  await refused(15, /no template named other/, 'template', 'commit', 'web', 'other', '--replace');
});

test('a layered template goes into a file, and to another node, as one tree with the same fingerprint', async () => {
  const file = join(veld.dir, 'shop.tar');
  await ok('template', 'export', 'shop', '--file', file, '--compress', 'none');
  await elsewhere.ok('template', 'import', file, 'shop');
  const [here, there] = [await show('shop'), await show('shop', other)];
  assert.deepEqual([here.layers.length, there.layers.length], [2, 1]);
  assert.equal(there.fingerprint, here.fingerprint);
  await elsewhere.ok('create', 'web', '--template', 'shop', '--start');
  await other.booted('web');
  assert.equal(await elsewhere.said('web', `${LOOK} | cat -v`), looked);
  await elsewhere.ok('destroy', '--force', 'web');
  await elsewhere.ok('template', 'delete', 'shop');
  // A VE of it takes the template along.
  await said('one', 'echo mine >/root/mine');
  const ve = join(veld.dir, 'one.export');
  await ok('export', 'one', '--file', ve, '--with-template');
  await elsewhere.ok('import', '--file', ve, '--as', 'came');
  await elsewhere.ok('start', 'came');
  await other.booted('came');
  assert.equal(await elsewhere.said('came', `${LOOK} | cat -v`), looked);
  assert.equal(await elsewhere.said('came', 'cat /root/mine'), 'mine');
  assert.equal((await other.show('came')).template.fingerprint, here.fingerprint);
});

test('edit, the next version, history, differences, and back', async () => {
  assert.match(await ok('template', 'edit', 'shop'), /veld template commit edit-shop shop --replace/);
  await veld.booted('edit-shop');
  await said('edit-shop', `set -e; mkdir -p /var/tmp/p/DEBIAN /var/tmp/p/opt/shop; printf 'Package: shop\\nVersion: 2.0\\nArchitecture: all\\nMaintainer: nobody <nobody@example.org>\\nDescription: a shop\\n' >/var/tmp/p/DEBIAN/control
echo better >/var/tmp/p/opt/shop/file; dpkg-deb --build /var/tmp/p /var/tmp/p.deb >/dev/null; dpkg -i /var/tmp/p.deb >/dev/null; rm /srv/data/b; sync`);
  await ok('stop', 'edit-shop');
  assert.match(await ok('template', 'commit', 'edit-shop', 'shop', '--replace', '--description', 'A better shop'), /template shop made of edit-shop: .* above 2 shared layers/);
  await ok('destroy', 'edit-shop');
  const versions = await history('shop');
  assert.deepEqual(versions.map(({ number, name, current, ve, description, layers, uses }) => [number, name, current, ve, description, layers, uses]),
    [[2, 'shop', true, 'edit-shop', 'A better shop', 3, 0], [1, 'shop-v1', false, 'web', 'A shop', 2, 1]]);
  assert.deepEqual(await history('shop-v1'), versions);
  assert.equal((await veld.show('one')).template.name, 'shop-v1');
  const diff = await veld.json<TemplateDiff>('template', 'diff', 'shop-v1', 'shop', '--files');
  assert.deepEqual(diff.packages, { manager: 'dpkg', added: [], removed: [], changed: [{ name: 'shop', from: '1.0', to: '2.0' }] });
  const changes = diff.files!.map(({ path, change }) => `${change} ${path}`);
  for (const line of ['changed /opt/shop/file', 'removed /srv/data/b', 'changed /var/lib/dpkg/status']) assert.ok(changes.includes(line), `${line} in ${changes.join(', ')}`);
  assert.match(await ok('template', 'diff', TEMPLATE, 'shop'), /^\+ shop 2\.0$/m);
  await ok('create', 'new', '--template', 'shop', '--start');
  assert.equal(await said('new', 'cat /opt/shop/file; ls /srv/data/b 2>&1 | cat'), "better\nls: cannot access '/srv/data/b': No such file or directory");
  assert.equal(await said('one', 'cat /opt/shop/file'), 'shop');

  assert.match(await ok('template', 'rollback', 'shop'), /template shop is version 1; the one that it was is called shop-v2/);
  await refused(80, /no version before/, 'template', 'rollback', 'shop');
  await refused(80, /no version "7"/, 'template', 'rollback', 'shop', '7');
  assert.deepEqual((await history('shop')).map(({ number, name, current }) => [number, name, current]), [[2, 'shop-v2', false], [1, 'shop', true]]);
  await ok('create', 'older', '--template', 'shop', '--start');
  assert.equal(await said('older', 'cat /opt/shop/file'), 'shop');
  await refused(16, /is used by new/, 'template', 'delete', 'shop-v2');
  // A version goes, and what stands on its layers does not mind; its number is not given again.
  await ok('destroy', '--force', 'older', 'one');
  await ok('template', 'rollback', 'shop', 'v2');
  await ok('template', 'delete', 'shop-v1');
  await ok('restart', 'new');
  assert.equal(await said('new', 'cat /opt/shop/file /srv/data/a'), 'better\none');
  await said('new', 'echo three >/srv/three');
  await ok('stop', 'new');
  await ok('template', 'commit', 'new', 'shop', '--replace');
  assert.deepEqual((await history('shop')).map(({ number, name }) => [number, name]), [[3, 'shop'], [2, 'shop-v2']]);
  await ok('destroy', 'new');
});

test('secrets are listed, and refused unless they are allowed', async () => {
  await ok('start', 'web');
  const key = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  await said('web', `mkdir -p /root/.ssh; cat >/srv/key <<'END'\n${key}END\necho 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIabcdef me' >/root/.ssh/authorized_keys; echo 'root:hunter2' | chpasswd; ln -s /srv/key /srv/link; sync`);
  await ok('stop', 'web');
  const before = await templates();
  await refused(78, /3 things that look like secrets[\s\S]*a private key/, 'template', 'commit', 'web', 'leaky');
  const { error } = await veld.api.call<OperationRecord>('POST', '/v1/ves/web/commit', { name: 'leaky' }).then(({ id }) => until('it to end', async () => {
    const record = await veld.api.call<OperationRecord>('GET', `/v1/operations/${id}`);
    return record.state === 'running' ? undefined : record;
  }));
  assert.deepEqual((error!.details!.secrets as { path: string; kind: string }[]).map(({ path, kind }) => [path, kind]), [['/etc/shadow', 'password-hash'], ['/root/.ssh/authorized_keys', 'authorized-keys'], ['/srv/key', 'private-key']]);
  assert.deepEqual(await templates(), before);
  await until('what was half made to go', () => staged().length === 0, 20_000, 100);
  const made = (await veld.json<OperationRecord>('template', 'commit', 'web', 'leaky', '--allow-secrets', '--keep', '/root/.bash_history')).result as Committed;
  assert.deepEqual([made.secrets.length, made.source.secrets], [3, 3]);
  await ok('create', 'leak', '--template', 'leaky', '--start');
  assert.equal(await said('leak', 'cat /root/.bash_history'), 'secret command');
  await ok('destroy', '--force', 'leak');
  await ok('template', 'delete', 'leaky');
});

test('a daemon that dies in between, or a commit that is cancelled, leaves nothing half done', async () => {
  const before = await templates();
  const layers = (): string[] => readdirSync(join(veld.settings.stateDir, 'layers')).sort();
  const known = layers();
  for (const point of ['commit.copied', 'commit.scanned', 'phase:template-commit.commit']) {
    await veld.restart({ VELD_FAULT: `kill:${point}` });
    await veld.cliAcross(['template', 'commit', 'web', 'shop', '--replace', '--allow-secrets']);
    assert.deepEqual(await templates(), before, point);
    await until('what was half made to go', () => JSON.stringify(layers()) === JSON.stringify(known), 20_000, 100);
  }
  await veld.restart({ VELD_FAULT: 'kill:phase:template-roll-back.roll-back' });
  await veld.cliAcross(['template', 'rollback', 'shop']);
  assert.deepEqual((await history('shop')).map(({ number, name }) => [number, name]), [[3, 'shop'], [2, 'shop-v2']]);
  await ok('template', 'commit', 'web', 'shop', '--replace', '--allow-secrets');
  assert.deepEqual((await history('shop')).map(({ number, name }) => [number, name]), [[4, 'shop'], [3, 'shop-v3'], [2, 'shop-v2']]);
  await ok('template', 'delete', 'shop', 'shop-v3', 'shop-v2');
  await until('layers that nothing stands on to go', async () => layers().length === (await show(TEMPLATE)).layers.length, 20_000, 100);
});

test('a layered template has warm images, too', async () => {
  const warm = await fileInstance({ settings: (settings) => { settings.deploy.warm = true; } });
  const { ok, said } = wordsWith(warm);
  await ok('create', 'web', '--template', TEMPLATE, '--start');
  await warm.booted('web');
  await said('web', 'echo shop >/srv/shop; rm /etc/issue.net; sync');
  await ok('stop', 'web');
  await ok('template', 'commit', 'web', 'shop');
  await ok('template', 'warm', 'shop');
  await ok('create', 'one', '--template', 'shop', '--start');
  const one = await warm.show('one');
  assert.deepEqual([one.deployed, one.template.name], ['warm', 'shop']);
  assert.equal(await said('one', 'cat /srv/shop /etc/machine-id; ls /etc/issue.net 2>/dev/null | cat'), `shop\n${one.uuid.replaceAll('-', '')}`);
  // What it stands on is its own in part: the layer of the image, and what it has written.
  await said('one', 'echo more >/srv/more; sync');
  await ok('stop', 'one');
  await ok('template', 'commit', 'one', 'shop', '--replace');
  await ok('create', 'two', '--template', 'shop', '--start');
  assert.equal(await said('two', 'cat /srv/shop /srv/more'), 'shop\nmore');
  assert.match(await said('two', 'cat /etc/machine-id'), new RegExp((await warm.show('two')).uuid.replaceAll('-', '')));
});
