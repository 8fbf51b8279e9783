/** A state of a host with other control groups: what it would say is written into that of a VE that is suspended here. Two real hosts: test/vm/pair.test.ts. */
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { changeImage } from '../../src/checkpoint/derive.ts';
import { fitWatches } from '../../src/checkpoint/groups.ts';
import { changeMessage, varint } from '../../src/checkpoint/protobuf.ts';
import { findHierarchies } from '../../src/kernel/cgroup.ts';
import { fileInstance } from '../lib/instance.ts';

const veld = await fileInstance();
const unified = findHierarchies().mode === 'v2';

const bytes = (field: number, ...content: (string | Buffer)[]): Buffer => {
  const all = Buffer.concat(content.map((part) => Buffer.from(part as string)));
  return Buffer.concat([varint(BigInt((field << 3) | 2)), varint(BigInt(all.length)), all]);
};

/** Each process stands in a group of another hierarchy, too, which no host has (images/cgroup.proto of criu). */
function withHierarchy(image: Buffer, name: string, path: string): Buffer {
  const sets: Buffer[] = [];
  const message = image.subarray(12);
  const rest = changeMessage(message, { 1: 'left out' });
  changeMessage(message, { 1: { message: {}, keep: (set) => sets.push(Buffer.from(set)) > 0 } });
  assert.ok(sets.length > 1);
  const member = bytes(2, bytes(1, name), bytes(2, path), Buffer.from([0x18, path.length]));
  const changed = Buffer.concat([...sets.map((set) => bytes(1, set, member)), rest, bytes(2, bytes(1, name), bytes(2, bytes(1, path.slice(1))))]);
  const head = Buffer.from(image.subarray(0, 12));
  head.writeUInt32LE(changed.length, 8);
  return Buffer.concat([head, changed]);
}

/** Paths of files that are watched. */
function watched(image: Buffer): string[] {
  const paths: string[] = [];
  changeImage(image, { 13: { message: { 5: { message: { 7: { message: { 4: { text: (path) => (paths.push(path), path) } } } } } } } }, 'files.img');
  return paths;
}

const GROUP = 'system.slice/followed.service';
const LIMIT = `${GROUP}/memory.max:104857600`;

/** Watches a file of its own group, as systemd does (inotify_init1, inotify_add_watch: numbers of x86_64, or of arm64). */
const FOLLOWER = `my ($init, $add) = qx(uname -m) =~ /x86_64/ ? (294, 254) : (26, 27); my $path = '/sys/fs/cgroup/${GROUP}/cgroup.max.descendants';
my $fd = syscall($init, 0); syscall($add, $fd, $path, 2) > 0 or die $!; sleep 1 while 1`;

test('a VE whose state names hierarchies, limits and watches of another host comes back, and keeps the limits for a host that can hold them', async () => {
  const { uuid, number } = await veld.createRunning('web');
  const said = async (...command: string[]): Promise<string> => (await veld.exec('web', ...command)).stdout.trim();
  await said('systemd-run', '--quiet', '--unit=followed', 'perl', '-e', FOLLOWER);
  const pid = await said('systemctl', 'show', '-P', 'MainPID', 'followed');
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  const images = join(veld.settings.stateDir, 'states', uuid, 'images');
  const change = (name: string, by: (image: Buffer) => Buffer): void => writeFileSync(join(images, name), by(readFileSync(join(images, name))));
  change('cgroup.img', (image) => withHierarchy(image, 'no-such', '/veld-elsewhere/7'));
  change('files.img', (image) => fitWatches(image, () => true));
  assert.ok(watched(readFileSync(join(images, 'files.img'))).includes(`/sys/fs/cgroup/${GROUP}/memory.events`));
  appendFileSync(join(images, 'groups'), `cgroup.subtree_control:memory\nsystem.slice/cgroup.subtree_control:memory\n${LIMIT}\n`);

  await veld.api.operate('POST', '/v1/ves/web/resume');
  assert.equal(await said('systemctl', 'show', '-P', 'MainPID', 'followed'), pid);
  assert.equal((await veld.exec('web', 'systemd-run', '--wait', '--quiet', 'true')).exitCode, 0);
  assert.equal(await said('cat', `/sys/fs/cgroup/${GROUP}/memory.max`), unified ? '104857600' : '');
  const unheld = (): string => readFileSync(join(veld.settings.runDir, 'ves', String(number), 'unheld'), 'utf8');
  if (!unified) assert.match(unheld(), new RegExp(`^${LIMIT}$`, 'm'));

  // The next state has it all again, with a watch of what there is.
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  assert.match(readFileSync(join(images, 'groups'), 'utf8'), new RegExp(`^${LIMIT}$`, 'm'));
  assert.ok(watched(readFileSync(join(images, 'files.img'))).includes(`/sys/fs/cgroup/${GROUP}/${unified ? 'memory.events' : 'cgroup.max.descendants'}`));
  await veld.api.operate('POST', '/v1/ves/web/resume');
  if (!unified) assert.match(unheld(), new RegExp(`^${LIMIT}$`, 'm'));
  // A boot begins with nothing of that.
  await veld.api.operate('POST', '/v1/ves/web/restart');
  assert.throws(unheld, { code: 'ENOENT' });
});
