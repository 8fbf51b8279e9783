/** Pools in images: VEs whose disks lie on a btrfs of its own, with quotas; on this kind of ext4 where the kernel has none; pools that vanish, are full, are in use. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { storageConformance } from '../../src/storage/conformance.ts';
import { createVolumes } from '../../src/storage/volumes.ts';
import type { PoolView, QuotaReport } from '../../src/ve/types.ts';
import { mountBtrfs } from '../lib/disk-image.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();

const btrfs = join(veld.dir, 'conformance');
mkdirSync(btrfs);
mountBtrfs(`${btrfs}.img`, btrfs);
after(() => { spawnSync('umount', [btrfs]); });
storageConformance('on btrfs', (stateDir) => createVolumes({ stateDir, driver: 'btrfs' }), btrfs);

const MiB = 1 << 20;

const ok = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await veld.cli(...args);
  assert.equal(code, 0, `veld ${args.join(' ')}: ${stderr}`);
  return stdout;
};
const refused = async (status: number, words: RegExp, ...args: string[]): Promise<void> => {
  const { code, stderr } = await veld.cli(...args);
  assert.match(stderr, words, `veld ${args.join(' ')}`);
  assert.equal(code, status, stderr);
};
const pool = (name: string): Promise<PoolView> => veld.json('pool', 'show', name);
/** As it is now: btrfs counts what it has committed. */
const quota = async (ve: string): Promise<QuotaReport> => {
  await veld.exec(ve, 'sync');
  return veld.json('quota', ve);
};
/** Write so many MiB into a file that compresses to nothing else. @returns what dd said, and what is there */
const write = async (ve: string, file: string, megabytes: number): Promise<{ said: string; bytes: number }> => {
  const { stderr } = await veld.exec(ve, 'sh', '-c', `dd if=/dev/zero of=${file} bs=1M count=${megabytes} conv=fsync`);
  return { said: stderr, bytes: Number((await veld.exec(ve, 'stat', '-c', '%s', file)).stdout) };
};

test('pools are made in images, and say what can be limited there', async () => {
  await ok('pool', 'create', 'shots', '--image-size', '1G', '--fs', 'btrfs');
  await ok('pool', 'create', 'plain', '--image-size', '512M');
  const [shots, plain] = [await pool('shots'), await pool('plain')];
  assert.equal(shots.driver, 'btrfs');
  assert.equal(shots.holds!['disk.space'], true);
  assert.match(String(shots.holds!['disk.users']), /counts subvolumes/);
  assert.equal(plain.driver, 'overlay');
  assert.equal(plain.image!.fileSystem, 'ext4');
  // Sparse, and nobody else's.
  const { mode, blocks } = statSync(plain.image!.file);
  assert.equal(mode & 0o777, 0o600);
  assert.ok(blocks * 512 < 64 * MiB, `${blocks} blocks`);
  assert.match(await ok('pool', 'list'), /^shots +btrfs +1\S* G?i?B? .*space/m);
  assert.deepEqual((await veld.json<PoolView[]>('pool', 'list')).map(({ name }) => name), ['default', 'plain', 'shots']);
});

test('a VE on btrfs writes up to its limit and no further, and nobody else suffers', async () => {
  await veld.createRunning('tight', { 'disk.pool': 'shots', 'disk.space': '200M' });
  await veld.createRunning('wide', { 'disk.pool': 'shots' });
  const full = await write('tight', '/root/fill', 300);
  assert.match(full.said, /Disk quota exceeded/);
  assert.ok(full.bytes > 100 * MiB && full.bytes <= 200 * MiB, `${full.bytes}`);
  const { ve } = await quota('tight');
  assert.ok(ve.used!.space <= 200 * MiB && ve.used!.space > 100 * MiB, JSON.stringify(ve));
  const other = await write('wide', '/root/fill', 50);
  assert.equal(other.bytes, 50 * MiB, other.said);
});

test('the limit is raised while it runs, and lowered below what is there: then nothing more is written, and nothing is lost', async () => {
  await ok('set', 'tight', 'disk.space=320M');
  assert.equal((await write('tight', '/root/more', 60)).bytes, 60 * MiB);
  await ok('set', 'tight', 'disk.space=100M');
  assert.match((await write('tight', '/root/none', 5)).said, /Disk quota exceeded/);
  assert.equal((await veld.exec('tight', 'stat', '-c', '%s', '/root/more')).stdout.trim(), String(60 * MiB));
  await ok('set', 'tight', '--unset', 'disk.space');
  assert.equal((await write('tight', '/root/none', 20)).bytes, 20 * MiB);
  await ok('set', 'tight', 'disk.space=400M');
});

test('what a snapshot holds of a VE counts for it; it goes when the VE goes back', async () => {
  const before = (await quota('tight')).ve.used!.space;
  await ok('snapshot', 'create', 'tight', 'one', '--live');
  assert.match((await write('tight', '/root/over', 400)).said, /Disk quota exceeded/);
  const after = (await quota('tight')).ve.used!.space;
  assert.ok(after > 300 * MiB && after <= 400 * MiB, `${before} ${after}`);
  await ok('snapshot', 'restore', 'tight', 'one');
  await until('what was written to be gone', async () => (await quota('tight')).ve.used!.space < before + 20 * MiB, 20_000, 200);
  assert.equal((await veld.exec('tight', 'sh', '-c', 'ls /root')).stdout.trim().split('\n').join(), 'fill,more,none');
});

test('it is suspended, resumed, cloned with its processes, restarted', async () => {
  await veld.exec('tight', 'systemd-run', '--unit=mark', 'sleep', 'infinity');
  const pid = (await veld.exec('tight', 'systemctl', 'show', '-P', 'MainPID', 'mark')).stdout;
  await ok('suspend', 'tight');
  await ok('resume', 'tight');
  assert.equal((await veld.exec('tight', 'systemctl', 'show', '-P', 'MainPID', 'mark')).stdout, pid);
  await ok('clone', 'tight', 'twin', '--live');
  assert.equal((await veld.exec('twin', 'systemctl', 'show', '-P', 'MainPID', 'mark')).stdout, pid);
  assert.match((await write('twin', '/root/fill2', 500)).said, /Disk quota exceeded/, 'a clone is limited as its model is');
  await ok('destroy', '--force', 'twin');
  await ok('restart', 'tight');
  assert.equal(await veld.booted('tight'), 'running');
  assert.match((await write('tight', '/root/over', 500)).said, /Disk quota exceeded/);
  await veld.exec('tight', 'rm', '/root/over');
});

test('what cannot be limited is refused in words, before anything is made', async () => {
  await refused(14, /disk\.inodes cannot be held on the pool shots: btrfs/, 'set', 'tight', 'disk.inodes=1000');
  await refused(14, /disk\.users cannot be held/, 'set', 'tight', 'disk.users=10');
  await refused(14, /soft limit/, 'set', 'tight', 'disk.space=300M:400M');
  await refused(58, /no pool "nosuch"/, 'create', 'other', '--template', 'test', '--set', 'disk.pool=nosuch');
  await refused(13, /fixed when the VE is made/, 'set', 'tight', 'disk.pool=plain');
  await refused(13, /disk\.users is 0/, 'quota', 'tight', 'user', 'root', 'space=1M');
  if ((await pool('plain')).holds!['disk.space'] !== true) await refused(14, /disk\.space cannot be held on the pool plain: /, 'create', 'other', '--template', 'test', '--set', 'disk.pool=plain', '--set', 'disk.space=1G');
  assert.deepEqual((await veld.list()).map(({ name }) => name), ['tight', 'wide']);
});

test('bad pools are refused in words, and leave nothing', async () => {
  const there = join(veld.dir, 'full');
  mkdirSync(there);
  writeFileSync(join(there, 'file'), '');
  await refused(60, /not an empty folder/, 'pool', 'create', 'bad', '--path', there);
  await refused(60, /is not there/, 'pool', 'create', 'bad', '--path', join(veld.dir, 'none'));
  await refused(60, /lies in, or around, the pool default/, 'pool', 'create', 'bad', '--path', join(veld.settings.stateDir, 'ves'));
  await refused(60, /bytes at least/, 'pool', 'create', 'bad', '--image-size', '1M');
  await refused(21, /bytes free/, 'pool', 'create', 'bad', '--image-size', '900T');
  await refused(59, /pool named shots already/, 'pool', 'create', 'shots', '--image-size', '1G');
  await refused(12, /cannot be the name/, 'pool', 'create', 'Bad', '--image-size', '1G');
  await refused(59, /holds the disks of tight, wide/, 'pool', 'delete', 'shots');
  await refused(60, /state folder itself/, 'pool', 'delete', 'default');
  const twice = await Promise.all(['a', 'b'].map(() => veld.cli('pool', 'create', 'twice', '--image-size', '128M')));
  assert.equal(twice.filter(({ code }) => code === 0).length, 1, 'two at once');
  assert.match(twice.find(({ code }) => code !== 0)!.stderr, /is being made|named twice already|not an empty folder/);
  await ok('pool', 'delete', 'twice');
  assert.deepEqual((await veld.json<PoolView[]>('pool', 'list')).map(({ name }) => name), ['default', 'plain', 'shots']);
  assert.equal(existsSync(join(veld.settings.stateDir, 'pools/bad')), false);
});

test('a pool that has vanished: its VEs do not start, and say why; they do when it is there again', async () => {
  await ok('stop', 'tight', 'wide');
  const { path } = await pool('shots');
  await veld.stop();
  assert.equal(spawnSync('umount', [path]).status, 0);
  await veld.start(); // mounts it
  await ok('start', 'tight');
  assert.match((await veld.exec('tight', 'ls', '/root')).stdout, /fill/);
  await ok('stop', 'tight');
  assert.equal(spawnSync('umount', [path]).status, 0);
  await refused(61, /pool shots is not there/, 'start', 'tight');
  assert.equal((await pool('shots')).room, null);
  assert.match(await ok('pool', 'list'), /shots .*not there/);
  assert.match(await ok('list', '--all').catch(async () => ok('list')), /tight/);
  await veld.restart();
  await ok('start', 'tight');
  assert.equal((await quota('tight')).ve.limits.space!.hard, 400 * MiB);
});

test('a daemon that dies while it makes a pool leaves none', async () => {
  for (const fault of ['kill:pool.image', 'kill:pool.mounted']) {
    await veld.restart({ VELD_FAULT: fault });
    await veld.cliAcross(['pool', 'create', 'half', '--image-size', '128M']);
    assert.equal((await veld.cli('pool', 'show', 'half')).code, 58, fault);
    assert.equal(existsSync(join(veld.settings.stateDir, 'pools/half')), false, fault);
  }
  assert.equal((await veld.show('tight')).status, 'running');
});

test('an unused pool goes, with its image', async () => {
  await ok('destroy', '--force', 'tight', 'wide');
  for (const name of ['shots', 'plain']) {
    const { image } = await pool(name);
    await ok('pool', 'delete', name);
    assert.equal(existsSync(image!.file), false);
  }
  assert.deepEqual(veld.traces().filter((line) => /pools\//.test(line)), []);
});
