/** Both levels of disk quota where the kernel has them: on ext4, XFS and btrfs, in pools that Veld makes. */
import assert from 'node:assert/strict';
import { test, test as declare } from 'node:test';
import type { PoolView, QuotaReport } from '../../src/ve/types.ts';
import { until } from '../lib/wait.ts';
import { PATIENCE, type Host } from './host.ts';

const MiB = 1 << 20;
/** Words, with commas, of which one must be in a title; default: all are wanted. */
const WANTED = process.env.VELD_TEST_ROWS?.split(',');
/** What may be written without the VE's doing while a test looks, bytes: journals. */
const NOISE = 12 * MiB;

/** What the tests of a pool do with a VE on it. */
interface Ground {
  host: Host;
  /** Name of the VE. */
  ve: string;
  quota(): Promise<QuotaReport>;
  set(changes: Record<string, unknown>): Promise<void>;
  /** Run a line in the VE. @returns its output, errors too */
  line(text: string): Promise<string>;
  /** Bytes of a file, or 0. */
  size(file: string): Promise<number>;
}

function groundOf(host: Host, ve: string): Ground {
  const line = async (text: string): Promise<string> => {
    const { stdout, stderr } = await host.exec(ve, 'sh', '-c', text);
    return (stdout + stderr).trim();
  };
  return {
    host, ve, line,
    quota: () => host.api.call<QuotaReport>('GET', `/v1/ves/${ve}/quota`),
    set: (changes) => host.set(ve, changes),
    size: async (file) => Number(await line(`stat -c %s ${file} 2>/dev/null || echo 0`)),
  };
}

/** Make a pool with a VE on it. */
async function make(host: Host, fileSystem: string, properties: Record<string, unknown>): Promise<PoolView> {
  const request = fileSystem === 'image' ? { name: fileSystem, driver: 'image', imageSize: 2 ** 30 } : { name: fileSystem, imageSize: 3 * 2 ** 30, fileSystem };
  const pool = (await host.api.operate('POST', '/v1/pools', request)).result as PoolView;
  await host.api.operate('POST', '/v1/ves', { name: `on-${fileSystem}`, template: host.template, properties: { 'disk.pool': fileSystem, ...properties }, start: true });
  await host.booted(`on-${fileSystem}`);
  return pool;
}

async function unmake({ host, ve }: Ground, pool: string): Promise<void> {
  await host.destroy(ve);
  await host.api.operate('DELETE', `/v1/pools/${pool}`);
  assert.equal(await host.machine.ask(`findmnt -rn | grep -c pools/${pool}`, { allow: true }), '0');
}

/** Space: the limit, what df says, live changes, a full disk, and that nobody else suffers. */
async function fillsSpace(ground: Ground): Promise<void> {
  const { host, line, set, quota, size } = ground;
  assert.match(await line('dd if=/dev/zero of=/root/fill bs=1M count=400 conv=fsync'), /Disk quota exceeded|No space left/);
  const first = await size('/root/fill');
  assert.ok(first > 100 * MiB && first <= 200 * MiB, `${first} bytes`);
  await host.machine.run('dd if=/dev/zero of=/var/lib/veld/other bs=1M count=20 status=none && rm /var/lib/veld/other');
  assert.ok((await quota()).ve.used!.space <= 200 * MiB);
  await set({ 'disk.space': '300M' });
  await line('dd if=/dev/zero of=/root/more bs=1M count=50 conv=fsync');
  assert.equal(await size('/root/more'), 50 * MiB, 'raised while it runs');
  await set({ 'disk.space': '100M' });
  assert.match(await line('dd if=/dev/zero of=/root/none bs=1M count=5 conv=fsync'), /Disk quota exceeded|No space left/, 'lowered below what is there');
  assert.equal(await size('/root/more'), 50 * MiB, 'nothing is lost');
  await line('rm -f /root/fill /root/more /root/none; sync');
  await until('what was removed to be free', async () => (await quota()).ve.used!.space < 90 * MiB, PATIENCE, 500);
  await line('dd if=/dev/zero of=/root/again bs=1M count=3 conv=fsync');
  assert.equal(await size('/root/again'), 3 * MiB);
  await set({ 'disk.space': '200M' });
}

/** df inside tells the limit and what is in use. */
async function showsInside({ line, quota }: Ground): Promise<void> {
  const [total, used] = (await line('df --output=size,used -B1 / | tail -n 1')).split(/\s+/).map(Number);
  assert.equal(total, 200 * MiB);
  assert.ok(Math.abs(used! - (await quota()).ve.used!.space) < NOISE, `${used}`);
}

/** The kernel's number is what du finds, to the block. */
async function countsExactly({ host, ve, line, quota }: Ground, pool: string): Promise<void> {
  await line('mkdir /root/many; for n in $(seq 300); do echo $n >/root/many/$n; done; dd if=/dev/zero of=/root/sparse bs=4k count=1 seek=5000 2>/dev/null; ln /root/many/1 /root/linked; sync');
  const { uuid } = await host.show(ve);
  await host.api.operate('POST', `/v1/ves/${ve}/stop`);
  const root = `/var/lib/veld/pools/${pool}/root`;
  const du = async (what: string): Promise<number> => Number(await host.machine.ask(`sync; du -s ${what} ${root}/ves/${uuid}/upper ${root}/ves/${uuid}/work | awk '{ sum += $1 } END { print sum }'`));
  const { space, inodes } = (await quota()).ve.used!;
  assert.equal(space, await du('--block-size=1'));
  assert.equal(inodes, await du('--inodes'));
  await host.api.operate('POST', `/v1/ves/${ve}/start`);
  await host.booted(ve);
}

async function fillsInodes({ line, set, quota }: Ground): Promise<void> {
  const { inodes } = (await quota()).ve.used!;
  await set({ 'disk.inodes': inodes! + 500 });
  assert.match(await line('mkdir /root/names && cd /root/names && for n in $(seq 1000); do : >$n || break; done'), /Disk quota exceeded|No space left/);
  const made = Number(await line('ls /root/names | wc -l'));
  assert.ok(made > 300 && made <= 500, `${made}`);
  await set({ 'disk.inodes': inodes! + 1000 });
  await line(': >/root/names/more');
  assert.equal(await line('ls /root/names/more'), '/root/names/more');
  await line('rm -rf /root/names');
  await set({ 'disk.inodes': null });
}

/** More than the soft limit, for the time of grace of this VE. */
async function expires({ line, set, quota, size }: Ground): Promise<void> {
  // An emulated machine has a clock of its own.
  const clock = async (): Promise<number> => Number(await line('date +%s'));
  const { space } = (await quota()).ve.used!;
  await set({ 'disk.space': { soft: space + 20 * MiB, hard: space + 100 * MiB }, 'disk.grace': 8 });
  await line('dd if=/dev/zero of=/root/soft bs=1M count=60 conv=fsync');
  assert.equal(await size('/root/soft'), 60 * MiB);
  const end = await until('its own time of grace', async () => {
    const { spaceUntil } = (await quota()).ve.used!;
    return spaceUntil !== null && spaceUntil < await clock() + 60 ? spaceUntil : undefined;
  }, PATIENCE, 500);
  await until('the end of it', async () => await clock() > end + 1, PATIENCE, 500);
  assert.match(await line('dd if=/dev/zero of=/root/late bs=1M count=5 conv=fsync'), /Disk quota exceeded|No space left/);
  await line('rm -f /root/soft /root/late; sync');
  await line('dd if=/dev/zero of=/root/late bs=1M count=5 conv=fsync');
  assert.equal(await size('/root/late'), 5 * MiB, 'below it all is well again');
  await line('rm -f /root/late');
  await set({ 'disk.space': '200M', 'disk.grace': null });
}

/** A VE whose disk is full to the last block goes on, is kept, and boots again. */
async function livesWhenFull({ host, ve, line, set, quota }: Ground): Promise<void> {
  const { space } = (await quota()).ve.used!;
  await set({ 'disk.space': Math.ceil((space + 24 * MiB) / 4096) * 4096 });
  await line('dd if=/dev/zero of=/root/full bs=4k conv=fsync; dd if=/dev/zero of=/root/full2 bs=512 conv=fsync; i=0; while echo x >/root/small$i; do i=$((i+1)); done');
  await host.api.operate('POST', `/v1/ves/${ve}/snapshots`, { name: 'full', live: true });
  await host.api.operate('POST', `/v1/ves/${ve}/suspend`);
  await host.api.operate('POST', `/v1/ves/${ve}/resume`);
  await host.api.operate('POST', `/v1/ves/${ve}/stop`);
  await host.api.operate('POST', `/v1/ves/${ve}/start`);
  assert.doesNotMatch(await line('rm /root/full2 /root/small*; rm /root/full; : >/root/works; ls /root/works'), /Read-only/);
  await host.api.operate('DELETE', `/v1/ves/${ve}/snapshots/full`);
  await set({ 'disk.space': '200M' });
}

/** The VE's root cannot get out of its account. */
async function stays({ line }: Ground): Promise<void> {
  assert.match(await line('mkdir -p /root/out; chattr -p 0 /root/out && echo changed'), /not permitted|Invalid|not supported|Inappropriate|not found/i);
  assert.doesNotMatch(await line('chattr -P /root/out && echo changed'), /changed/);
}

/** Second level: users and groups. */
async function limitsUsers({ host, ve, line, set, quota }: Ground, pool: string): Promise<void> {
  const limit = (kind: string, who: number, limits: object): Promise<unknown> => host.api.call('PATCH', `/v1/ves/${ve}/quota/${kind}/${who}`, limits);
  assert.equal((await host.api.raw('PATCH', `/v1/ves/${ve}/quota/user/1000`, { space: '10M' })).status, 409, 'not while disk.users is 0');
  await set({ 'disk.users': 1500 });
  await limit('user', 1000, { space: '10M', inodes: 50 });
  await line('mkdir -m 777 -p /srv/all');
  const as = (ids: string, what: string): Promise<string> => line(`setpriv ${ids} --clear-groups sh -c '${what}'`);
  assert.match(await as('--reuid 1000 --regid 1000', 'dd if=/dev/zero of=/srv/all/mine bs=1M count=20 conv=fsync'), /Disk quota exceeded/);
  assert.match(await as('--reuid 1000 --regid 1000', 'for n in $(seq 100); do : >/srv/all/u$n || break; done'), /Disk quota exceeded/);
  assert.doesNotMatch(await as('--reuid 1001 --regid 1001', 'dd if=/dev/zero of=/srv/all/other bs=1M count=20 conv=fsync'), /exceeded/, 'another user');
  await limit('group', 2000, { space: '5M' });
  assert.match(await as('--reuid 1002 --regid 2000', 'dd if=/dev/zero of=/srv/all/group bs=1M count=20 conv=fsync'), /Disk quota exceeded/);
  const report = await quota();
  const mine = report.users.find(({ id }) => id === 1000)!;
  assert.equal(mine.used.space, 10 * MiB);
  assert.equal(mine.used.inodes, 50);
  assert.deepEqual(mine.limits, { space: { soft: 10 * MiB, hard: 10 * MiB }, inodes: { soft: 50, hard: 50 } });
  assert.equal(report.groups.find(({ id }) => id === 2000)!.used.space, 5 * MiB);
  assert.equal(report.users.find(({ id }) => id === 0)!.name, 'root');
  await limit('user', 1000, { space: '12M', inodes: 60 });
  assert.doesNotMatch(await as('--reuid 1000 --regid 1000', 'dd if=/dev/zero of=/srv/all/mine2 bs=1M count=1 conv=fsync'), /exceeded/, 'raised while it runs');

  // What the host's own tool says of the same users, by their ids on the host.
  const { uidBase } = await host.show(ve);
  const said = await host.machine.ask(`repquota -n -u -v /var/lib/veld/pools/${pool}/root`, { allow: true });
  assert.match(said, new RegExp(`^#${uidBase + 1000} .*\\b${12 * 1024}\\b`, 'm'));

  // Their limits go where the VE goes.
  await host.api.operate('POST', `/v1/ves/${ve}/clone`, { name: 'twin', live: true });
  const twin = await host.api.call<QuotaReport>('GET', '/v1/ves/twin/quota');
  assert.deepEqual(twin.users.find(({ id }) => id === 1000)!.limits, { space: { soft: 12 * MiB, hard: 12 * MiB }, inodes: { soft: 60, hard: 60 } });
  assert.match((await host.exec('twin', 'sh', '-c', 'setpriv --reuid 1000 --regid 1000 --clear-groups dd if=/dev/zero of=/srv/all/twins bs=1M count=30 conv=fsync')).stderr, /Disk quota exceeded/);
  const { uidBase: twinBase } = await host.show('twin');
  await host.destroy('twin');
  assert.doesNotMatch(await host.machine.ask(`repquota -n -u /var/lib/veld/pools/${pool}/root`, { allow: true }), new RegExp(`^#${twinBase + 1000} .*\\b${12 * 1024}\\b`, 'm'), 'another VE may get its ids');

  await host.api.operate('POST', `/v1/ves/${ve}/checkpoint`, { file: '/root/quota.veld', keepRunning: true });
  await host.api.operate('POST', '/v1/restore', { file: '/root/quota.veld', name: 'again' });
  const again = await host.api.call<QuotaReport>('GET', '/v1/ves/again/quota');
  assert.deepEqual(again.users.find(({ id }) => id === 1000)!.limits, { space: { soft: 12 * MiB, hard: 12 * MiB }, inodes: { soft: 60, hard: 60 } }, 'from a file');
  await host.destroy('again');
  await host.machine.run('rm /root/quota.veld');

  // A thousand of them.
  const ids = Array.from({ length: 1000 }, (_, n) => 10_000 + n);
  for (let at = 0; at < ids.length; at += 20) await Promise.all(ids.slice(at, at + 20).map((id) => limit('user', id, { space: '1M', inodes: 10 })));
  await line('cd /srv/all; for n in $(seq 10000 10999); do echo $n >f$n; done; for n in $(seq 10000 10999); do chown $n:$n f$n; done; sync');
  const many = (await quota()).users.filter(({ id }) => id >= 10_000 && id < 11_000);
  assert.equal(many.length, 1000);
  assert.ok(many.every(({ used, limits }) => used.inodes === 1 && limits.space!.hard === MiB));
  assert.equal((await host.api.raw('PATCH', `/v1/ves/${ve}/quota/user/70000`, { space: '1M' })).status, 400);
  await line('rm -rf /srv/all');
}

/** The standard tools, inside the VE: they show what the kernel has counted, and what they set holds. */
async function toolsInside({ host, ve, line, quota, set }: Ground): Promise<void> {
  const as = (uid: number, what: string): Promise<string> => line(`setpriv --reuid ${uid} --regid ${uid} --clear-groups sh -c '${what}'`);
  await set({ 'disk.users': 0 });
  await line('rm -f /usr/local/bin/quota /usr/local/sbin/*quota; echo alice:x:3000:3000::/srv/tools:/bin/sh >>/etc/passwd; echo bob:x:3001:3001::/srv/tools:/bin/sh >>/etc/passwd; mkdir -p -m 1777 /srv/tools');
  await set({ 'disk.users': 1500 });
  await until('the tools to be there', async () => await line('command -v repquota') === '/usr/local/sbin/repquota', PATIENCE, 250);

  await as(3000, 'dd if=/dev/zero of=/srv/tools/a bs=1k count=1234 status=none; : >/srv/tools/a2; sync /srv/tools/a');
  assert.equal(await line('setquota -u alice 0 5M 0 20 -a; echo $?'), '0');
  // What repquota says, what the kernel has counted, and what was written are the same, to the block.
  const of = async (name: string): Promise<string[]> => (await line('repquota -a')).split('\n').find((row) => row.startsWith(`${name} `))?.trim().split(/\s+/) ?? [];
  const counted = (await quota()).users.find(({ id }) => id === 3000)!;
  assert.deepEqual(await of('alice'), ['alice', '--', String(counted.used.space / 1024), '0', '5120', '2', '0', '20']);
  assert.equal(counted.used.space, 1024 * Number(await line('du -k /srv/tools/a | cut -f1')));
  for (const { id, name, used } of (await quota()).users.filter(({ id }) => id >= 1000)) {
    const [, , blocks, , , ...more] = await of(name ?? `#${id}`);
    assert.deepEqual([blocks, more.includes(String(used.inodes))], [String(Math.ceil(used.space / 1024)), true], `${name ?? id}`);
  }
  assert.match(await as(3000, 'dd if=/dev/zero of=/srv/tools/a bs=1M count=20 conv=fsync'), /Disk quota exceeded/);
  const own = await as(3000, 'quota; echo status $?');
  assert.match(own, /^Disk quotas for user alice \(uid 3000\): \n.*\n +overlay +5120\* +0 +5120 +2 +0 +20 *\nstatus 1$/);
  assert.match(await as(3000, 'setquota -u alice 0 0 0 0 -a; quota bob; repquota -a'), /^(.*only root may.*\n?){3}$/);

  await line('printf "#!/bin/sh\\nsed -i \\"s/ 5120  *2 / 7168 2 /\\" \\"\\$1\\"\\n" >/root/editor; chmod 755 /root/editor');
  assert.equal(await line('EDITOR=/root/editor edquota alice; echo $?; ls /tmp | grep edquota'), '0');
  assert.equal((await of('alice'))[4], '7168');
  assert.equal(await line('edquota -p alice bob; printf "alice 1M 6M 0 0\\n" | setquota -b -a; echo $?'), '0');
  assert.equal((await of('bob'))[4], '7168');

  // More than the soft limit, for the time that the VE's root gives.
  assert.equal(await line('setquota -t 8 8 -a; echo $?'), '0');
  assert.equal((await host.show(ve)).properties['disk.users_grace'], 8);
  const end = await until('a time of grace of its own', async () => {
    const until = (await quota()).users.find(({ id }) => id === 3000)?.used.spaceUntil;
    return until !== null && until !== undefined && until < Number(await line('date +%s')) + 60 ? until : undefined;
  }, PATIENCE, 500);
  await line('printf "#!/bin/sh\\ncat >>/root/mails\\n" >/usr/sbin/sendmail; chmod 755 /usr/sbin/sendmail; warnquota');
  assert.match(await line('grep ^To: /root/mails'), /^To: alice/m);
  await until('the end of it', async () => Number(await line('date +%s')) > end + 1, PATIENCE, 500);
  assert.match(await as(3000, 'dd if=/dev/zero of=/srv/tools/late bs=64k count=1 conv=fsync'), /Disk quota exceeded/);
  assert.match((await of('alice')).join(' '), /^alice \+- 5120 1024 6144 none /);

  // They work wherever the VE has got to.
  const works = async (name = ve): Promise<void> => {
    await until('the tools to work', async () => / 7168 /.test((await host.exec(name, 'sh', '-c', 'quota bob')).stdout), PATIENCE, 250);
  };
  await host.api.operate('POST', `/v1/ves/${ve}/suspend`);
  await host.api.operate('POST', `/v1/ves/${ve}/resume`);
  await works();
  const { number } = await host.show(ve);
  await host.machine.run('systemctl stop veldd');
  const inside = await host.machine.ask(`nsenter -t $(cut -d" " -f1 /run/veld/ves/${number}/init) -m -U /usr/local/bin/quota bob 2>&1`, { allow: true });
  assert.match(inside, /daemon on the host does not run just now/);
  await host.machine.run('systemctl start veldd');
  await host.answers();
  await works();
  await host.api.operate('POST', `/v1/ves/${ve}/restart`);
  await host.booted(ve);
  await works();
  await host.api.operate('POST', `/v1/ves/${ve}/clone`, { name: 'tools', live: true });
  await works('tools');
  await host.destroy('tools');
  await set({ 'disk.users': 0 });
  await until('it to be off', async () => /have no disk quotas/.test(await line('quota bob')), PATIENCE, 250);
  await set({ 'disk.users': 1500, 'disk.users_grace': null });
  await line('rm -rf /srv/tools /root/mails /usr/sbin/sendmail /root/editor');
}

/** The host loses its power while the VE writes. */
async function outlastsPower({ host, ve, line, quota }: Ground, pool: string): Promise<void> {
  const { machine } = host;
  await line('sync; systemd-run --quiet --unit=writer sh -c "while :; do for n in 1 2 3 4 5; do dd if=/dev/zero of=/root/w$n bs=64k count=100; done; rm -f /root/w*; done"');
  await until('it to write', async () => Number(await line('ls /root | grep -c ^w || true')) > 0, PATIENCE, 250);
  await machine.powerCut();
  await machine.start();
  await host.answers();
  assert.match(await machine.ask(`findmnt -no OPTIONS /var/lib/veld/pools/${pool}/root`), /nosuid/);
  const { uuid } = await host.show(ve);
  const root = `/var/lib/veld/pools/${pool}/root`;
  const found = Number(await machine.ask(`sync; du -s --block-size=1 ${root}/ves/${uuid}/upper ${root}/ves/${uuid}/work | awk '{ sum += $1 } END { print sum }'`));
  const { space } = (await quota()).ve.used!;
  assert.equal(space, found, 'the account is what is there');
  await host.api.operate('POST', `/v1/ves/${ve}/start`);
  await host.booted(ve);
  assert.match(await line('dd if=/dev/zero of=/root/fill bs=1M count=400 conv=fsync'), /Disk quota exceeded|No space left/);
  await line('rm -f /root/fill');
}

/** The whole of it, on each file system. `demo` runs meanwhile, on the default pool. */
export function quotaTests(host: Host): void {
  const test = (title: string, work: () => Promise<void>): void => void declare(title, WANTED?.some((word) => title.includes(word)) === false ? { skip: 'not asked for (VELD_TEST_ROWS)' } : {}, work);
  const ext4 = groundOf(host, 'on-ext4');
  test('ext4: a pool that holds everything', async () => {
    const { holds } = await make(host, 'ext4', { 'disk.space': '200M' });
    assert.deepEqual(holds, { 'disk.space': true, 'disk.inodes': true, 'disk.users': true, 'soft': true });
  });
  test('ext4: df inside', () => showsInside(ext4));
  test('ext4: fill by space, raise and lower', () => fillsSpace(ext4));
  test('ext4: the numbers, to the block', () => countsExactly(ext4, 'ext4'));
  test('ext4: fill by inodes', () => fillsInodes(ext4));
  test('ext4: soft limit and its time of grace', () => expires(ext4));
  test('ext4: a full disk', () => livesWhenFull(ext4));
  test('ext4: no way out', () => stays(ext4));
  test('ext4: users and groups, a thousand of them', () => limitsUsers(ext4, 'ext4'));
  test('ext4: the quota tools inside', () => toolsInside(ext4));
  test('ext4: a power cut in the middle of writes', () => outlastsPower(ext4, 'ext4'));
  test('ext4: the pool goes', () => unmake(ext4, 'ext4'));

  const xfs = groundOf(host, 'on-xfs');
  test('XFS: a pool that holds the first level', async () => {
    const { holds } = await make(host, 'xfs', { 'disk.space': '200M' });
    assert.deepEqual({ ...holds, 'disk.users': null }, { 'disk.space': true, 'disk.inodes': true, 'disk.users': null, 'soft': true });
    assert.match(String(holds!['disk.users']), /same ids/);
    assert.equal((await host.api.raw('PATCH', '/v1/ves/on-xfs/properties', { changes: { 'disk.users': 10 } })).status, 501);
  });
  test('XFS: df inside', () => showsInside(xfs));
  test('XFS: fill by space, raise and lower', () => fillsSpace(xfs));
  test('XFS: fill by inodes', () => fillsInodes(xfs));
  test('XFS: soft limit and its time of grace', () => expires(xfs));
  test('XFS: a full disk', () => livesWhenFull(xfs));
  test('XFS: no way out', () => stays(xfs));
  test('XFS: the pool goes', () => unmake(xfs, 'xfs'));

  const btrfs = groundOf(host, 'on-btrfs');
  test('btrfs: a pool that holds space', async () => {
    const { holds } = await make(host, 'btrfs', { 'disk.space': '200M' });
    assert.equal(holds!['disk.space'], true);
  });
  test('btrfs: fill by space, raise and lower', () => fillsSpace(btrfs));
  test('btrfs: a full disk', () => livesWhenFull(btrfs));
  test('btrfs: the pool goes', () => unmake(btrfs, 'btrfs'));

  const image = groundOf(host, 'on-image');
  test('image: a pool with a file for each VE, that holds everything', async () => {
    const { holds } = await make(host, 'image', { 'disk.space': '200M' });
    assert.deepEqual(holds, { 'disk.space': true, 'disk.inodes': true, 'disk.users': true, 'soft': true });
  });
  test('image: df inside', () => showsInside(image));
  test('image: fill by space, raise and lower', () => fillsSpace(image));
  test('image: it grows while the VE runs', async () => {
    const file = `/var/lib/veld/pools/image/disks/${(await host.show('on-image')).uuid}/image`;
    const size = async (): Promise<number> => Number(await host.machine.ask(`stat -c %s ${file}`));
    const before = await size();
    await image.set({ 'disk.space': '900M' });
    assert.ok(await size() > before + 400 * MiB, `${before}`);
    await image.line('dd if=/dev/zero of=/root/large bs=1M count=600 conv=fsync');
    assert.equal(await image.size('/root/large'), 600 * MiB);
    await image.line('rm /root/large; sync');
    await image.set({ 'disk.space': '200M' });
    await host.api.operate('POST', '/v1/ves/on-image/restart');
    await host.booted('on-image');
    assert.ok(await size() < before + 100 * MiB, 'and shrinks while it is at rest');
  });
  test('image: fill by inodes', () => fillsInodes(image));
  test('image: soft limit and its time of grace', () => expires(image));
  test('image: a full disk', () => livesWhenFull(image));
  test('image: users', async () => {
    await image.set({ 'disk.users': 10 });
    await host.api.call('PATCH', '/v1/ves/on-image/quota/user/1000', { space: '5M' });
    assert.match(await image.line('mkdir -m 777 /srv/all; setpriv --reuid 1000 --regid 1000 --clear-groups dd if=/dev/zero of=/srv/all/mine bs=1M count=9 conv=fsync'), /Disk quota exceeded/);
    assert.equal((await image.quota()).users.find(({ id }) => id === 1000)!.used.space, 5 * MiB);
    await image.line('rm -r /srv/all');
  });
  test('image: a power cut in the middle of writes', async () => {
    const { line } = image;
    await line('sync; systemd-run --quiet --unit=writer sh -c "while :; do for n in 1 2 3; do dd if=/dev/zero of=/root/w$n bs=64k count=100; done; rm -f /root/w*; done"');
    await until('it to write', async () => Number(await line('ls /root | grep -c ^w || true')) > 0, PATIENCE, 250);
    await host.machine.powerCut();
    await host.machine.start();
    await host.answers();
    await host.api.operate('POST', '/v1/ves/on-image/start');
    await host.booted('on-image');
    assert.match(await line('dd if=/dev/zero of=/root/fill bs=1M count=400 conv=fsync'), /Disk quota exceeded|No space left/);
    assert.ok((await image.quota()).ve.used!.space <= 200 * MiB);
    await line('rm -f /root/fill');
  });
  test('image: the pool goes', () => unmake(image, 'image'));
}

/** The least of it, for every day. Leaves nothing but what was there. */
export function quotaTest(host: Host): void {
  test('a VE and its users write up to their quotas and no further, on a pool that Veld has made', async () => {
    const ground = groundOf(host, 'on-ext4');
    await make(host, 'ext4', { 'disk.space': '120M', 'disk.users': 10 });
    assert.equal(Number(await ground.line('df --output=size -B1 / | tail -n 1')), 120 * MiB);
    await host.api.call('PATCH', '/v1/ves/on-ext4/quota/user/1000', { space: '5M' });
    assert.match(await ground.line('mkdir -m 777 /srv/all; setpriv --reuid 1000 --regid 1000 --clear-groups dd if=/dev/zero of=/srv/all/mine bs=1M count=9 conv=fsync'), /Disk quota exceeded/);
    assert.equal((await ground.quota()).users.find(({ id }) => id === 1000)!.used.space, 5 * MiB);
    assert.match(await ground.line('dd if=/dev/zero of=/root/fill bs=1M count=200 conv=fsync'), /Disk quota exceeded/);
    assert.ok((await ground.quota()).ve.used!.space <= 120 * MiB);
    await unmake(ground, 'ext4');
  });
}
