/**
 * What every storage driver promises, as tests: call {@link storageConformance} in the driver's test file.
 * Needs root; mounts happen in mount namespaces of their own.
 */
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountsBelow } from '../kernel/mounts.ts';
import type { LayerRef } from '../store/types.ts';
import { inNamespace } from './testing/namespace.ts';
import type { Volumes } from './types.ts';

/** Two VEs' ranges, far from those of real ones. */
export const BASE_A = 3000 * 65536;
export const BASE_B = 3001 * 65536;

const NOTHING = { volumes: [], layers: [], staged: [], interrupted: [] };

/**
 * A folder on a real file system (overlayfs takes no overlay, and tmpfs only without some features), removed after the test.
 * @param parent a folder of the file system
 */
export function stateFolder(t: TestContext, parent = '/var/tmp'): string {
  // The number tells the sweep of an interrupted run whose it was.
  const dir = mkdtempSync(join(parent, `veld-storage-${process.pid}-`));
  t.after(() => {
    // A driver may have mounted something.
    for (const target of mountsBelow(dir).toReversed()) execFileSync('/bin/umount', ['--', target]);
    rmSync(dir, { recursive: true, force: true });
  });
  return dir;
}

/** Run a script as the VE's root in its mounted root folder. @returns its output, trimmed */
async function inVe(t: TestContext, volumes: Volumes, uuid: string, uidBase: number, layers: LayerRef[], script: string): Promise<string> {
  const scratch = mkdtempSync('/var/tmp/veld-mount-');
  t.after(() => rmSync(scratch, { recursive: true, force: true }));
  const { code, stdout, stderr } = await inNamespace({ kind: 've', plan: volumes.mountPlan(uuid, uidBase, layers), uidBase, scratch, script });
  assert.equal(code, 0, stderr);
  return stdout.trim();
}

/** A small template with owners from 0. */
async function template(volumes: Volumes): Promise<LayerRef> {
  const { id, path } = await volumes.stageLayer();
  for (const folder of ['etc', 'home', 'bin', 'old/deep']) mkdirSync(join(path, folder), { recursive: true });
  for (const file of ['etc/os', 'home/mine', 'bin/ping', 'gone', 'old/a', 'old/deep/b']) writeFileSync(join(path, file), `${file}\n`);
  chownSync(join(path, 'home/mine'), 1000, 1000);
  chmodSync(join(path, 'bin/ping'), 0o4755);
  execFileSync('/usr/sbin/setcap', ['cap_net_raw=ep', join(path, 'bin/ping')]);
  symlinkSync('os', join(path, 'etc/link'));
  const record = await volumes.commitLayer(id, 0);
  assert.ok(record.size > 0 && record.uidBase === 0);
  assert.deepEqual(readdirSync(volumes.layerPath(id)).toSorted(), ['bin', 'etc', 'gone', 'home', 'old']);
  return { id, uidBase: 0 };
}

/** What a VE did to its root, seen from inside, whoever looks. */
const SEEN = 'stat -c "%n %u:%g %a" etc/new home/mine old; echo old/*; test ! -e gone && echo whiteout; getcap bin/tool bin/ping; cat etc/new';
const AS_SEEN = [
  'etc/new 33:33 640', 'home/mine 1000:1000 644', 'old 0:0 755', 'old/c', 'whiteout',
  'bin/tool cap_net_bind_service=ep', 'bin/ping cap_net_raw=ep', 'first',
].join('\n');
const CHANGES = [
  'echo first > etc/new; chown 33:33 etc/new; chmod 640 etc/new', 'rm gone; rm -r old; mkdir old; echo c > old/c',
  'echo tool > bin/tool; setcap cap_net_bind_service=ep bin/tool', SEEN,
].join('\n');

/** What a VE does to a file and a folder that have an ACL, so that overlayfs copies both; and how these look from inside then. */
const USE_ACLS = 'echo more >> log/old; echo new > log/new';
const ACLS = 'getfacl -nc log | grep "^.*:4:"; for f in log/old log/new; do getfacl -nc $f | grep ":4:"; stat -c "%u:%g" $f; done';
const AS_GIVEN = ['group:4:r-x', 'default:group:4:r-x', 'group:4:r--', '0:0', 'group:4:r-x\t#effective:r--', '0:0'].join('\n');

/**
 * The suite.
 * @param create the driver under test, for a state folder that is new and empty
 * @param parent where state folders are made: on the file system to be tested
 */
export function storageConformance(driver: string, create: (stateDir: string) => Volumes, parent?: string): void {
  const title = (text: string): string => `${driver}: ${text}`;

  void test(title('a VE sees its template with its own owners, and writes in its own range'), async (t) => {
    const volumes = create(stateFolder(t, parent));
    const base = await template(volumes);
    const uuid = randomUUID();
    assert.equal(volumes.hasVolume(uuid), false);
    await volumes.createVolume(uuid, BASE_A);
    assert.equal(volumes.hasVolume(uuid), true);
    await assert.rejects(volumes.createVolume(uuid, BASE_A), { code: 'storage.failed' });
    await volumes.seedVolume(uuid, BASE_A, [{ path: '/etc/hostname', content: 'web\n' }, { path: '/srv/x/y', content: 'z', mode: 0o600 }]);
    const seen = await inVe(t, volumes, uuid, BASE_A, [base], 'stat -c "%n %u:%g %a" . etc/hostname etc/os srv/x srv/x/y; cat etc/hostname; id -u; echo mine > home/mine');
    assert.equal(seen, '. 0:0 755\netc/hostname 0:0 644\netc/os 0:0 644\nsrv/x 0:0 755\nsrv/x/y 0:0 600\nweb\n0');
    assert.equal(await inVe(t, volumes, uuid, BASE_A, [base], CHANGES), AS_SEEN);
    await assert.rejects(volumes.seedVolume(uuid, BASE_A, [{ path: '/etc/x', content: '' }]), { code: 'storage.failed' }, 'it was mounted');
    assert.ok((await volumes.usage(uuid)) > 0);
    assert.equal(readFileSync(join(volumes.layerPath(base.id), 'home/mine'), 'utf8'), 'home/mine\n', 'the template is as it was');
  });

  void test(title('a frozen upper stands under its own VE, and idmapped under a VE of another range'), async (t) => {
    const volumes = create(stateFolder(t, parent));
    const base = await template(volumes);
    const [one, two] = [randomUUID(), randomUUID()];
    await volumes.createVolume(one, BASE_A, undefined, [base]);
    await inVe(t, volumes, one, BASE_A, [base], CHANGES);
    const frozen = await volumes.freezeUpper(one, BASE_A);
    const stack = [base, { id: frozen.id, uidBase: frozen.uidBase }];

    assert.equal(await inVe(t, volumes, one, BASE_A, stack, SEEN), AS_SEEN, 'the VE itself goes on');
    await volumes.createVolume(two, BASE_B, undefined, stack);
    assert.equal(await inVe(t, volumes, two, BASE_B, stack, SEEN), AS_SEEN, 'the other range');
    const change = 'echo second >> etc/new; rm old/c; setcap -r bin/tool; stat -c "%u:%g" etc/new; cat etc/new';
    assert.equal(await inVe(t, volumes, two, BASE_B, stack, change), '33:33\nfirst\nsecond');
    assert.equal(await inVe(t, volumes, one, BASE_A, stack, SEEN), AS_SEEN, 'and the first VE saw nothing of it');

    // Or programs take two files for one.
    const write = 'for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $n > etc/late$n; done';
    for (const [uuid, range] of [[one, BASE_A], [two, BASE_B]] as const) assert.equal(await inVe(t, volumes, uuid, range, stack, `${write}; find . -xdev -type f -links 1 -printf "%i\\n" | sort | uniq -d`), '', 'each file has a number of its own');

    const again = await volumes.freezeUpper(two, BASE_B);
    const three = [...stack, { id: again.id, uidBase: again.uidBase }];
    assert.equal(await inVe(t, volumes, two, BASE_B, three, 'cat etc/new; echo old/*; stat -c "%u:%g" etc/new'), 'first\nsecond\nold/*\n33:33', 'three layers of three ranges');
  });

  void test(title('a copy of an upper is a layer, and the upper stays what it is'), async (t) => {
    const volumes = create(stateFolder(t, parent));
    const base = await template(volumes);
    const [one, two] = [randomUUID(), randomUUID()];
    await volumes.createVolume(one, BASE_A);
    await inVe(t, volumes, one, BASE_A, [base], CHANGES);
    if (await volumes.upperSize(one, 1000) === undefined) return t.skip('no copy of an upper can be a layer there');
    const names = Number(execFileSync('/bin/sh', ['-c', 'find "$1" | wc -l', 'sh', join(volumes.mountPlan(one, BASE_A, [base]).volume, 'upper')], { encoding: 'utf8' }));
    assert.ok((await volumes.upperSize(one, names))!.bytes > 0);
    assert.equal(await volumes.upperSize(one, names - 1), undefined, 'one name too many');
    assert.equal(typeof await volumes.sharesBlocks(), 'boolean');

    const known = { volumes: new Set([one]), layers: new Set([base.id]) };
    const { id, from, to } = volumes.stageCopy(one);
    assert.equal(existsSync(to), false);
    // As libexec/veld-criu-hook does.
    execFileSync('/bin/cp', ['-a', '--reflink=auto', '-T', '--', from, to]);
    assert.deepEqual(volumes.orphans(known), { ...NOTHING, staged: [id] }, 'nobody knows it yet');
    const copy = await volumes.commitCopy(id, one, BASE_A);
    assert.ok(copy.size > 0);
    await inVe(t, volumes, one, BASE_A, [base], 'echo later > etc/new; rm old/c');

    const stack = [base, { id: copy.id, uidBase: copy.uidBase }];
    await volumes.createVolume(two, BASE_B);
    assert.equal(await inVe(t, volumes, two, BASE_B, stack, SEEN), AS_SEEN, 'as it was then, in another range');
    assert.equal(await inVe(t, volumes, one, BASE_A, [base], 'cat etc/new; echo old/*'), 'later\nold/*');
    assert.deepEqual(volumes.orphans(known), { ...NOTHING, volumes: [two], layers: [id] });
  });

  void test(title('ACLs name the same users and groups in a template, a VE, and VEs of other ranges that stand on it'), async (t) => {
    const volumes = create(stateFolder(t, parent));
    const { id, path } = await volumes.stageLayer();
    mkdirSync(join(path, 'log'));
    writeFileSync(join(path, 'log/old'), '');
    execFileSync('/usr/bin/setfacl', ['-m', 'group:4:rx,default:group:4:rx', join(path, 'log')]);
    execFileSync('/usr/bin/setfacl', ['-m', 'group:4:r', join(path, 'log/old')]);
    await volumes.commitLayer(id, 0);
    const stack: LayerRef[] = [{ id, uidBase: 0 }];
    for (const base of [BASE_A, BASE_B, BASE_A]) {
      const uuid = randomUUID();
      await volumes.createVolume(uuid, base);
      assert.equal(await inVe(t, volumes, uuid, base, stack, `${USE_ACLS}; ${ACLS}`), AS_GIVEN, `on ${stack.length} layers`);
      const frozen = await volumes.freezeUpper(uuid, base);
      stack.push({ id: frozen.id, uidBase: frozen.uidBase });
    }
  });

  void test(title('a freeze is undone, whole or cut short, unless the new upper was used'), async (t) => {
    const volumes = create(stateFolder(t, parent));
    const base = await template(volumes);
    const uuid = randomUUID();
    const known = { volumes: new Set([uuid]), layers: new Set([base.id]) };
    await volumes.createVolume(uuid, BASE_A);
    await inVe(t, volumes, uuid, BASE_A, [base], CHANGES);
    const layer = 'ab'.repeat(16);
    assert.equal((await volumes.freezeUpper(uuid, BASE_A, layer)).id, layer);
    assert.deepEqual({ ...volumes.orphans(known), volumes: [] }, { ...NOTHING, interrupted: [{ uuid, layer }] }, 'its data are never called an orphan');
    await volumes.unfreezeUpper(uuid, layer);
    await volumes.unfreezeUpper(uuid, layer);
    assert.equal(await inVe(t, volumes, uuid, BASE_A, [base], SEEN), AS_SEEN);
    const kept = await volumes.freezeUpper(uuid, BASE_A);
    await inVe(t, volumes, uuid, BASE_A, [base, { id: kept.id, uidBase: kept.uidBase }], 'echo used > etc/used');
    await assert.rejects(volumes.unfreezeUpper(uuid, kept.id), { code: 'storage.failed' });
  });

  void test(title('leftovers are found and removed, and what has a name stays'), async (t) => {
    const volumes = create(stateFolder(t, parent));
    const base = await template(volumes);
    const uuid = randomUUID();
    const known = { volumes: new Set([uuid]), layers: new Set([base.id]) };
    await volumes.createVolume(uuid, BASE_A);
    assert.deepEqual(volumes.orphans(known), NOTHING);
    const { id: staged } = await volumes.stageLayer();
    assert.deepEqual(volumes.orphans({ volumes: new Set(), layers: new Set() }), { volumes: [uuid], layers: [base.id], staged: [staged], interrupted: [] });
    await volumes.dropStaged(staged);
    await volumes.dropStaged(staged);
    await volumes.destroyVolume(uuid);
    await volumes.destroyVolume(uuid);
    assert.equal(volumes.hasVolume(uuid), false);
    await volumes.dropLayer(base.id);
    await volumes.dropLayer(base.id);
    assert.equal(existsSync(volumes.layerPath(base.id)), false);
    assert.deepEqual(volumes.orphans({ volumes: new Set(), layers: new Set() }), NOTHING);
  });

  void test(title('nonsense is refused'), async (t) => {
    const volumes = create(stateFolder(t, parent));
    const failed = { code: 'storage.failed' };
    for (const uuid of ['../x', '', 'a', '.', randomUUID().toUpperCase()]) {
      await assert.rejects(volumes.createVolume(uuid, BASE_A), failed);
      assert.throws(() => volumes.mountPlan(uuid, BASE_A, []), failed);
    }
    const uuid = randomUUID();
    for (const base of [-1, 1.5, 2 ** 32, Number.NaN]) await assert.rejects(volumes.createVolume(uuid, base), failed);
    await volumes.createVolume(uuid, BASE_A);
    assert.throws(() => volumes.mountPlan(uuid, BASE_A, [{ id: '0'.repeat(32), uidBase: 0 }]), failed, 'a layer that is missing');
    assert.throws(() => volumes.layerPath('../../etc'), failed);
    await assert.rejects(volumes.commitLayer('0'.repeat(32), 0), failed);
  });
}
