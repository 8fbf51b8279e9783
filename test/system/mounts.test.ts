/** Folders of the host in VEs: owners as the VE sees them, read-only ones, over restarts, suspends, snapshots, clones and moves; what a VE must not have is refused. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileInstance } from '../lib/instance.ts';
import { wordsWith } from '../lib/words.ts';

const veld = await fileInstance();
const { ok, refused, said } = wordsWith(veld);
const folder = mkdtempSync(join(tmpdir(), 'veld-mounts-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const [data, pub, plain] = ['data', 'pub', 'plain'].map((name) => join(folder, name)) as [string, string, string];
for (const path of [data, pub, plain]) mkdirSync(path, { mode: 0o755 });


test('owners are the VE\'s own, on the host they are counted from 0; read-only and plain ones are so', async () => {
  writeFileSync(join(data, 'file'), 'of the host\n');
  writeFileSync(join(pub, 'file'), 'to read\n');
  chownSync(join(data, 'file'), 1000, 1001);
  await veld.createRunning('web', { 'disk.mounts': `${data}:/srv/data,${pub}:/srv/pub:ro,${plain}:/srv/data/deep/plain:plain` });
  await veld.booted('web');
  const { uidBase } = await veld.show('web');
  assert.equal(await said('web', 'stat -c %u:%g /srv/data/file; cat /srv/data/file /srv/pub/file'), '1000:1001\nof the host\nto read');
  await said('web', 'echo own >/srv/data/own; mkdir /srv/data/more; chown 33:33 /srv/data/more; mknod /srv/data/fifo p; ! mknod /srv/data/null c 1 3 2>/dev/null');
  const made = statSync(join(data, 'own'));
  assert.deepEqual([made.uid, made.gid], [0, 0]);
  assert.equal(statSync(join(data, 'more')).uid, 33);
  assert.ok(lstatSync(join(data, 'fifo')).isFIFO());
  assert.match((await veld.exec('web', 'sh', '-c', 'echo x >/srv/pub/x')).stderr, /Read-only/);
  // Locked: neither ro nor nodev can be taken away, nor from a bind of it, nor in a namespace below.
  execFileSync('mknod', [join(data, 'device'), 'c', '1', '3']);
  for (const command of ['mount -o remount,dev,bind /srv/data', 'mount -o remount,dev,bind /srv/data; mkdir -p /mnt/x; mount --bind /srv/data /mnt/x; mount -o remount,dev,bind /mnt/x; cd /mnt/x', 'unshare -m mount -o remount,dev,bind /srv/data']) {
    assert.notEqual((await veld.exec('web', 'sh', '-c', `cd /srv/data; ${command}; echo x >device`)).exitCode, 0, command);
  }
  await said('web', 'umount /mnt/x || true; rm /srv/data/device');
  assert.notEqual((await veld.exec('web', 'sh', '-c', 'mount -o remount,rw,bind /srv/pub && echo x >/srv/pub/x')).exitCode, 0);
  assert.ok(!existsSync(join(pub, 'x')));
  chownSync(plain, uidBase + 5, uidBase + 5);
  assert.equal(await said('web', 'stat -c %u /srv/data/deep/plain'), '5');
  assert.match(await ok('show', 'web'), /disk\.mounts/);
  assert.deepEqual(veld.outline().filter((line) => line.includes(data)), [], 'the host sees no mount of it');
});

test('over a suspend, a reboot from inside, a live snapshot and a live clone', async () => {
  await veld.exec('web', 'systemd-run', '--quiet', '--unit=writer', 'sh', '-c', 'exec 3>>/srv/data/log; i=0; while :; do i=$((i + 1)); echo $i >&3; sleep 0.05; done');
  await ok('suspend', 'web');
  await ok('resume', 'web');
  execFileSync('mknod', [join(data, 'device'), 'c', '1', '3']);
  for (const command of ['mount -o remount,dev,bind /srv/data; echo x >/srv/data/device', 'mount -o remount,rw,bind /srv/pub; echo x >/srv/pub/x']) assert.notEqual((await veld.exec('web', 'sh', '-c', command)).exitCode, 0, `${command}, after it was brought back`);
  rmSync(join(data, 'device'));
  await said('web', 'a=$(wc -l </srv/data/log); sleep 0.5; test $(wc -l </srv/data/log) -gt $a; touch /srv/pub/y 2>/dev/null && exit 1; test $(stat -c %u /srv/data/file) = 1000');
  await ok('snapshot', 'create', '--live', 'web', 'one');
  await said('web', 'a=$(wc -l </srv/data/log); sleep 0.5; test $(wc -l </srv/data/log) -gt $a');
  await ok('snapshot', 'restore', 'web', 'one');
  await said('web', 'a=$(wc -l </srv/data/log); sleep 0.5; test $(wc -l </srv/data/log) -gt $a');
  await ok('clone', '--live', 'web', 'twin');
  assert.notEqual((await veld.show('twin')).uidBase, (await veld.show('web')).uidBase);
  assert.equal(await said('twin', 'stat -c %u:%g /srv/data/file; systemctl is-active writer'), '1000:1001\nactive');
  await said('twin', 'echo by the twin >/srv/data/twin');
  assert.equal(statSync(join(data, 'twin')).uid, 0);
  assert.equal(await said('web', 'cat /srv/data/twin'), 'by the twin');
  await veld.api.operate('DELETE', '/v1/ves/twin?force=true');
  await said('web', 'systemctl stop writer');
  const before = await veld.show('web');
  await veld.exec('web', 'systemctl', 'reboot');
  for (let i = 0; i < 300 && [before.pid, null].includes((await veld.show('web')).pid); i++) await new Promise((resolve) => setTimeout(resolve, 100));
  await veld.booted('web');
  assert.equal(await said('web', 'cat /srv/data/file; stat -c %u /srv/data/deep/plain'), 'of the host\n5');
});

test('a change waits for the next start; a suspended VE needs what it had; one whose folder is gone says so', async () => {
  await ok('snapshot', 'delete', 'web', 'one');
  await refused(13, /restart|next start/i, 'set', 'web', `disk.mounts=${pub}:/srv/pub`);
  await ok('suspend', 'web');
  await ok('set', 'web', '--next-start', 'disk.mounts=none');
  await refused(39, /disk\.mounts does not name/, 'resume', 'web');
  await ok('set', 'web', '--next-start', `disk.mounts=${data}:/srv/data,${pub}:/srv/pub:ro,${plain}:/srv/data/deep/plain:plain`);
  await ok('resume', 'web');
  assert.equal(await said('web', 'cat /srv/data/file'), 'of the host');
  await ok('stop', 'web');
  rmSync(plain, { recursive: true });
  await refused(69, /is not there/, 'start', 'web');
  await ok('set', 'web', `disk.mounts=${data}:/srv/data`);
  await ok('start', 'web');
  await veld.booted('web');
  await ok('export', 'web', '--file', join(folder, 'web.export'));
  await veld.api.operate('DELETE', '/v1/ves/web?force=true');
  assert.equal(readFileSync(join(data, 'file'), 'utf8'), 'of the host\n', 'what is the host\'s stays');
  // Whose folders they are is not for a file to say.
  const imported = await veld.cli('import', '--file', join(folder, 'web.export'), '--as', 'other', '--start');
  assert.equal(imported.code, 0, imported.stderr);
  assert.match(imported.stderr, /disk\.mounts.*are left out/);
  await veld.booted('other');
  assert.equal(await said('other', 'ls /srv/data'), '', 'nothing of it went along');
  // Where the VE has made a link in its place, nothing is mounted anywhere.
  await said('other', 'rmdir /srv/data; ln -s /etc /srv/data');
  await ok('stop', 'other');
  await ok('set', 'other', `disk.mounts=${data}:/srv/data`);
  await refused(10, /leads through what is no folder/, 'start', 'other');
});

test('a VE that may write to a folder cannot lead another mount elsewhere by it', async () => {
  const inner = join(data, 'inner');
  mkdirSync(inner);
  await veld.createRunning('sly', { 'disk.mounts': `${data}:/d,${inner}:/www:ro` });
  await veld.booted('sly');
  await said('sly', 'mv /d/inner /d/moved && ln -s /etc /d/inner');
  const before = await veld.show('sly');
  await veld.exec('sly', 'systemctl', 'reboot');
  for (let i = 0; i < 300 && (await veld.show('sly')).pid === before.pid; i++) await new Promise((resolve) => setTimeout(resolve, 100));
  for (let i = 0; i < 300 && (await veld.show('sly')).status !== 'failed'; i++) await new Promise((resolve) => setTimeout(resolve, 100));
  const after = await veld.show('sly');
  assert.equal(after.pid, null, 'it does not boot');
  await refused(69, /by a link|not there/, 'start', 'sly');
  await veld.api.operate('DELETE', '/v1/ves/sly?force=true');
  rmSync(inner);
});

test('what a VE must not have is refused in words', async () => {
  const link = join(folder, 'link');
  symlinkSync(data, link);
  const open = join(folder, 'open');
  mkdirSync(open);
  chmodSync(open, 0o755);
  const create = (mount: string): [string, ...string[]] => ['create', 'bad', '-t', 'test', '--set', `disk.mounts=${mount}`];
  await refused(69, /is not there/, ...create(`${folder}/none:/x`));
  await refused(69, /by a link/, ...create(`${link}:/x`));
  await refused(69, /keeps its own/, ...create(`${veld.settings.stateDir}/ves:/x`));
  await refused(69, /keeps its own/, ...create(`/var/tmp:/x`));
  await refused(69, /the host's own/, ...create('/etc/ssh:/x:ro'));
  await refused(69, /not a folder/, ...create(`${data}/file:/x`));
  await refused(69, /both be at/, ...create(`${data}:/x,${pub}:/x:ro`));
  await refused(12, /folders of the host/, ...create(`${data}:/proc/x`));
  // Where somebody can walk a VE's root could leave a setuid program; its own folder it could open itself.
  chmodSync(open, 0o700);
  for (const mode of [0o755, 0o701]) {
    chmodSync(folder, mode);
    await refused(69, /only root can enter/, ...create(`${open}:/x`));
  }
  chmodSync(folder, 0o700);
  chownSync(folder, 1000, 0);
  await refused(69, /only root can enter/, ...create(`${open}:/x`));
  chownSync(folder, 0, 0);
  await ok(...create(`${open}:/x:ro`));
  await veld.api.operate('DELETE', '/v1/ves/bad');
  chmodSync(folder, 0o700);
  await ok(...create(`${open}:/x`));
  await veld.api.operate('DELETE', '/v1/ves/bad');
});
