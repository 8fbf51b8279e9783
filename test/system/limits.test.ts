/** Limits of a VE: each is filled from inside, refused as the kernel refuses it, and raised while the VE runs; its neighbour notices nothing. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { cgroupsOf } from '../lib/leftovers.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
await veld.createRunning('web', { 'memory.limit': '256M' });
await veld.createRunning('neighbour');
await Promise.all(['web', 'neighbour'].map((ve) => veld.booted(ve)));
const was = await veld.show('neighbour');
const cpus = readFileSync('/sys/devices/system/cpu/online', 'utf8').trim();
const two = { skip: cpus === '0' && 'this host has one CPU' };

async function sh(script: string, ve = 'web'): Promise<string> {
  const { stdout, stderr } = await veld.exec(ve, 'sh', '-c', script);
  return `${stdout}${stderr}`.trim();
}

/** A control file of a VE, of whichever version is there. */
async function control(...files: string[]): Promise<string> {
  const { number } = await veld.show('web');
  const found = cgroupsOf(veld.name).filter((group) => group.endsWith(`/${number}`)).flatMap((group) => files.map((file) => `${group}/${file}`)).find((file) => existsSync(file));
  return readFileSync(found!, 'utf8').trim();
}

const set = async (...words: string[]): Promise<void> => {
  const { code, stderr } = await veld.cli('set', 'web', ...words);
  assert.equal(code, 0, stderr);
};
const refused = async (says: RegExp, ...words: string[]): Promise<void> => {
  const { code, stderr } = await veld.cli('set', 'web', ...words);
  assert.notEqual(code, 0, words.join(' '));
  assert.match(stderr, says);
};

test('CPUs: a VE sees so many, and not others; it changes while it runs', two, async () => {
  const seen = (): Promise<string> => sh('nproc; grep -c ^processor /proc/cpuinfo; grep -c "^cpu[0-9]" /proc/stat');
  const all = await seen();
  await set('cpu.count=1');
  assert.equal(await seen(), '1\n1\n1');
  const [one] = (await sh('grep Cpus_allowed_list /proc/self/status')).split(/\s+/).slice(-1);
  await set('cpu.count=1', 'description=again');
  assert.equal(await sh('grep Cpus_allowed_list /proc/1/status | cut -f2'), one, 'it stays where it is');
  await set('--unset', 'cpu.count');
  assert.equal(await seen(), all);
  await set('cpu.mask=1');
  assert.equal(await sh('grep Cpus_allowed_list /proc/1/status | cut -f2'), '1');
  await refused(/2 CPUs are more than cpu\.mask and cpu\.nodes leave it: 1 \(1\)/, 'cpu.count=2');
  await refused(/no CPU 4095 for VEs/, 'cpu.mask=4095');
  await refused(/no NUMA node 77/, 'cpu.nodes=77');
  assert.equal(await sh('nproc'), '1', 'a refused change changes nothing');
  await set('--unset', 'cpu.mask');
  assert.equal(await seen(), all);
});

test('CPUs: VEs that see one are spread over all', two, async () => {
  await set('cpu.count=1');
  const { code, stderr } = await veld.cli('set', 'neighbour', 'cpu.count=1');
  assert.equal(code, 0, stderr);
  const where = (ve: string): Promise<string> => sh('grep Cpus_allowed_list /proc/1/status | cut -f2', ve);
  assert.notEqual(await where('web'), await where('neighbour'));
  for (const ve of ['web', 'neighbour']) await veld.cli('set', ve, '--unset', 'cpu.count');
});

test('CPU time: the limit throttles, a higher one does not, a burst is within it', async () => {
  const throttled = async (): Promise<number> => Number(/^nr_throttled (\d+)/m.exec(await control('cpu.stat'))![1]);
  await refused(/cpu\.burst needs a cpu\.limit/, 'cpu.burst=10%');
  await set('cpu.limit=20%', 'cpu.burst=10%');
  assert.equal(await control('cpu.cfs_burst_us', 'cpu.max.burst'), '10000');
  await refused(/cpu\.burst \(21%\) is more than cpu\.limit \(20%\)/, 'cpu.burst=21%');
  await refused(/more than cpu\.limit \(5%\)/, 'cpu.limit=5%');
  assert.match(await control('cpu.cfs_quota_us', 'cpu.max'), /^20000( 100000)?$/);
  await sh('systemd-run --quiet --unit=burner timeout 60 sh -c "while :; do :; done"');
  const before = await throttled();
  await until('it to be throttled', async () => await throttled() > before + 3);
  await set('cpu.limit=400%', 'cpu.burst=0');
  const used = async (): Promise<number> => (await veld.show('web')).usage!.cpuSeconds;
  const [calm, since] = [await throttled(), await used()];
  await until('it to have used a second', async () => await used() > since + 1, 60_000);
  assert.equal(await throttled(), calm, 'never throttled meanwhile');
  await sh('systemctl stop burner');
  await set('--unset', 'cpu.limit', '--unset', 'cpu.burst');
});

test('memory: a program that wants more is ended, in this VE alone; with more it is not', async () => {
  const fill = (): Promise<string> => sh("perl -e '$m = \"x\" x (160 << 20); print length $m' 2>&1; true");
  // (perl makes it twice.)
  await set('memory.swap=0');
  assert.doesNotMatch(await fill(), /167772160/);
  await set('memory.limit=768M');
  assert.match(await fill(), /167772160/);
  assert.equal(await sh('systemctl is-system-running --wait >/dev/null; systemctl is-active dbus'), 'active');
  await set('memory.limit=256M');
});

test('processes: no more than so many, then more', async () => {
  const fork = (): Promise<string> => sh("perl -e 'for (1 .. 300) { $p = fork; if (!defined $p) { print \"refused: \", join(\",\", grep { $!{$_} } keys %!); last } if (!$p) { sleep 60; exit } push @p, $p } print scalar(@p) == 300 ? \"all\" : \"\"; kill KILL => @p; wait for @p'");
  await set('pids.limit=150');
  assert.match(await fork(), /refused: .*EAGAIN/);
  await set('pids.limit=1000');
  assert.equal(await fork(), 'all');
});

test('disk: reads are held to so many bytes and operations a second', async (t) => {
  await sh('dd if=/dev/urandom of=/srv/file bs=1M count=12 conv=fsync 2>/dev/null');
  const read = async (size: number): Promise<number> => {
    const since = performance.now();
    assert.match(await sh(`dd if=/srv/file of=/dev/null iflag=direct bs=${size} count=${(8 << 20) / size} 2>&1`), /8388608 bytes/);
    return performance.now() - since;
  };
  if ((await veld.cli('set', 'web', 'io.limit=4M')).code !== 0) return t.skip('no disk of this host can be limited');
  // The kernel gives some of it beforehand: the first of its slices.
  assert.ok(await read(1 << 20) > 1000, '8 MiB at 4 MiB a second');
  await set('--unset', 'io.limit');
  const free = await read(64 << 10);
  await set('io.iops=40');
  const [held] = [await read(64 << 10)];
  assert.ok(held > 1500 && held > 2 * free, `128 operations at 40 a second: ${held} ms, ${free} ms without`);
  await set('--unset', 'io.iops');
});

test('priority of the disk: set, or refused with what the disk lacks', async () => {
  const { code, stderr } = await veld.cli('set', 'web', 'io.priority=7');
  if (code === 0) await set('--unset', 'io.priority');
  else assert.match(stderr, /io\.priority cannot be held on this host: .*bfq/);
});

/** Sends so many bytes for `get N`, and takes as many for `put N`, one connection after the other. */
const TRANSFER = `use IO::Socket; $s = IO::Socket::INET->new(Listen => 5, LocalPort => 7300, ReuseAddr => 1) or die;
while ($c = $s->accept) { $c->autoflush(1); ($w, $n) = split " ", <$c>; if ($w eq "get") { print $c "x" x 65536 for 1 .. $n >> 16 } else { $n -= read $c, $b, 4096 while $n > 0; print $c "done" } close $c }`;

test('network: what it sends and what it receives is held to its rate, each by itself', { timeout: 120_000 }, async (t) => {
  await sh(`systemd-run --quiet --unit=transfer perl -e '${TRANSFER}'`);
  const [address] = (await veld.show('web')).addresses;
  const SIZE = 4 << 20;
  const transfer = (what: 'get' | 'put'): Promise<number> => new Promise((resolve, reject) => {
    const since = performance.now();
    const socket = connect(7300, address);
    let came = 0;
    socket.on('error', reject).on('data', (chunk: Buffer) => { came += chunk.length; }).on('close', () => {
      if (came < (what === 'get' ? SIZE : 4)) reject(new Error(`${came} bytes came`));
      else resolve(performance.now() - since);
    });
    socket.write(`${what} ${SIZE}\n`);
    if (what === 'put') socket.write(Buffer.alloc(SIZE));
  });
  await until('the server', () => transfer('get').then(() => true, () => false));
  for (const [direction, slow, quick] of [['out', 'get', 'put'], ['in', 'put', 'get']] as const) {
    await set(`network.rate.${direction}=8mbit`);
    const [held, free] = [await transfer(slow), await transfer(quick)];
    t.diagnostic(`${direction} at 8 Mbit/s: 4 MiB in ${Math.round(held)} ms; the other way in ${Math.round(free)} ms`);
    // A second's worth goes at once.
    assert.ok(held > 2500, `${held} ms`);
    assert.ok(free < held, `${free} ms the other way`);
    await set('--unset', `network.rate.${direction}`);
    assert.ok(await transfer(slow) < held, 'without');
  }
});

test('of the running VE alone, and of its record alone', async () => {
  const limit = (): Promise<string> => control('pids.max');
  await set('pids.limit=700');
  await set('--live-only', 'pids.limit=300');
  assert.deepEqual([await limit(), (await veld.show('web')).properties['pids.limit']], ['300', 700]);
  await set('--config-only', 'pids.limit=800');
  assert.deepEqual([await limit(), (await veld.show('web')).properties['pids.limit']], ['300', 800]);
  await set('cpu.weight=150');
  assert.equal(await limit(), '300', 'another limit leaves it alone');
  await refused(/description cannot change in the running VE alone/, '--live-only', 'description=x');
  await refused(/contradict/, '--live-only', '--config-only', 'pids.limit=5');
  await veld.api.operate('POST', '/v1/ves/web/restart', {});
  await veld.booted('web');
  assert.equal(await limit(), '800', 'a start takes the record');
});

test('limits are what the record says after a restore, and after the daemon was killed', { timeout: 200_000 }, async () => {
  const all = (): Promise<string[]> => Promise.all([control('pids.max'), control('cpu.shares', 'cpu.weight'), control('cpu.cfs_quota_us', 'cpu.max'), control('cpu.cfs_burst_us', 'cpu.max.burst'), control('memory.limit_in_bytes', 'memory.max'), control('cpuset.cpus')]);
  await set('cpu.limit=150%', 'cpu.burst=25%', 'cpu.mask=0', 'pids.limit=555', 'cpu.weight=300');
  const before = await all();
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  await veld.api.operate('POST', '/v1/ves/web/resume');
  assert.deepEqual(await all(), before);
  await set('--live-only', 'pids.limit=400');
  await veld.kill9();
  await veld.start();
  await until('limits of the record', async () => await control('pids.max') === '555');
  assert.deepEqual(await all(), before);
});

test('a VE whose limits this host cannot hold is not made', async () => {
  const { code, stderr } = await veld.cli('create', 'big', '-t', 'test', '--set', 'cpu.count=4000');
  assert.notEqual(code, 0);
  assert.match(stderr, /4000 CPUs are more than this host has/);
  assert.ok(!(await veld.list()).some((ve) => JSON.stringify(ve).includes('"big"')));
});

test('the neighbour has noticed nothing', async () => {
  const now = await veld.show('neighbour');
  assert.deepEqual([now.status, now.pid], [was.status, was.pid]);
  assert.equal(await sh('systemctl is-system-running', 'neighbour'), 'running');
});
