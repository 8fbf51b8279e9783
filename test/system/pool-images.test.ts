/** Pools with an image for each VE: what a VE may write is how large its disk is, also where no file system has quotas. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { hasCapability } from '../../src/kernel/capability.ts';
import { listMounts } from '../../src/kernel/mounts.ts';
import { storageConformance } from '../../src/storage/conformance.ts';
import { createImageVolumes, writeImageFacts } from '../../src/storage/image-volumes.ts';
import type { PoolView, QuotaReport } from '../../src/ve/types.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';
import { wordsWith } from '../lib/words.ts';

storageConformance('an image for each VE', (stateDir) => {
  writeImageFacts(stateDir, { space: 64 << 20, quotas: false });
  return createImageVolumes({ stateDir });
});

const veld = await fileInstance();
const { ok, refused } = wordsWith(veld);
const MiB = 1 << 20;
/** What a VE writes without being told to, bytes. */
const NOISE = 12 * MiB;

const quota = (ve: string): Promise<QuotaReport> => veld.json('quota', ve);
const line = async (ve: string, text: string): Promise<string> => {
  const { stdout, stderr } = await veld.exec(ve, 'sh', '-c', text);
  return (stdout + stderr).trim();
};
const write = async (ve: string, file: string, megabytes: number): Promise<{ said: string; bytes: number }> => ({
  said: await line(ve, `dd if=/dev/zero of=${file} bs=1M count=${megabytes} conv=fsync`), bytes: Number(await line(ve, `stat -c %s ${file}`)),
});
const diskOf = async (ve: string): Promise<string> => join(veld.settings.stateDir, 'pools/disks/disks', (await veld.show(ve)).uuid);

test('a pool is made, and holds space on any host', async () => {
  await ok('pool', 'create', 'disks', '--driver', 'image', '--image-size', '400M');
  const { driver, image, holds } = await veld.json<PoolView>('pool', 'show', 'disks');
  assert.equal(driver, 'image');
  assert.equal(image, null);
  assert.equal(holds!['disk.space'], true);
  assert.deepEqual(readdirSync(join(veld.settings.stateDir, 'pools/disks/disks')), [], 'the trial has gone');
  await refused(60, /Images of VEs are ext4/, 'pool', 'create', 'bad', '--driver', 'image', '--fs', 'xfs');
  await refused(60, /bytes at least/, 'pool', 'create', 'bad', '--driver', 'image', '--image-size', '1M');
  await refused(60, /is not there/, 'pool', 'create', 'bad', '--driver', 'image', '--path', join(veld.dir, 'none'));
});

test('a VE writes up to its limit and no further; df tells it, and what is in use is counted at once', async () => {
  await veld.createRunning('tight', { 'disk.pool': 'disks', 'disk.space': '200M' });
  await veld.createRunning('wide', { 'disk.pool': 'disks' });
  const before = (await quota('tight')).ve.used!;
  assert.ok(before.space > 0 && before.space < 100 * MiB, `${before.space}`);
  const full = await write('tight', '/root/fill', 300);
  assert.match(full.said, /No space left|Disk quota exceeded/);
  assert.ok(full.bytes > 100 * MiB && full.bytes <= 200 * MiB - before.space + NOISE, `${full.bytes}`);
  const { ve } = await quota('tight');
  assert.ok(ve.used!.space <= 200 * MiB && ve.used!.space > 190 * MiB, JSON.stringify(ve));
  const [total, free] = (await line('tight', 'df --output=size,avail -B1 / | tail -n 1')).split(/\s+/).map(Number);
  assert.ok(total! >= 200 * MiB && total! < 290 * MiB && free! < NOISE, `${total} ${free}`);
  assert.equal((await write('wide', '/root/fill', 50)).bytes, 50 * MiB, 'nobody else suffers');
  assert.match((await write('wide', '/root/fill', 500)).said, /No space left|Disk quota exceeded/, 'what the pool gives to all');
  // Sparse, and nobody else's; and the host gets back what the VE removes.
  const image = join(await diskOf('tight'), 'image');
  assert.equal(statSync(image).mode & 0o777, 0o600);
  const blocks = statSync(image).blocks;
  await line('tight', 'rm /root/fill; sync');
  assert.ok((await quota('tight')).ve.used!.space < before.space + NOISE);
  for (let left = 100; statSync(image).blocks > blocks - 80 * MiB / 512; left -= 1) {
    assert.ok(left > 0, `${statSync(image).blocks} of ${blocks}`);
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
});

test('the limit is lowered and raised again while it runs; nothing is lost when it is lowered below what is there', async () => {
  await write('tight', '/root/more', 60);
  await ok('set', 'tight', 'disk.space=50M');
  assert.match((await write('tight', '/root/none', 5)).said, /No space left|Disk quota exceeded/);
  assert.equal(await line('tight', 'stat -c %s /root/more'), String(60 * MiB));
  await ok('set', 'tight', 'disk.space=200M');
  assert.equal((await write('tight', '/root/more', 60)).bytes, 60 * MiB);
  assert.match((await write('tight', '/root/none', 200)).said, /No space left|Disk quota exceeded/);
  await line('tight', 'rm /root/none');
});

/** Whoever begins or keeps a VE at that moment, of another run of tests, say, has a copy of all mounts for as long. */
async function startInTime(ve: string): Promise<void> {
  await until(`${ve} to start`, async () => {
    const { code, stderr } = await veld.cli('start', ve);
    if (code !== 0) assert.match(stderr, /cannot be made larger while it is in use/);
    return code === 0;
  }, 300_000, 1000);
}

test('it is made larger: while the VE runs where the daemon may, else while it is at rest', async () => {
  if (hasCapability('sys_resource')) await ok('set', 'tight', 'disk.space=500M');
  else {
    await refused(13, /cannot be made larger while it is in use: the daemon lacks CAP_SYS_RESOURCE/, 'set', 'tight', 'disk.space=500M');
    assert.equal((await veld.show('tight')).properties['disk.space']!.hard, 200 * MiB, 'nothing is changed');
    await ok('set', '--config-only', 'tight', 'disk.space=500M');
    await ok('stop', 'tight');
    await startInTime('tight');
  }
  assert.equal((await write('tight', '/root/large', 300)).bytes, 300 * MiB);
  assert.match((await write('tight', '/root/none', 200)).said, /No space left|Disk quota exceeded/);
  const { ve } = await quota('tight');
  assert.ok(ve.used!.space > 480 * MiB && ve.used!.space <= 500 * MiB, JSON.stringify(ve));
});

test('a VE that is full to the last block goes on, is kept, and boots; and it is made smaller at rest', async () => {
  await line('tight', 'dd if=/dev/zero of=/root/full bs=4k conv=fsync; i=0; while echo x >/root/small$i; do i=$((i+1)); done');
  await ok('suspend', 'tight');
  await ok('resume', 'tight');
  await ok('stop', 'tight');
  await ok('rename', 'tight', 'other'); // written into it before it boots
  await ok('start', 'other');
  assert.equal(await line('other', 'hostname'), 'other');
  await ok('rename', 'other', 'tight');
  await line('tight', 'rm -f /root/full /root/small* /root/large /root/none; sync');
  const image = join(await diskOf('tight'), 'image');
  const large = statSync(image).size;
  await ok('stop', 'tight');
  await ok('set', 'tight', 'disk.space=150M');
  await ok('start', 'tight');
  await veld.booted('tight');
  for (let left = 10; left > 0 && statSync(image).size === large; left -= 1) await ok('restart', 'tight'); // others may have had it
  assert.ok(statSync(image).size < large - 100 * MiB, `${statSync(image).size} of ${large}`);
  assert.equal(await line('tight', 'stat -c %s /root/more'), String(60 * MiB));
  assert.match((await write('tight', '/root/none', 150)).said, /No space left|Disk quota exceeded/);
  // A snapshot of a full one: its layer is in the same image.
  await ok('snapshot', 'create', 'tight', 'full', '--live');
  await ok('snapshot', 'restore', 'tight', 'full');
  assert.equal(await line('tight', 'stat -c %s /root/more'), String(60 * MiB));
  await ok('snapshot', 'delete', 'tight', 'full');
  await ok('set', '--config-only', 'tight', 'disk.space=300M');
  await ok('stop', 'tight');
  await startInTime('tight');
});

test('snapshots, clones with their processes, and a model that goes before its clone', async () => {
  await veld.exec('tight', 'systemd-run', '--unit=mark', 'sleep', 'infinity');
  const pid = (await veld.exec('tight', 'systemctl', 'show', '-P', 'MainPID', 'mark')).stdout;
  await ok('snapshot', 'create', 'tight', 'one', '--live');
  await line('tight', 'echo later >/root/later');
  await ok('snapshot', 'restore', 'tight', 'one');
  assert.equal(await line('tight', 'ls /root'), 'more\nnone');
  assert.equal((await veld.exec('tight', 'systemctl', 'show', '-P', 'MainPID', 'mark')).stdout, pid);
  await ok('clone', 'tight', 'twin', '--live');
  assert.equal((await veld.exec('twin', 'systemctl', 'show', '-P', 'MainPID', 'mark')).stdout, pid);
  assert.match((await write('twin', '/root/fill', 300)).said, /No space left|Disk quota exceeded/, 'a clone is limited as its model is');
  const file = join(veld.dir, 'tight.checkpoint');
  await ok('checkpoint', 'tight', '--keep-running', '--file', file);
  await ok('restore', '--file', file, '--as', 'filed');
  assert.equal((await veld.exec('filed', 'systemctl', 'show', '-P', 'MainPID', 'mark')).stdout, pid, 'from a file');
  assert.equal(await line('filed', 'stat -c %s /root/more'), String(60 * MiB));
  await ok('destroy', '--force', 'filed');
  const models = await diskOf('tight');
  await ok('destroy', '--force', 'tight');
  assert.ok(existsSync(models), 'the clone stands on it');
  await ok('restart', 'twin');
  assert.equal(await line('twin', 'stat -c %s /root/more'), String(60 * MiB));
  const own = await diskOf('twin');
  await ok('destroy', '--force', 'twin');
  assert.deepEqual([models, own].map(existsSync), [false, false], 'both have gone');
});

test('a daemon that starts anew mounts what is not mounted; an image that is damaged keeps its VE from starting, and no other', async () => {
  await ok('stop', 'wide');
  await veld.createRunning('whole', { 'disk.pool': 'disks' });
  await ok('stop', 'whole');
  const [bad, good] = [await diskOf('wide'), await diskOf('whole')];
  await veld.stop();
  for (const folder of [bad, good]) assert.equal(spawnSync('umount', [join(folder, 'root')]).status, 0);
  await until('nobody to have them', () => !spawnSync('losetup', ['-nO', 'BACK-FILE'], { encoding: 'utf8' }).stdout.includes(join(bad, 'image')), 240_000, 100);
  const kept = join(veld.dir, 'kept');
  assert.equal(spawnSync('cp', ['--sparse=always', join(bad, 'image'), kept]).status, 0);
  writeFileSync(join(bad, 'image'), Buffer.alloc(1 << 20), { flag: 'r+' });
  await veld.start();
  await ok('start', 'whole');
  await refused(61, /image of .* is not mounted|could not be mounted/, 'start', 'wide');
  assert.match(await line('whole', 'echo works'), /works/);
  const doctor = await veld.cli('doctor');
  assert.match(doctor.stdout, /wide[\s\S]*could not be\s+mounted/);
  // Mended, it is there again.
  assert.equal(spawnSync('cp', ['--sparse=always', kept, join(bad, 'image')]).status, 0);
  await veld.stop();
  await veld.start();
  await ok('start', 'wide');
  assert.ok(Number(await line('wide', 'stat -c %s /root/fill')) > 50 * MiB);
});

test('a daemon that dies while it makes a pool, or a VE on one, leaves nothing that is half made', async () => {
  for (const fault of ['kill:image.begun', 'kill:image.made', 'kill:pool.images']) {
    await veld.restart({ VELD_FAULT: fault });
    await veld.cliAcross(['pool', 'create', 'half', '--driver', 'image']);
    await refused(58, /no pool "half"/, 'pool', 'show', 'half');
    assert.equal(existsSync(join(veld.settings.stateDir, 'pools/half')), false, fault);
  }
  for (const fault of ['kill:image.begun', 'kill:image.made']) {
    await veld.restart({ VELD_FAULT: fault });
    await veld.cliAcross(['create', 'half', '--template', 'test', '--set', 'disk.pool=disks']);
    const known = await Promise.all((await veld.list()).map(async ({ name }) => (await veld.show(name)).uuid));
    const disks = join(veld.settings.stateDir, 'pools/disks/disks');
    await until('only disks of VEs to be there', () => readdirSync(disks).toSorted().join() === known.toSorted().join(), 10_000, 100);
  }
});

test('with its VEs all images go, and with the pool its folder', async () => {
  await refused(59, /holds the disks of/, 'pool', 'delete', 'disks');
  await ok('destroy', '--force', 'wide', 'whole');
  await ok('pool', 'delete', 'disks');
  assert.ok(!existsSync(join(veld.settings.stateDir, 'pools/disks')));
  assert.deepEqual(listMounts().filter(({ target }) => target.startsWith(veld.settings.stateDir)), []);
});
