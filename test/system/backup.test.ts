/** Backups: VEs in a repository of restic, on this machine and on another one over ssh, by hand and by the clock, verified and restored; repositories that are broken, full, locked or gone. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { BackedUp, RepositoryView } from '../../src/ve/backup/types.ts';
import type { Backup } from '../../src/storage/repository.ts';
import { mountXfs } from '../lib/disk-image.ts';
import { fileInstance } from '../lib/instance.ts';
import { wordsWith } from '../lib/words.ts';
import { until } from '../lib/wait.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-backup-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const veld = await fileInstance();
const { ok, refused, said } = wordsWith(veld);
const disk = join(folder, 'repository');

const list = (...args: string[]): Promise<(Backup & { repository: string })[]> => veld.json('backup', 'list', ...args);
const backUp = async (...args: string[]): Promise<BackedUp> => (await veld.json<{ result: BackedUp }[]>('backup', 'create', ...args))[0]!.result;

test('a repository is made, and tells where its password is', async () => {
  await refused(64, /There is no repository/, 'backup', 'restore', 'abcdef');
  assert.match(await ok('repository', 'add', 'disk', disk), /is made; keep a copy of/);
  const [made] = await veld.json<RepositoryView[]>('repository', 'list');
  assert.equal(made!.location, disk);
  assert.equal(statSync(made!.passwordFile).mode & 0o777, 0o600);
  assert.match(await ok('repository', 'list'), /^disk +\S+ +- /m);
  await refused(64, /already/, 'repository', 'add', 'disk', join(folder, 'other'));
  await refused(65, /password/, 'repository', 'add', 'again', disk);
  assert.deepEqual((await veld.json<RepositoryView[]>('repository', 'list')).map(({ name }) => name), ['disk']);
  assert.ok(!existsSync(join(veld.settings.stateDir, 'repositories/again')), 'nothing stays of it');
  for (const place of ['sftp:host:/x', 'sftp://host:99999/x', 'sftp://-oProxyCommand=x/y', 'sftp://host']) await refused(65, /not a place/, 'repository', 'add', 'odd', place);
});

test('the second backup of a VE that runs stores what is new; each is what the VE was then', async () => {
  await veld.createRunning('web', { 'memory.limit': '300M' });
  await veld.booted('web');
  await said('web', 'head -c 40M /dev/urandom >/srv/large; echo first >/srv/state; ln /srv/large /srv/link; setfattr -n user.x -v y /srv/state 2>/dev/null || true; truncate -s 1G /srv/sparse');
  const first = await backUp('web');
  assert.equal(first.repository, 'disk');
  assert.ok(first.stood !== null && first.added > 40 << 20, JSON.stringify(first));
  await said('web', 'echo second >/srv/state; head -c 1M /dev/urandom >/srv/more');
  const text = await ok('backup', 'create', 'web');
  assert.match(text, /^web backed up to disk as [0-9a-f]{8}: .* of files, .* of it new; it stood for \d+ ms\n$/);
  const both = await list('web');
  assert.equal(both.length, 2);
  assert.equal(both[0]!.id.startsWith(first.id) || first.id.startsWith(both[0]!.id), true);
  const third = await backUp('web');
  assert.ok(third.added < 12 << 20, `${third.added} bytes are new of what was there already`);
  const large = await said('web', 'sha256sum </srv/large; stat -c %h /srv/large; stat -c %b /srv/sparse');
  await ok('backup', 'restore', both[0]!.id.slice(0, 12), '--as', 'then', '--start');
  await veld.booted('then');
  assert.equal(await said('then', 'cat /srv/state'), 'first');
  assert.equal(await said('then', 'sha256sum </srv/large; stat -c %h /srv/large; stat -c %b /srv/sparse'), large);
  await ok('backup', 'restore', both[1]!.id.slice(0, 12), '--as', 'later', '--set', 'memory.limit=200M');
  const later = await veld.show('later');
  assert.deepEqual([later.status, later.properties['memory.limit']], ['stopped', 200 << 20]);
  await ok('start', 'later');
  await veld.booted('later');
  assert.equal(await said('later', 'cat /srv/state; hostname'), 'second\nlater');
  for (const name of ['then', 'later']) await veld.api.operate('DELETE', `/v1/ves/${name}?force=true`);
  assert.match(await ok('backup', 'verify', both[0]!.id.slice(0, 12)), /is whole: .* read/);
  assert.match(await ok('repository', 'check', 'disk', '--data'), /is whole/);
  await ok('backup', 'delete', third.id.slice(0, 12));
  assert.equal((await list('web')).length, 2);
});

test('a VE that is gone comes back with its name, address and machine-id', async () => {
  const { addresses } = await veld.show('web');
  const id = await said('web', 'cat /etc/machine-id');
  await ok('stop', 'web');
  const last = await backUp('web');
  assert.equal(last.stood, null);
  await refused(5, /already a VE named web/, 'backup', 'restore', last.id.slice(0, 12));
  await veld.api.operate('DELETE', '/v1/ves/web');
  const all = await list('web');
  assert.equal(all.length, 3, 'by its name, when it is gone');
  await ok('backup', 'restore', all.at(-1)!.id, '--start');
  assert.deepEqual((await veld.show('web')).addresses, addresses);
  await veld.booted('web');
  assert.equal(await said('web', 'cat /etc/machine-id /srv/state'), `${id}\nsecond`);
});

test('on another machine over ssh; another node reads them with the password', async () => {
  // The other machine is a VE.
  const key = join(folder, 'key');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  const nas = await veld.createRunning('nas');
  await veld.booted('nas');
  await said('nas', `mkdir -p -m 700 /root/.ssh; echo '${readFileSync(`${key}.pub`, 'utf8').trim()}' >/root/.ssh/authorized_keys`);
  const place = `sftp://root@${nas.addresses[0]}/srv/of veld`;
  assert.match(await ok('repository', 'add', 'far', place, '--identity', key), /is made/);
  await refused(64, /several repositories/, 'backup', 'create', 'web');
  const first = await backUp('web', '--repository', 'far');
  const second = await backUp('web', '--repository', 'far');
  assert.ok(first.added > 40 << 20 && second.added < 12 << 20, 'what is there already is not sent');
  assert.equal((await list('--repository', 'far')).length, 2);
  const [far] = (await veld.json<RepositoryView[]>('repository', 'list')).filter(({ name }) => name === 'far');
  const password = join(folder, 'password');
  copyFileSync(far!.passwordFile, password);
  await ok('repository', 'remove', 'far');
  await refused(65, /password/, 'repository', 'add', 'again', place, '--identity', key);
  assert.match(await ok('repository', 'add', 'again', place, '--identity', key, '--password-file', password), /is added, with what is in it/);
  await ok('backup', 'restore', (await list('--repository', 'again'))[0]!.id, '--repository', 'again', '--as', 'ssh', '--start');
  await veld.booted('ssh');
  assert.equal(await said('ssh', 'cat /srv/state'), 'second');
  await veld.api.operate('DELETE', '/v1/ves/ssh?force=true');
  // Another machine in its place, and then none.
  await said('nas', 'rm /etc/ssh/ssh_host_*; ssh-keygen -A >/dev/null; systemctl restart ssh');
  await refused(66, /HOST IDENTIFICATION HAS CHANGED|Host key verification failed/i, 'backup', 'create', 'web', '--repository', 'again');
  await veld.api.operate('DELETE', '/v1/ves/nas?force=true');
  await refused(66, /cannot be used/, 'backup', 'list', '--repository', 'again');
  await ok('repository', 'remove', 'again');
});

test('who dies in a backup leaves none; the VE runs on; the next one works', async () => {
  const before = await list();
  for (const point of ['export.disk', 'export.standing']) {
    await veld.restart({ VELD_FAULT: `kill:${point}` });
    await veld.cliAcross(['backup', 'create', 'web']);
    assert.deepEqual((await list()).map(({ id }) => id), before.map(({ id }) => id), point);
    assert.equal(await said('web', 'cat /srv/state'), 'second');
  }
  // A cancel in the middle.
  await said('web', 'head -c 300M /dev/urandom >/srv/huge');
  const { id } = await veld.api.call<{ id: string }>('POST', '/v1/ves/web/backup', {});
  await until('it to be under way', async () => /MiB of/.test((await veld.api.call<{ message: string }>('GET', `/v1/operations/${id}`)).message), 30_000, 20);
  await ok('operation', 'cancel', id);
  assert.equal((await veld.api.call<{ state: string }>('GET', `/v1/operations/${id}`)).state, 'cancelled');
  await said('web', 'rm /srv/huge');
  assert.equal((await list()).length, before.length);
  const fresh = await backUp('web');
  assert.ok(fresh.added < 20 << 20);
  await ok('repository', 'check', 'disk');
});

test('a repository that is gone, full or broken is told of in words, and nothing is lost', async () => {
  renameSync(disk, `${disk}.away`);
  await refused(66, /cannot be used/, 'backup', 'create', 'web');
  await refused(66, /cannot be used/, 'backup', 'list');
  renameSync(`${disk}.away`, disk);
  // One byte of what is stored.
  const pack = execFileSync('find', [join(disk, 'data'), '-type', 'f', '-size', '+1M']).toString('utf8').trim().split('\n')[0]!;
  const bytes = readFileSync(pack);
  const bad = Buffer.from(bytes);
  bad[bad.length >> 1]! ^= 1;
  chmodSync(pack, 0o600);
  writeFileSync(pack, bad);
  await refused(67, /not whole/, 'repository', 'check', 'disk', '--data');
  writeFileSync(pack, bytes);
  await ok('repository', 'check', 'disk', '--data');
  // Full.
  const small = join(folder, 'small');
  mkdirSync(small);
  mountXfs(`${small}.img`, small);
  try {
    await ok('repository', 'add', 'small', join(small, 'repository'));
    execFileSync('fallocate', ['-l', String(Math.max(1 << 20, Number(execFileSync('df', ['--output=avail', '-B1', small]).toString('utf8').split('\n')[1]) - (8 << 20))), join(small, 'filler')]);
    await refused(21, /[Nn]o space left/, 'backup', 'create', 'web', '--repository', 'small');
    rmSync(join(small, 'filler'));
    assert.deepEqual(await list('--repository', 'small'), []);
    await ok('backup', 'create', 'web', '--repository', 'small');
    await ok('repository', 'remove', 'small');
  } finally {
    spawnSync('umount', [small]);
  }
  assert.equal((await veld.show('web')).status, 'running');
});

test('a VE with a schedule is backed up by itself, and what is not to be kept is forgotten', async () => {
  await refused(64, /no repository/i, 'set', 'web', 'backup.repository=nowhere');
  await ok('set', 'web', 'backup.repository=disk', 'backup.keep=2l', 'backup.schedule=hourly@00');
  await refused(64, /is backed up/, 'repository', 'remove', 'disk');
  const { uuid } = await veld.show('web');
  while ((await list(uuid)).length < 3) await backUp('web');
  const before = await list(uuid);
  assert.ok(before.length > 2);
  // The clock of the daemon alone: it looks once a minute, and an hour has passed when it is told so.
  await veld.stop();
  const tries = JSON.stringify({ [uuid]: { at: Date.now() - 7_200_000, due: Date.now() - 2 * 7_200_000, done: true } });
  execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', '-e', 'const { DatabaseSync } = require("node:sqlite"); const db = new DatabaseSync(process.argv[1]); db.prepare("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)").run("backup.tries", process.argv[2]);', join(veld.settings.stateDir, 'veld.db'), tries]);
  await veld.start();
  await until('the schedule', async () => { const now = await list(uuid); return now.length === 2 && now.at(-1)!.at > before.at(-1)!.at; }, 150_000, 2000);
  const now = await list(uuid);
  assert.deepEqual(now.map(({ name }) => name), ['web', 'web']);
  assert.ok((await list()).length > 2, 'those of the VE that was destroyed stay');
  await ok('set', 'web', 'backup.repository=');
  await ok('repository', 'remove', 'disk');
  assert.ok(readdirSync(disk).includes('config'), 'what is in it stays');
});
