import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, chownSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BASE_A, stateFolder, storageConformance } from './conformance.ts';
import { inNamespace } from './testing/namespace.ts';
import { createVolumes } from './volumes.ts';

storageConformance('folders', (stateDir) => createVolumes({ stateDir }));
storageConformance('folders, owners from 0', (stateDir) => createVolumes({ stateDir, ownersFromZero: true }));

test('the state folder is closed to others, and must be a real folder of root with a plain path', (t) => {
  const dir = stateFolder(t);
  mkdirSync(join(dir, 'open'), { mode: 0o755 });
  createVolumes({ stateDir: join(dir, 'open') });
  for (const folder of ['open', 'open/ves', 'open/layers']) assert.equal(statSync(join(dir, folder)).mode & 0o777, 0o700);

  const failed = { code: 'storage.failed' };
  symlinkSync('open', join(dir, 'link'));
  assert.throws(() => createVolumes({ stateDir: join(dir, 'link') }), failed);
  mkdirSync(join(dir, 'theirs'));
  chownSync(join(dir, 'theirs'), 1000, 0);
  assert.throws(() => createVolumes({ stateDir: join(dir, 'theirs') }), failed);
  mkdirSync(join(dir, 'swapped'));
  symlinkSync('../open/ves', join(dir, 'swapped/ves'));
  assert.throws(() => createVolumes({ stateDir: join(dir, 'swapped') }), failed);
  for (const name of ['a:b', 'a,b', 'a\\b', 'a b', 'a"b', 'a\nb']) assert.throws(() => createVolumes({ stateDir: join(dir, name) }), failed, name);
});

test('a layer of another range is renumbered where owners are to be written from 0: owners, modes, links, ACLs, capabilities, deleted files', async (t) => {
  const dir = stateFolder(t);
  const volumes = createVolumes({ stateDir: dir, ownersFromZero: true });
  const { id, path } = await volumes.stageLayer();
  chownSync(path, BASE_A, BASE_A);
  mkdirSync(join(path, 'folder'));
  writeFileSync(join(path, 'folder/tool'), 'x');
  chownSync(join(path, 'folder/tool'), BASE_A + 33, BASE_A + 34);
  chmodSync(join(path, 'folder/tool'), 0o4750);
  execFileSync('/usr/bin/setfacl', ['-m', `user:${BASE_A + 4}:r`, join(path, 'folder/tool')]);
  execFileSync('/usr/sbin/setcap', ['-n', String(BASE_A), 'cap_net_raw=ep', join(path, 'folder/tool')]);
  linkSync(join(path, 'folder/tool'), join(path, 'link'));
  execFileSync('/bin/mknod', [join(path, 'deleted'), 'c', '0', '0']);
  execFileSync('/usr/bin/setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', join(path, 'folder')]);
  const layer = await volumes.commitLayer(id, BASE_A);
  assert.equal(layer.uidBase, 0);
  const fs = volumes.layerPath(id);
  const tool = statSync(join(fs, 'folder/tool'));
  assert.deepEqual([statSync(fs).uid, tool.uid, tool.gid, tool.mode & 0o7777, tool.nlink], [0, 33, 34, 0o4750, 2]);
  assert.equal(statSync(join(fs, 'deleted')).rdev, 0);
  const said = (file: string, ...args: string[]): string => execFileSync(file, args, { cwd: fs, encoding: 'utf8' });
  assert.match(said('/usr/bin/getfacl', '-nc', 'link'), /^user:4:r--$/m);
  assert.doesNotMatch(said('/usr/sbin/getcap', '-n', 'link'), new RegExp(String(BASE_A)));
  assert.match(said('/usr/sbin/getcap', '-n', 'link'), /cap_net_raw=ep/);
  assert.match(said('/usr/bin/getfattr', '-d', '-m', '-', 'folder'), /^trusted.overlay.opaque="y"$/m);
  assert.deepEqual(readdirSync(join(dir, 'layers')), [id]);
  assert.deepEqual(readdirSync(join(dir, 'layers', id)), ['fs']);
});

test('a volume full of traps is destroyed, and nothing outside of it is touched', async (t) => {
  const dir = stateFolder(t);
  const volumes = createVolumes({ stateDir: join(dir, 'state') });
  const canary = join(dir, 'canary');
  mkdirSync(canary);
  writeFileSync(join(canary, 'file'), 'alive');
  const uuid = randomUUID();
  await volumes.createVolume(uuid, BASE_A);
  const tree = join(dir, 'state/ves', uuid, 'upper');
  symlinkSync(canary, join(tree, 'out'));
  symlinkSync('../../../../canary', join(tree, 'relative'));
  symlinkSync('loop', join(tree, 'loop'));
  linkSync(join(canary, 'file'), join(tree, 'hard'));
  execFileSync('/usr/bin/mkfifo', [join(tree, 'fifo')]);
  execFileSync('/bin/mknod', [join(tree, 'null'), 'c', '1', '3']);
  mkdirSync(join(tree, 'many'));
  for (let i = 0; i < 20_000; i += 1) writeFileSync(join(tree, 'many', `${i}`), '');
  writeFileSync(join(tree, '-rf'), '');
  writeFileSync(join(tree, Buffer.from([0xff, 0x0a, 0x80]).toString('latin1').repeat(40)), '');
  // Deeper than any path can name: made from the inside out.
  const name = 'd'.repeat(200);
  for (let i = 0; i < 60; i += 1) {
    mkdirSync(join(dir, 'nest'));
    if (existsSync(join(dir, name))) renameSync(join(dir, name), join(dir, 'nest', name));
    renameSync(join(dir, 'nest'), join(dir, name));
  }
  renameSync(join(dir, name), join(tree, name));
  mkdirSync(join(tree, 'fixed'));
  writeFileSync(join(tree, 'fixed/immutable'), '');
  writeFileSync(join(tree, 'fixed/append'), '');
  execFileSync('/usr/bin/chattr', ['+i', join(tree, 'fixed/immutable')]);
  execFileSync('/usr/bin/chattr', ['+a', join(tree, 'fixed/append')]);
  execFileSync('/usr/bin/chattr', ['+i', join(tree, 'fixed')]);

  assert.ok((await volumes.usage(uuid)) > 20_000);
  await volumes.destroyVolume(uuid);
  assert.deepEqual(readdirSync(join(dir, 'state/ves')), []);
  assert.deepEqual(readdirSync(canary), ['file']);
  assert.equal(readFileSync(join(canary, 'file'), 'utf8'), 'alive');
});

test('a volume in which something is mounted is not destroyed', async (t) => {
  const dir = stateFolder(t);
  const stateDir = join(dir, 'state');
  const volumes = createVolumes({ stateDir });
  mkdirSync(join(dir, 'canary'));
  writeFileSync(join(dir, 'canary/file'), 'alive');
  const uuid = randomUUID();
  await volumes.createVolume(uuid, BASE_A);
  const target = join(stateDir, 'ves', uuid, 'upper/in');
  mkdirSync(target);
  const result = await inNamespace({ kind: 'destroy', stateDir, uuid, bind: { source: join(dir, 'canary'), target } });
  assert.equal(result.code, 1);
  assert.match(result.stderr, /^storage\.failed .*mounted at/);
  assert.equal(volumes.hasVolume(uuid), true);
  assert.equal(readFileSync(join(dir, 'canary/file'), 'utf8'), 'alive');
  await volumes.destroyVolume(uuid); // here nothing is mounted
});

test('a full disk says so', async (t) => {
  const dir = stateFolder(t);
  const result = await inNamespace({ kind: 'full', mountpoint: dir, options: 'nr_inodes=5', uuid: randomUUID(), uidBase: BASE_A });
  assert.match(result.stderr, /^disk\.full /);
});

test('what a crash left half removed or half made is found and goes away', async (t) => {
  const dir = stateFolder(t);
  const volumes = createVolumes({ stateDir: dir });
  const [whole, half] = [randomUUID(), randomUUID()];
  await volumes.createVolume(whole, BASE_A);
  mkdirSync(join(dir, 'ves', half)); // died before upper and work
  renameSync(join(dir, 'ves', whole), join(dir, 'ves/.trash-0123456789abcdef')); // died before the removal
  const none = { volumes: new Set<string>(), layers: new Set<string>() };
  const { volumes: found } = createVolumes({ stateDir: dir }).orphans(none);
  assert.deepEqual(found.toSorted(), ['.trash-0123456789abcdef', half].toSorted());
  for (const name of found) await volumes.destroyVolume(name);
  assert.deepEqual(readdirSync(join(dir, 'ves')), []);
});

test('a freeze that died at any point is undone without loss', async (t) => {
  for (const point of ['freeze.begun', 'freeze.taken', 'freeze.named']) {
    const dir = stateFolder(t);
    const uuid = randomUUID();
    const layer = 'cd'.repeat(16);
    const volumes = createVolumes({ stateDir: dir });
    await volumes.createVolume(uuid, BASE_A);
    await volumes.seedVolume(uuid, BASE_A, [{ path: '/data', content: point }]);
    const program = `import { createVolumes } from ${JSON.stringify(new URL('volumes.ts', import.meta.url).href)};
      await createVolumes({ stateDir: ${JSON.stringify(dir)} }).freezeUpper('${uuid}', ${BASE_A}, '${layer}');`;
    assert.throws(() => execFileSync(process.execPath, ['--input-type=module', '-e', program], { env: { VELD_FAULT: `kill:${point}` }, stdio: 'pipe' }), { signal: 'SIGKILL' });
    const { interrupted } = volumes.orphans({ volumes: new Set([uuid]), layers: new Set() });
    assert.deepEqual(interrupted, [{ uuid, layer }], point);
    await volumes.unfreezeUpper(uuid, layer);
    const tree = join(dir, 'ves', uuid, 'upper');
    assert.equal(readFileSync(join(tree, 'data'), 'utf8'), point);
    const after = volumes.orphans({ volumes: new Set([uuid]), layers: new Set() });
    for (const name of after.volumes) await volumes.destroyVolume(name);
    assert.deepEqual([readdirSync(join(dir, 'layers')), readdirSync(join(dir, 'ves')), readdirSync(join(dir, 'ves', uuid)).toSorted()], [[], [uuid], ['upper', 'work']]);
  }
});
