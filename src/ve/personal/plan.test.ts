import { test, type TestContext } from 'node:test';
import assert from 'node:assert/strict';
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { layRows, type GuestRow } from '../../kernel/guest-rows.ts';
import { openGuestRoot } from '../../kernel/guest-tree.ts';
import type { Personal } from '../../spec/personal.ts';
import type { VeContext } from '../context.ts';
import { planPersonal } from './plan.ts';
import { layersTree } from './tree.ts';

const BASE = 200_000;
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl alice';
const INSTANCE = { uuid: '0b0b0b0b-1111-4222-8333-444444444444', hostname: 'web', template: 'f'.repeat(64) };
const PASSWD = 'root:x:0:0:root:/root:/bin/bash\n';

type Content = Record<string, string | { link: string } | { mode: number; content?: string }>;

/** Layers of files, the lowest first, and what a VE on them gets. */
function world(t: TestContext, ...layers: Content[]) {
  const dir = mkdtempSync(join(tmpdir(), 'veld-personal-'));
  t.after(() => rmSync(dir, { recursive: true }));
  for (const [i, content] of layers.entries()) {
    const base = i === 0 ? 0 : BASE + i * 65_536;
    mkdirSync(join(dir, String(i)), { recursive: true });
    for (const [path, what] of Object.entries(content)) {
      const full = join(dir, String(i), path);
      mkdirSync(dirname(full), { recursive: true });
      if (typeof what === 'string') writeFileSync(full, what);
      else if ('link' in what) symlinkSync(what.link, full);
      else if (what.content === undefined) mkdirSync(full, { recursive: true });
      else writeFileSync(full, what.content);
      if (typeof what === 'object' && 'mode' in what) chmodSync(full, what.mode);
      if (base > 0 && process.getuid?.() === 0) chownSync(full, base, base + 42);
    }
  }
  const refs = layers.map((_, i) => ({ id: String(i), uidBase: i === 0 ? 0 : BASE + i * 65_536 }));
  const plan = async (personal: Personal): Promise<GuestRow[]> => {
    const tree = await layersTree({ volumes: { layerPath: (id: string) => join(dir, id) } } as unknown as VeContext, refs);
    try {
      return await planPersonal(tree, INSTANCE, personal);
    } finally {
      tree.close();
    }
  };
  const lay = async (personal: Personal): Promise<string> => {
    const target = join(dir, 'upper');
    mkdirSync(target);
    const root = await openGuestRoot(target);
    try {
      await layRows(root, await plan(personal), BASE);
    } finally {
      root.close();
    }
    return target;
  };
  return { plan, lay };
}

const system: Content = {
  'etc/passwd': PASSWD, 'etc/shadow': { mode: 0o640, content: 'root:*:1:0:99999:7:::\n' }, 'etc/group': 'root:x:0:\nsudo:x:27:\n', 'etc/debian_version': '12\n', 'root': { mode: 0o700 },
  'etc/sudoers.d': { mode: 0o750 }, 'etc/skel/.bashrc': '# bash\n', 'etc/skel/.config/x': { mode: 0o600, content: 'x' }, 'bin/bash': { mode: 0o755, content: '' },
};

test('an account: files, home, key, sudo; folders above stay as they are', { skip: process.getuid?.() !== 0 }, async (t) => {
  const { lay } = world(t, system);
  const upper = await lay({ users: [{ name: 'alice', sshKeys: [KEY], sudo: true }], root: { sshKeys: [KEY] } });
  const at = (path: string) => { const { mode, uid, gid } = statSync(join(upper, path)); return [(mode & 0o7777).toString(8), uid - BASE, gid - BASE].join(' '); };
  assert.equal(readFileSync(join(upper, 'etc/passwd'), 'utf8'), `${PASSWD}alice:x:1000:1000::/home/alice:/bin/bash\n`);
  assert.deepEqual(Object.fromEntries(['etc', 'etc/passwd', 'etc/shadow', 'etc/sudoers.d', 'etc/sudoers.d/90-veld-alice', 'home', 'home/alice', 'home/alice/.bashrc', 'home/alice/.config', 'home/alice/.config/x', 'home/alice/.ssh',
    'home/alice/.ssh/authorized_keys', 'root', 'root/.ssh', 'root/.ssh/authorized_keys'].map((path) => [path, at(path)])), {
    'etc': '755 0 0', 'etc/passwd': '644 0 0', 'etc/shadow': '640 0 0', 'etc/sudoers.d': '750 0 0', 'etc/sudoers.d/90-veld-alice': '440 0 0', 'home': '755 0 0', 'home/alice': '700 1000 1000',
    'home/alice/.bashrc': '644 1000 1000', 'home/alice/.config': '755 1000 1000', 'home/alice/.config/x': '600 1000 1000', 'home/alice/.ssh': '700 1000 1000', 'home/alice/.ssh/authorized_keys': '600 1000 1000',
    'root': '700 0 0', 'root/.ssh': '700 0 0', 'root/.ssh/authorized_keys': '600 0 0',
  });
  assert.equal(readFileSync(join(upper, 'home/alice/.ssh/authorized_keys'), 'utf8'), `${KEY}\n`);
  assert.match(readFileSync(join(upper, 'etc/sudoers.d/90-veld-alice'), 'utf8'), /^alice ALL=\(ALL:ALL\) NOPASSWD: ALL$/m);
  assert.ok(!existsSync(join(upper, 'etc/gshadow')), 'the template has none');
});

test('a password and a group do for sudo; without a group it is a file; without both it is refused', async (t) => {
  const sudo = { users: [{ name: 'alice', passwordHash: '$6$x', sudo: true }] };
  assert.ok(!(await world(t, system).plan(sudo)).some(({ path }) => path.includes('sudoers.d/')));
  const noGroup = await world(t, { ...system, 'etc/group': 'root:x:0:\n' }).plan(sudo);
  assert.match(String(noGroup.find(({ path }) => path.includes('sudoers.d/'))?.content), /ALL=\(ALL:ALL\) ALL$/m);
  await assert.rejects(world(t, { 'etc/passwd': PASSWD }).plan(sudo), { code: 'personal.invalid', message: /neither a group/ });
  await assert.rejects(world(t, { 'etc/x': '' }).plan(sudo), { code: 'personal.invalid', message: /no \/etc\/passwd/ });
});

test('what an upper layer says holds, by its own owners; links lead inside, and a circle of them ends', async (t) => {
  const { plan } = world(t, { ...system, home: { link: 'var/home' }, 'var/home': { link: '/usr/home' }, 'usr/home/x': '' }, { 'etc/passwd': `${PASSWD}alice:x:1000:1000::/:/bin/sh\n`, 'root/.ssh': { link: '/../../../../etc' } });
  await assert.rejects(plan({ users: [{ name: 'alice' }] }), { code: 'personal.invalid', message: /a user alice already/ });
  const rows = await plan({ users: [{ name: 'bob', sshKeys: [KEY] }], root: { sshKeys: [KEY] } });
  const passwd = rows.find(({ path }) => path === '/etc/passwd')!;
  if (process.getuid?.() === 0) assert.deepEqual([passwd.uid, passwd.gid], [0, 42]);
  assert.ok(rows.some(({ path }) => path === '/usr/home/bob/.ssh/authorized_keys'));
  assert.ok(rows.some(({ path }) => path === '/etc/authorized_keys'), 'as a program inside would: not on the host');
  await assert.rejects(world(t, { ...system, home: { link: 'home2' }, home2: { link: '/home' } }).plan({ users: [{ name: 'bob' }] }), { code: 'path.refused' });
});

test('the language goes where the template reads it', async (t) => {
  const placed = async (content: Content, locale = 'C.UTF-8') => Object.fromEntries((await world(t, content).plan({ locale })).filter(({ folder }) => !folder).map(({ path, content: text }) => [path, String(text)]));
  assert.deepEqual(await placed(system), { '/etc/default/locale': 'LANG=C.UTF-8\n' });
  assert.deepEqual(await placed({ 'etc/locale.conf': 'LANG=en_US\nLC_ALL=x\nLC_TIME=de_DE\n' }), { '/etc/locale.conf': 'LC_TIME=de_DE\nLANG=C.UTF-8\n' });
  assert.deepEqual(await placed({ 'etc/default/locale': { link: '../locale.conf' }, 'etc/locale.conf': '' }), { '/etc/locale.conf': 'LANG=C.UTF-8\n' });
  assert.deepEqual(await placed({ 'usr/lib/locale/de_DE.utf8/LC_TIME': '' }, 'de_DE.UTF-8'), { '/etc/locale.conf': 'LANG=de_DE.UTF-8\n' });
  await assert.rejects(placed(system, 'de_DE.UTF-8'), { code: 'personal.invalid', message: /no locale de_DE/ });
});

test('a time zone is a link to the template\'s own, or a copy of the host\'s', { skip: !existsSync('/usr/share/zoneinfo/Europe/Berlin') }, async (t) => {
  const own = await world(t, { ...system, 'etc/localtime': { link: '/usr/share/zoneinfo/Etc/UTC' }, 'usr/share/zoneinfo/Europe/Berlin': 'TZif2' }).lay({ timezone: 'Europe/Berlin' });
  assert.equal(readlinkSync(join(own, 'etc/localtime')), '/usr/share/zoneinfo/Europe/Berlin');
  assert.equal(readFileSync(join(own, 'etc/timezone'), 'utf8'), 'Europe/Berlin\n');
  const copy = await world(t, { 'etc/localtime': { link: '/usr/share/zoneinfo/Etc/UTC' } }).lay({ timezone: 'Europe/Berlin' });
  assert.ok(lstatSync(join(copy, 'etc/localtime')).isFile() && readFileSync(join(copy, 'etc/localtime')).equals(readFileSync('/usr/share/zoneinfo/Europe/Berlin')));
  assert.ok(!existsSync(join(copy, 'etc/timezone')));
  for (const timezone of ['Europe/Nowhere', 'Europe', 'tzdata']) await assert.rejects(world(t, system).plan({ timezone }), { code: 'personal.invalid', message: /no time zone/ });
});

test('cloud-init finds a seed and leaves what is Veld\'s; where it is not, only who asks hears of it', async (t) => {
  const cloud: Content = { ...system, 'usr/bin/cloud-init': '', 'var/lib/cloud/x': '' };
  const text = (rows: GuestRow[]) => Object.fromEntries(rows.filter(({ folder }) => !folder).map(({ path, content }) => [path, String(content)]));
  const seed = '/var/lib/cloud/seed/nocloud';
  assert.deepEqual(await world(t, system).plan({}), []);
  for (const without of [system, { ...cloud, 'etc/cloud/cloud-init.disabled': '' }]) await assert.rejects(world(t, without).plan({ cloudInit: { userData: '#!/bin/sh\n' } }), { code: 'template.no_cloud_init' });
  const plain = text(await world(t, cloud).plan({}));
  assert.deepEqual([plain[`${seed}/meta-data`], plain[`${seed}/user-data`]], [`instance-id: veld-${'f'.repeat(32)}\nlocal-hostname: web\n`, '#cloud-config\n{}\n']);
  assert.match(plain['/etc/cloud/cloud.cfg.d/99-veld.cfg']!, /^network: \{config: disabled\}\npreserve_hostname: true\nssh_deletekeys: false$/m);
  const asked = text(await world(t, { ...cloud, 'usr/share/zoneinfo/UTC': 'TZif' }).plan({ timezone: 'UTC', cloudInit: { userData: '#!/bin/sh\n', networkConfig: 'version: 2\n' } }));
  assert.equal(asked[`${seed}/meta-data`], `instance-id: ${INSTANCE.uuid}\nlocal-hostname: web\n`);
  assert.deepEqual([asked[`${seed}/user-data`], asked[`${seed}/network-config`], asked[`${seed}/vendor-data`]], ['#!/bin/sh\n', 'version: 2\n', undefined]);
  assert.doesNotMatch(asked['/etc/cloud/cloud.cfg.d/99-veld.cfg']!, /disabled/);
  assert.match(asked['/etc/cloud/cloud.cfg.d/99-veld.cfg']!, /^timezone: "UTC"$/m);
  assert.deepEqual(await world(t, { ...cloud, 'var/lib/cloud/seed/nocloud-net/user-data': '#cloud-config\n' }).plan({}), [], 'a seed of its own');
  assert.equal(text(await world(t, cloud, { 'var/lib/cloud/seed/nocloud/user-data': 'x', 'etc/cloud/cloud.cfg.d/99-veld.cfg': 'x' }).plan({}))[`${seed}/user-data`], '#cloud-config\n{}\n', 'Veld\'s own is written anew');
});
