import { test } from 'node:test';
import type { TestContext } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chownSync, existsSync, lstatSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { getXattr, listXattrs } from '../kernel/syscalls.ts';
import { run } from '../lib/run.ts';
import { BASE_A, BASE_B, stateFolder } from './conformance.ts';
import { inNamespace } from './testing/namespace.ts';
import { describeTree, LIMITS, receive, streamOf, transferRound } from './testing/trees.ts';
import type { HeaderFields } from './testing/trees.ts';
import { packTree, unpackTree } from './transfer.ts';
import type { Tree } from './transfer.ts';
import { createVolumes } from './volumes.ts';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };
const BASE = BASE_A;

function targetFolder(t: TestContext): { dir: string; target: string } {
  const dir = stateFolder(t);
  const target = join(dir, 'target');
  mkdirSync(target);
  chownSync(target, BASE, BASE);
  return { dir, target };
}

/** A file capability (struct vfs_ns_cap_data of linux/capability.h). */
function capability(version: number, size: number, root = 0): Buffer {
  const value = Buffer.alloc(size);
  value.writeUInt32LE(version << 24);
  value.writeUInt32LE(1 << 13, 4);
  if (version === 3) value.writeUInt32LE(root, 20);
  return value;
}

const CAP = 'SCHILY.xattr.security.capability';

test('a stream that breaks a rule is refused by name, and nothing is left of what it wanted', needsRoot, async (t) => {
  const { target } = targetFolder(t);
  const cases: [HeaderFields, RegExp][] = [
    [{ path: '/etc/shadow' }, /leads out/],
    [{ path: 'a/../../etc/shadow' }, /leads out/],
    [{ path: '..', type: '5' }, /leads out/],
    [{ path: '' }, /leads out/],
    [{ path: './', type: '2', link: '/etc' }, /root that is no folder/],
    [{ path: 'x', pax: { path: '../x' } }, /leads out/],
    [{ path: 'x', pax: { 'GNU.sparse.name': '../x', path: 'x' } }, /leads out/],
    [{ path: 'x', pax: { path: 'p/'.repeat(2100) } }, /longer than 4096/],
    [{ path: 'x', type: '2', link: 'l', pax: { linkpath: 'l'.repeat(4096) } }, /longer than 4096/],
    [{ path: 'x', type: '1', link: '/etc/shadow' }, /hard link .*leads out/],
    [{ path: 'x', type: '1', link: 'a/../../x' }, /hard link .*leads out/],
    [{ path: 'x', type: '1', link: 'x', pax: { linkpath: '../x' } }, /hard link .*leads out/],
    [{ path: 'x', type: '4', device: [8, 0] }, /device node/],
    [{ path: 'x', type: '4' }, /device node/],
    [{ path: 'x', type: '3', device: [1, 3] }, /device node/],
    [{ path: 'dev/null', type: '3', device: [1, 3] }, /device node/],
    [{ path: 'x', uid: 0 }, /owner 0:0/],
    [{ path: 'x', uid: BASE - 1, gid: BASE }, /outside of the VE's range/],
    [{ path: 'x', uid: BASE, gid: BASE + 65536 }, /outside of the VE's range/],
    [{ path: 'x', pax: { uid: '0' } }, /owner 0/],
    [{ path: 'x', type: '3', uid: 1 }, /owner 1/],
    [{ path: 'x', pax: { [CAP]: capability(3, 24, BASE + 1) } }, /capabilities that are none/],
    [{ path: 'x', pax: { [CAP]: capability(2, 20) } }, /capabilities that are none/],
    [{ path: 'x', pax: { [CAP]: capability(3, 24, BASE).subarray(0, 23) } }, /capabilities that are none/],
    [{ path: 'x', type: '5', pax: { 'SCHILY.xattr.trusted.overlay.opaque': 'y' } }, /attribute "trusted.overlay.opaque"/],
    [{ path: 'x', pax: { 'SCHILY.xattr.security.selinux': 'x' } }, /attribute "security.selinux"/],
    [{ path: 'x', pax: { 'SCHILY.xattr.system.posix_acl_access': 'x' } }, /attribute "system/],
    [{ path: 'x', pax: { 'SCHILY.acl.access': 'user::rwx\nuser:0:rwx\ngroup::r-x\nmask::rwx\nother::r-x\n' } }, /access list that names 0,/],
    [{ path: 'x', pax: { 'SCHILY.acl.default': 'group:root:rwx' } }, /cannot be read/],
    [{ path: 'x', pax: { uid: '0' }, paxType: 'g' }, /of type "g"/],
    [{ path: 'x', pax: { 'GNU.dumpdir': 'Dx' } }, /extended header with "GNU.dumpdir"/],
    [{ path: 'x', type: 'L' }, /of type "L"/],
    [{ path: 'x', type: 'S' }, /of type "S"/],
    [{ path: 'x', type: 'V' }, /of type "V"/],
    [{ path: 'x', type: '5', size: 512, content: 'x' }, /with content/],
  ];
  for (const [fields, message] of cases) {
    const whole = { uid: BASE, ...fields };
    await assert.rejects(receive(target, streamOf([whole]), BASE), { code: 'migration.stream', message }, JSON.stringify(fields));
    await assert.rejects(receive(target, streamOf([whole]), BASE, { step: 100 }), { code: 'migration.stream', message }, JSON.stringify(fields));
    assert.deepEqual(readdirSync(target), []);
  }
  const fine = await receive(target, streamOf([
    { path: './', type: '5', uid: BASE }, { path: './a..b', uid: BASE, content: 'x' }, { path: './link', type: '2', link: '/etc/shadow', uid: BASE },
    { path: './again', type: '1', link: './a..b', uid: BASE }, { path: './gone', type: '3' }, { path: './cap', uid: BASE + 65535, pax: { [CAP]: capability(3, 24, BASE) } },
  ]), BASE);
  assert.deepEqual(fine, { entries: 6, bytes: 1, conflicts: 0, adopted: 0 });
  assert.deepEqual(readdirSync(target), ['a..b', 'again', 'cap', 'gone', 'link']);
});

test('a stream beyond its bounds, cut short, of another kind, or given up is refused', needsRoot, async (t) => {
  const { target } = targetFolder(t);
  const refused = async (stream: Buffer, message: RegExp, limits = LIMITS): Promise<void> => { await assert.rejects(receive(target, stream, BASE, { limits }), { code: 'migration.stream', message }); };
  const whole = streamOf([{ path: './', type: '5', uid: BASE }, { path: './x', uid: BASE, content: 'x'.repeat(600) }, { path: './y', uid: BASE, content: 'x'.repeat(600) }]);
  await refused(whole, /more than 2 entries/, { ...LIMITS, entries: 2 });
  await refused(whole, /more than 1000 bytes/, { ...LIMITS, bytes: 1000 });
  for (const length of [0, 5, 12, 12 + 512, 12 + 1024, 12 + 1500]) await refused(whole.subarray(0, length), /is cut short/);
  await refused(Buffer.from('<html>'.repeat(100)), /none of a tree/);
  await refused(Buffer.concat([Buffer.from('VELDTREE'), Buffer.from([3, 0, 0, 0])]), /header longer than 32 MiB/);
  await refused(Buffer.concat([streamOf([]).subarray(0, 12), Buffer.from('<html>'.repeat(100))]), /number in a header/);
  const { input, ended } = unpackTree(target, { uidBase: BASE, limits: LIMITS });
  input.destroy();
  await assert.rejects(ended, { code: 'operation.cancelled' });
});

test('one that is given up has ended when that is said: nothing of it writes any more', needsRoot, async (t) => {
  const { target } = targetFolder(t);
  const programs = (): string[] => readdirSync('/proc/self/task').flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter((pid) => pid !== ''));
  const before = programs();
  for (let i = 0; i < 5; i++) {
    const { ended, cancel } = unpackTree(target, { uidBase: BASE, limits: LIMITS });
    assert.equal(programs().length, before.length + 1);
    if (i > 0) await sleep(50 * i);
    cancel();
    await assert.rejects(ended, { code: 'operation.cancelled' });
    assert.deepEqual(programs(), before);
  }
});

test('links of an earlier round are never written through', needsRoot, async (t) => {
  const { dir, target } = targetFolder(t);
  const victim = join(dir, 'victim');
  mkdirSync(victim);
  writeFileSync(join(victim, 'file'), 'alive');
  const root: HeaderFields = { path: './', type: '5', uid: BASE };
  const own = (fields: HeaderFields): HeaderFields => ({ uid: BASE, ...fields });
  const links = { absolute: victim, relative: '../victim', outside: '../../../../usr', inside: 'inner', file: `${victim}/file` };
  await receive(target, streamOf([root, own({ path: './inner', type: '5' }), ...Object.entries(links).map(([path, link]) => own({ path: `./${path}`, type: '2', link }))]), BASE);
  for (const [path, link] of Object.entries(links)) assert.equal(readlinkSync(join(target, path)), link);

  for (const path of ['absolute', 'relative', 'outside', 'inside']) {
    const planted = await receive(target, streamOf([root, own({ path: `./${path}/planted`, content: 'x' })]), BASE);
    assert.ok(planted.conflicts > 0, path);
    assert.deepEqual([readdirSync(victim), readdirSync(join(target, 'inner')), existsSync('/usr/planted')], [['file'], [], false]);
    assert.ok(lstatSync(join(target, path)).isSymbolicLink());
  }
  // In one stream: tar itself makes such links last.
  await receive(target, streamOf([root, own({ path: './door', type: '2', link: victim }), own({ path: './door/planted', content: 'x' })]), BASE);
  // A hard link to what is behind one; a file, a folder and a mark in the place of one.
  assert.ok((await receive(target, streamOf([root, own({ path: './stolen', type: '1', link: './absolute/file' })]), BASE)).conflicts > 0);
  await receive(target, streamOf([root, own({ path: './file', content: 'new' }), own({ path: './inside', type: '5', mode: 0o700 })], ['absolute', 'inside']), BASE);
  assert.deepEqual([readFileSync(join(victim, 'file'), 'utf8'), readdirSync(victim), existsSync(join(target, 'stolen'))], ['alive', ['file'], false]);
  assert.ok(lstatSync(join(target, 'file')).isFile() && lstatSync(join(target, 'inside')).isDirectory());
  assert.equal(statSync(join(target, 'inner')).mode & 0o777, 0o755);
  for (const path of [victim, join(target, 'inner')]) assert.ok(!listXattrs(openSync(path, 'r')).includes('trusted.overlay.opaque'));
  assert.equal(getXattr(openSync(join(target, 'inside'), 'r'), 'trusted.overlay.opaque')?.toString(), 'y');
});

test('what stands in the way is a conflict, not a failure; a folder that did not come belongs to the VE\'s root', needsRoot, async (t) => {
  const { target } = targetFolder(t);
  mkdirSync(join(target, 'full'));
  writeFileSync(join(target, 'full/inside'), 'x');
  writeFileSync(join(target, 'plain'), 'x');
  const counts = await receive(target, streamOf([
    { path: './full', uid: BASE, content: 'x' }, { path: './plain/below', uid: BASE }, { path: './made/up/file', uid: BASE, content: 'x' },
    { path: './dangling', type: '1', link: './nowhere', uid: BASE }, { path: './linked', type: '1', link: './full', uid: BASE }, { path: './last', uid: BASE, content: 'x' },
  ]), BASE);
  assert.deepEqual([counts.conflicts, counts.adopted], [4, 2]);
  assert.deepEqual(readdirSync(target), ['full', 'last', 'made', 'plain']);
  for (const path of ['made', 'made/up']) assert.deepEqual([statSync(join(target, path)).uid, statSync(join(target, path)).gid], [BASE, BASE]);
});

test('a tree whose owners start at 0: a layer of a template', needsRoot, async (t) => {
  const { target } = targetFolder(t);
  await receive(target, streamOf([{ path: './', type: '5' }, { path: './ping', uid: 7, pax: { [CAP]: capability(2, 20) } }]), 0);
  assert.equal(lstatSync(join(target, 'ping')).uid, 7);
  await assert.rejects(receive(target, streamOf([{ path: './x', uid: 65536 }]), 0), /outside of the VE's range/);
  await assert.rejects(receive(target, streamOf([{ path: './x', type: '3', uid: 65537 }]), 0), /outside of the VE's range/);
  // What a VE has deleted of its template, on a file system whose owners are written from 0.
  await receive(target, streamOf([{ path: './gone', type: '3', uid: 65536, gid: 65536 }]), 0);
  assert.deepEqual([lstatSync(join(target, 'gone')).isCharacterDevice(), lstatSync(join(target, 'gone')).rdev], [true, 0]);
  await assert.rejects(receive(target, streamOf([{ path: './x', pax: { [CAP]: capability(3, 24, BASE) } }]), 0), /capabilities/);
});

test('a target without space says so', needsRoot, async (t) => {
  const { dir } = targetFolder(t);
  mkdirSync(join(dir, 'small'));
  const program = fileURLToPath(new URL('testing/small-disk.ts', import.meta.url));
  const { stdout } = await run('/usr/bin/unshare', ['--mount', '--propagation', 'private', process.execPath, program, join(dir, 'small')], { timeout: 20_000 });
  assert.equal(stdout.trim(), 'disk.full');
});

test('a small tree that nobody reads for a while is whole all the same', needsRoot, async (t) => {
  const pack = packTree(targetFolder(t).target);
  await pack.send([{ path: '.', type: 'folder' }]);
  await sleep(500); // its program has ended
  const parts: Buffer[] = [];
  for await (const chunk of pack.output) parts.push(chunk as Buffer);
  assert.ok(Buffer.concat(parts).length > 1024);
});

test('a VE stands on the carried upper as on its own', needsRoot, async (t) => {
  const volumes = createVolumes({ stateDir: join(stateFolder(t), 'state') });
  const { id, path } = await volumes.stageLayer();
  for (const folder of ['etc', 'old/deep', 'bin', 'gone']) mkdirSync(join(path, folder), { recursive: true });
  for (const file of ['etc/os', 'old/a', 'old/deep/b', 'bin/ping', 'bin/mode', 'gone/x', 'etc/kept', 'etc/moved']) writeFileSync(join(path, file), `${file}\n`);
  execFileSync('/usr/sbin/setcap', ['cap_net_raw=ep', join(path, 'bin/ping')]);
  await volumes.commitLayer(id, 0);
  const layers = [{ id, uidBase: 0 }];
  const [from, to] = [randomUUID(), randomUUID()];
  for (const uuid of [from, to]) await volumes.createVolume(uuid, BASE);
  const inVe = async (uuid: string, script: string): Promise<string> => {
    const scratch = mkdtempSync('/var/tmp/veld-mount-');
    t.after(() => rmSync(scratch, { recursive: true, force: true }));
    const { code, stdout, stderr } = await inNamespace({ kind: 've', plan: volumes.mountPlan(uuid, BASE, layers), uidBase: BASE, scratch, script });
    assert.equal(code, 0, stderr);
    return stdout;
  };
  const look = 'find . -printf "%P %y %m %U:%G %s %l %n\\n" | grep -v "^ d" | sort; getcap -r bin; find . -type f -exec cat {} +';
  const upperOf = (uuid: string): string => {
    const { volume, upper } = volumes.mountPlan(uuid, BASE, layers);
    return join(volume, upper);
  };
  let tree: Tree = new Map();
  for (const script of [
    'rm -r old gone; mkdir old; echo c > old/c; chmod 4755 bin/ping; setcap cap_net_bind_service=ep bin/mode; chown 33 etc/os; mv etc/moved etc/other; ln etc/kept etc/linked',
    'mkdir gone; ln -s /etc etc/link; rm etc/os; rm -r old; echo more >> etc/kept; echo file > old; rm etc/linked',
  ]) {
    await inVe(from, script);
    const [source, target] = [upperOf(from), upperOf(to)];
    const round = await transferRound(source, target, tree, BASE);
    tree = round.tree;
    assert.equal(round.counts.conflicts, 0);
    assert.deepEqual(describeTree(target), describeTree(source));
    assert.equal(await inVe(to, look), await inVe(from, look));
  }
  // In another range.
  const other = unpackTree(upperOf(to), { uidBase: BASE_B, limits: LIMITS });
  other.input.end(streamOf([{ path: './x', uid: BASE }]));
  await assert.rejects(other.ended, /outside of the VE's range/);
});
