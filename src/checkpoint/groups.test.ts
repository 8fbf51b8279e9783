import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { fitGroupImage, fitGroups, fitWatches, unheldLimits } from './groups.ts';
import { image, message, number } from './testing/images.ts';

const work = mkdtempSync(join(tmpdir(), 'veld-groups-'));
after(() => rmSync(work, { recursive: true }));

const bytes = (field: number, content: string | Uint8Array): Buffer => message(field, Buffer.from(content as string));

// As criu 4.2 writes them (images/cgroup.proto).
const member = (name: string, path: string): Buffer => message(2, bytes(1, name), bytes(2, path), number(3, 14));
const set = (id: number, ...members: Buffer[]): Buffer => message(1, number(1, id), ...members);
const perms = (field: number): Buffer => message(field, number(1, 0o40755), number(2, 65_536), number(3, 65_536));
const property = message(3, bytes(1, 'pids.max'), bytes(2, 'max'), perms(3));
const folder = (field: number, name: string, ...parts: Buffer[]): Buffer => message(field, bytes(1, name), ...parts, perms(4));
const controller = (names: string[], ...folders: Buffer[]): Buffer => message(2, ...names.map((name) => bytes(1, name)), ...folders, number(3, 0));

test('of the groups of a hybrid host what is of cgroup2 stays, without what criu would write into files', () => {
  const hybrid = image(Buffer.concat([
    set(2, member('', '/veld-main/102/init.scope'), member('cpu,cpuacct', '/veld-main/102'), member('name=systemd', '/veld-main/102')),
    set(3, member('', '/veld-main/102/system.slice/ssh.service'), member('cpu,cpuacct', '/veld-main/102'), member('name=systemd', '/veld-main/102')),
    controller(['cpu', 'cpuacct'], folder(2, 'veld-main/102', property)),
    controller([''], folder(2, 'veld-main/102', folder(2, 'system.slice', folder(2, 'ssh.service', property), property), property)),
    controller(['name=systemd'], folder(2, 'veld-main/102', property)),
  ]));
  const unified = image(Buffer.concat([
    set(2, member('', '/veld-main/102/init.scope')),
    set(3, member('', '/veld-main/102/system.slice/ssh.service')),
    controller([''], folder(2, 'veld-main/102', folder(2, 'system.slice', folder(2, 'ssh.service')))),
  ]));
  assert.deepEqual(fitGroupImage(hybrid), unified);
  assert.deepEqual(fitGroupImage(unified), unified, 'what comes from a host with cgroup v2 is as it is to be');
  assert.throws(() => fitGroupImage(hybrid.subarray(0, -3)), { code: 'checkpoint.unusable' });
});

/** A file that watches others: images/fdinfo.proto, images/fsnotify.proto. */
const watcher = (...paths: (string | Buffer)[]): Buffer => Buffer.concat([
  number(1, 8), number(2, 5), message(13, number(1, 5), number(2, 0o2004000), message(4, number(1, 0)),
    ...paths.map((path, i) => message(5, number(1, 5), number(2, 77 + i), number(3, 2), number(6, i + 1), message(7, number(1, 8), number(2, 254), number(3, 99), bytes(4, path), number(5, 12))))),
]);

test('a watch of what only the memory controller has lies on another file where there is none, and comes back', () => {
  const others = ['/sys/fs/cgroup/system.slice/a.service/cgroup.events', '/etc/memory.events', '/sys/fs/cgroup/memory.events', Buffer.from([0x2f, 0xff, 0xfe])];
  const there = image(watcher('/sys/fs/cgroup/system.slice/a.service/memory.events', '/sys/fs/cgroup/user.slice/memory.events.local', ...others));
  const here = image(watcher('/sys/fs/cgroup/system.slice/a.service/cgroup.max.descendants', '/sys/fs/cgroup/user.slice/cgroup.max.depth', ...others));
  assert.deepEqual(fitWatches(there, () => false), here);
  assert.deepEqual(fitWatches(there, () => true), there);
  assert.deepEqual(fitWatches(here, () => true), there);
  assert.deepEqual(fitWatches(here, (group) => group === '/user.slice'),
    image(watcher('/sys/fs/cgroup/system.slice/a.service/cgroup.max.descendants', '/sys/fs/cgroup/user.slice/memory.events.local', ...others)));
});

test('a watch in a group that has no name is left out, and one of another file system stays', () => {
  const watch = (type: number, ...path: Buffer[]): Buffer => message(5, number(1, 5), number(2, 77), number(3, 2), number(6, 1), message(7, number(1, 8), number(2, type), number(3, 99), ...path, number(5, 12)));
  const file = (...watches: Buffer[]): Buffer => image(Buffer.concat([number(1, 8), number(2, 5), message(13, number(1, 5), ...watches)]));
  const [named, ext4] = [watch(254, bytes(4, '/sys/fs/cgroup/a/cgroup.events')), watch(1)];
  assert.deepEqual(fitWatches(file(named, watch(254), ext4), () => true), file(named, ext4));
});

test('any other image stays as it is, to the byte', () => {
  const text = fc.oneof(fc.string({ maxLength: 30 }), fc.uint8Array({ maxLength: 30 }));
  const field = fc.oneof(
    fc.tuple(fc.integer({ min: 1, max: 40 }), fc.nat()).map(([no, value]) => number(no, value)),
    fc.tuple(fc.constantFrom(3, 6, 16, 20), text).map(([no, content]) => bytes(no, content)),
    fc.array(text, { maxLength: 3 }).map((paths) => watcher(...paths.map((path) => Buffer.from(path as string)))),
  );
  fc.assert(fc.property(fc.array(fc.array(field, { maxLength: 8 }), { maxLength: 6 }), fc.boolean(), (messages, memory) => {
    const before = image(...messages.map((fields) => Buffer.concat(fields)));
    assert.ok(fitWatches(before, () => memory).equals(before));
  }));
});

test('a state is fitted to the controllers that there are: files are made anew, and only those that change', () => {
  const images = join(work, 'images');
  mkdirSync(images);
  const put = (name: string, content: Buffer | string): void => writeFileSync(join(images, name), content);
  const watching = (file: string): Buffer => image(watcher(`/sys/fs/cgroup/system.slice/a.service/${file}`));
  put('cgroup.img', image(set(2, member('', '/veld/1'), member('pids', '/veld/1'))));
  put('files.img', watching('memory.events'));
  linkSync(join(images, 'files.img'), join(work, 'another'));
  put('groups', 'cgroup.subtree_control:memory pids\nsystem.slice/cgroup.subtree_control:cpu memory\n');
  const inode = (): number => statSync(join(images, 'files.img')).ino;
  const first = inode();
  fitGroups({ images }, ['memory']);
  assert.deepEqual(readFileSync(join(images, 'cgroup.img')), image(set(2, member('', '/veld/1'))));
  assert.equal(inode(), first, 'nothing to do');
  fitGroups({ images }, []);
  assert.deepEqual(readFileSync(join(images, 'files.img')), watching('cgroup.max.descendants'));
  assert.deepEqual(readFileSync(join(work, 'another')), watching('memory.events'));
  put('groups', 'cgroup.subtree_control:memory pids\nsystem.slice/cgroup.subtree_control:cpu\n');
  fitGroups({ images }, ['memory']);
  assert.deepEqual(readFileSync(join(images, 'files.img')), watching('cgroup.max.descendants'), 'nobody hands it down');
  put('groups', 'system.slice/cgroup.subtree_control:cpu memory\n');
  fitGroups({ images }, ['memory']);
  assert.deepEqual(readFileSync(join(images, 'files.img')), watching('memory.events'));
});

/** Folders in the place of groups: `cgroup.controllers` is what they have. */
function fakeGroup(name: string, controllers: string, files: Record<string, string>): { run: string; group: string; state: string; script: (verb: 'save' | 'restore') => void; read: (file: string) => string } {
  const [run, group, state] = ['run', 'group', 'state'].map((part) => join(work, name, part)) as [string, string, string];
  for (const path of [run, group, state]) mkdirSync(path, { recursive: true });
  const uid = process.getuid!();
  writeFileSync(join(run, 'env'), `VELD_UNIFIED_GROUP='${group}'\nVELD_GROUP_PATH=/none\nVELD_UID_BASE=${uid}\n`);
  for (const [file, content] of Object.entries({ 'cgroup.controllers': `${controllers}\n`, ...files })) {
    mkdirSync(dirname(join(group, file)), { recursive: true });
    writeFileSync(join(group, file), content);
  }
  return {
    run, group, state,
    script: (verb) => assert.equal(spawnSync('/bin/sh', [join(import.meta.dirname, '../../libexec/veld-groups'), verb, run, state]).status, 0),
    read: (file) => readFileSync(join(group, file), 'utf8'),
  };
}

test('limits of a VE\'s own groups that a host cannot hold go along, and are held again where that can be', () => {
  const SAVED = ['cgroup.subtree_control:memory pids', 'a.slice/cgroup.subtree_control:memory', 'a.slice/b.service/memory.max:1000000', 'a.slice/cgroup.max.depth:7', 'gone.service/memory.max:5', 'a.slice/memory.max:4'];
  const hybrid = fakeGroup('hybrid', '', { 'cgroup.subtree_control': '', 'a.slice/cgroup.subtree_control': '', 'a.slice/cgroup.max.depth': 'max\n', 'a.slice/b.service/cgroup.procs': '' });
  writeFileSync(join(hybrid.state, 'groups'), `${SAVED.join('\n')}\n../memory.max:1\ncgroup.procs:1\n`);
  hybrid.script('restore');
  assert.equal(hybrid.read('a.slice/cgroup.max.depth'), '7\n');
  const unheld = readFileSync(join(hybrid.run, 'unheld'), 'utf8');
  assert.deepEqual(unheld.trim().split('\n').toSorted(), SAVED.filter((line) => !line.includes('depth')).toSorted());
  assert.equal(unheldLimits(unheld), 'memory.max of a.slice/b.service, gone.service, a.slice');
  rmSync(join(hybrid.state, 'groups'));
  hybrid.script('save');
  const saved = readFileSync(join(hybrid.state, 'groups'), 'utf8').trim().split('\n');
  assert.deepEqual(saved.toSorted(), SAVED.filter((line) => !line.startsWith('gone')).toSorted());

  const unified = fakeGroup('unified', 'cpu memory pids', { 'cgroup.subtree_control': '', 'a.slice/cgroup.subtree_control': '', 'a.slice/cgroup.max.depth': 'max\n', 'a.slice/memory.max': 'max\n', 'a.slice/b.service/memory.max': 'max\n' });
  writeFileSync(join(unified.state, 'groups'), `${saved.join('\n')}\n`);
  unified.script('restore');
  assert.equal(unified.read('a.slice/b.service/memory.max'), '1000000\n');
  assert.equal(unified.read('a.slice/memory.max'), '4\n');
  assert.equal(unified.read('cgroup.subtree_control'), '+pids\n'); // the last that was written
  assert.throws(() => readFileSync(join(unified.run, 'unheld')), { code: 'ENOENT' });
});

test('what is not held is said in few words', () => {
  assert.equal(unheldLimits(''), undefined);
  assert.equal(unheldLimits('system.slice/cgroup.subtree_control:memory\n'), undefined);
  assert.equal(unheldLimits(['a', 'b', 'c', 'd', 'e'].map((name) => `${name}.service/pids.max:9\n`).join('')), 'pids.max of a.service, b.service, c.service and 2 more');
  assert.equal(unheldLimits('a.service/pids.max:9\nb.service/pids.max:9\na.service/memory.high:9\n'), 'memory.high of a.service; pids.max of a.service, b.service');
});
