/** What goes wrong around a dump and a restore: the VE runs on, or stays suspended with its state, and whoever asked is told why. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, test, type TestContext } from 'node:test';
import { criuAtWork, keepUnsaid } from '../lib/criu.ts';
import { fileInstance } from '../lib/instance.ts';
import { SEED, randomFrom } from '../lib/random.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import { openLine, untilText, type Line } from './workloads/clients/talk.ts';

/** Seconds. */
const STALL_TIMEOUT = 6;

const veld = await fileInstance({ settings: (settings) => { settings.checkpoint.stallTimeout = STALL_TIMEOUT; } });
const { stateDir } = veld.settings;
const random = randomFrom(SEED);

/** Answers each line with how many there were; waits as servers do, not in the middle of a read. */
const SERVER = 'use IO::Socket::IP; use IO::Select; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 7000, Listen => 9, ReuseAddr => 1, V6Only => 0) or die $@; '
  + 'my $n = 0; my $all = IO::Select->new($s); while (1) { for my $c ($all->can_read) { if ($c == $s) { $all->add($s->accept); next } '
  + 'if (sysread($c, my $line, 100)) { $n++; syswrite($c, "$n\\n") } else { $all->remove($c); close $c } } }';

let line: Line | undefined;
after(() => line?.end());
let asked = 0;

/** The same process answers over the same connection, and systemd starts a unit. */
async function assertRuns(): Promise<void> {
  line!.send('a\n');
  asked += 1;
  assert.equal(await line!.receive(untilText('\n')), String(asked));
  const { exitCode, stderr } = await veld.exec('web', 'systemd-run', '--quiet', '--collect', '--wait', 'true');
  assert.equal(exitCode, 0, stderr);
}

let running: string[];

/** Start the server, and connect to it. */
async function serve(): Promise<void> {
  line?.end();
  await veld.exec('web', 'systemctl', 'reset-failed', 'server');
  const { exitCode, stderr } = await veld.exec('web', 'systemd-run', '--quiet', '--unit=server', 'perl', '-e', SERVER);
  assert.equal(exitCode, 0, stderr);
  const { addresses } = await veld.show('web');
  line = await until('the server', () => openLine(addresses[0]!, 7000).catch(() => undefined));
  asked = 0;
}

/** Signals of which a process dies that goes on in the middle of what criu was having it do. */
const STRUCK = [4, 5, 7, 11];

/**
 * Whether the process that counts was struck when criu was killed: criu has each process run some code of criu's own, and one that is in the middle of
 * that cannot go on without criu. What was struck is begun anew.
 */
async function wasStruck(t: TestContext): Promise<boolean> {
  // (An init that was struck is dying, perhaps.)
  const lives = await veld.exec('web', 'true').then(() => true, () => false);
  const { status, lastExit } = lives ? await veld.show('web') : await until('the end of its init', async () => {
    const ve = await veld.show('web');
    return ve.status === 'failed' || ve.status === 'stopped' ? ve : undefined;
  }, 20_000);
  if (status === 'running') {
    const { stdout } = await veld.exec('web', 'systemctl', 'show', '-p', 'ActiveState', '-p', 'ExecMainStatus', 'server');
    if (/^ActiveState=active$/m.test(stdout)) return false;
    t.diagnostic(`the server was struck: ${stdout.trim().replace('\n', ' ')}`);
    assert.ok(STRUCK.includes(Number(/^ExecMainStatus=(\d+)$/m.exec(stdout)?.[1])), stdout);
  } else {
    t.diagnostic(`init was struck: ${JSON.stringify(lastExit)}`);
    await veld.api.operate('POST', '/v1/ves/web/start');
    assert.equal(await veld.booted('web'), 'running');
  }
  await serve();
  return true;
}

test('a VE with a client', async () => {
  await veld.createRunning('web');
  assert.equal(await veld.booted('web'), 'running');
  await serve();
  await assertRuns();
  running = veld.outline();
});

test('the disk is full in the middle of a dump: said so, and the VE runs on', async (t) => {
  const states = join(stateDir, 'states');
  mkdirSync(states, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m,mode=700', 'veld-test', states]);
  let mounted = true;
  const free = (): void => {
    if (mounted) execFileSync('umount', [states]);
    mounted = false;
  };
  t.after(free);
  const result = await veld.cli('suspend', 'web');
  assert.match(result.stderr, /no space/);
  assert.equal(result.code, 21);
  await assertRuns();
  assert.deepEqual(readdirSync(states), []);
  free();
  assertSame(veld.outline(), running, 'traces');
});

/** Pid of the criu that works on this instance, once there is one. */
const findCriu = (): Promise<number> => criuAtWork(veld.name);

/** Begin an operation, and kill criu in the middle of it. @returns whether that was before it had ended */
async function killedIn(verb: string, delay: number, t: TestContext): Promise<boolean> {
  const ended = veld.api.operate('POST', `/v1/ves/web/${verb}`).then(() => true, () => false);
  const pid = await findCriu();
  await sleep(delay);
  try {
    process.kill(pid, 'SIGKILL');
  } catch { /* it was quicker */ }
  const done = await ended;
  t.diagnostic(`${verb}: killed after ${delay} ms, ${done ? 'which was too late' : 'in the middle'}`);
  return !done;
}

test('criu is killed in the middle of a dump: the VE runs on', async (t) => {
  let [hits, struck] = [0, 0];
  for (let i = 0; i < 12; i++) {
    if (await killedIn('suspend', Math.floor(random() * 150), t)) {
      hits += 1;
      if (await wasStruck(t)) struck += 1;
    } else await veld.api.operate('POST', '/v1/ves/web/resume');
    await assertRuns();
  }
  assert.ok(hits > struck, 'never in the middle, or always in the wrong moment');
  assertSame(veld.outline(), running, 'traces');
});

test('criu is killed when all is written: the VE runs on, or is suspended and comes back', async (t) => {
  let suspended = 0;
  const { number } = await veld.show('web');
  const group = /^VELD_UNIFIED_GROUP='(.*)'$/m.exec(readFileSync(join(veld.settings.runDir, 'ves', String(number), 'env'), 'utf8'))![1]!;
  for (let i = 0; i < 8; i++) {
    const ended = veld.api.operate('POST', '/v1/ves/web/suspend').then(() => true, () => false);
    const pid = await findCriu();
    await until('the processes to be held', () => readFileSync(join(group, 'cgroup.freeze'), 'utf8').trim() === '1', 20_000, 1);
    await sleep(i * 2);
    try {
      process.kill(pid, 'SIGKILL');
    } catch { /* it was quicker */ }
    const done = await ended;
    if (done) assert.equal((await veld.show('web')).status, 'suspended');
    else await wasStruck(t);
    t.diagnostic(`killed ${i * 2} ms after that: ${done ? 'suspended' : 'it ran on'}`);
    if (done) {
      suspended += 1;
      await veld.api.operate('POST', '/v1/ves/web/resume');
    }
    await assertRuns();
  }
  assert.ok(suspended > 0, 'never suspended');
  assertSame(veld.outline(), running, 'traces');
});

test('criu is killed in the middle of a restore: the VE stays suspended, and comes back after that', async (t) => {
  let hits = 0;
  for (let i = 0; i < 8; i++) {
    await veld.api.operate('POST', '/v1/ves/web/suspend');
    if (await killedIn('resume', Math.floor(random() * 80), t)) {
      hits += 1;
      assert.equal((await veld.show('web')).status, 'suspended');
      await veld.api.operate('POST', '/v1/ves/web/resume');
    }
    await assertRuns();
  }
  assert.ok(hits > 0, 'never in the middle');
  assertSame(veld.outline(), running, 'traces');
});

test('criu is killed when the VE runs already, and that is not written down yet: it runs, and its state is not lost', async () => {
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  const { number } = await veld.show('web');
  const folder = join(veld.settings.runDir, 'ves', String(number));
  // The script that writes it down waits for this lock.
  const ended = veld.api.operate('POST', '/v1/ves/web/resume').then(() => true, () => false);
  const criu = await findCriu();
  const giveBack = await keepUnsaid(folder);
  const script = await until('the last script', () => readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).find((pid) => {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
      return environment.includes('CRTOOLS_SCRIPT_ACTION=post-resume') && environment.includes(veld.name) && readFileSync(`/proc/${pid}/comm`, 'utf8') === 'flock\n';
    } catch {
      return false; // it has ended
    }
  }), 20_000, 1);
  assert.ok(script > 0);
  process.kill(criu, 'SIGKILL');
  await sleep(300); // others find out
  giveBack();
  assert.equal(await ended, true);
  await assertRuns();
  assertSame(veld.outline(), running, 'traces');
});

/**
 * Begin an operation, and kill the VE's conmon this long after there is one, in milliseconds.
 * @param early whether criu is held until then: that is in the middle of its work for certain
 * @returns whether the operation succeeded
 */
async function withoutMonitor(verb: string, delay: number, early = false): Promise<boolean> {
  const ended = veld.api.operate('POST', `/v1/ves/web/${verb}`).then(() => true, () => false);
  const { number } = await veld.show('web');
  const folder = join(veld.settings.runDir, 'ves', String(number));
  const pid = await until('conmon', () => readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).find((candidate) => {
    try {
      return readFileSync(`/proc/${candidate}/comm`, 'utf8') === 'conmon\n' && readFileSync(`/proc/${candidate}/cmdline`, 'utf8').includes(`\0${folder}\0`);
    } catch {
      return false; // it has ended
    }
  }), 20_000, 1);
  const criu = early ? await findCriu() : undefined;
  if (criu !== undefined) process.kill(criu, 'SIGSTOP');
  await sleep(delay);
  try {
    process.kill(pid, 'SIGKILL');
  } catch { /* it was quicker */ }
  return ended;
}

test('conmon is killed in the middle of a restore: the VE stays suspended, and comes back after that', async (t) => {
  let hits = 0;
  for (let i = 0; i < 10; i++) {
    await veld.api.operate('POST', '/v1/ves/web/suspend');
    const delay = i * 14;
    const done = await withoutMonitor('resume', delay, i === 0);
    t.diagnostic(`conmon killed after ${delay} ms: ${done ? 'it came back' : 'not this time'}`);
    if (done) {
      await assertRuns();
      continue;
    }
    hits += 1;
    assert.equal((await veld.show('web')).status, 'suspended');
    await sleep(300); // whatever was still at work
    assert.equal((await veld.show('web')).status, 'suspended');
    await veld.api.operate('POST', '/v1/ves/web/resume');
    await assertRuns();
  }
  // (Later ones may come back without it.)
  assert.ok(hits > 0, 'never in the middle');
  assertSame(veld.outline(), running, 'traces');
});

test('conmon is killed in the middle of a dump: the VE is suspended or runs on', async (t) => {
  // (It may have lost its monitor in the moment in which it came back.)
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  await veld.api.operate('POST', '/v1/ves/web/resume');
  let [suspended, ran] = [0, 0];
  for (let i = 0; i < 10; i++) {
    const delay = i * 25;
    const done = await withoutMonitor('suspend', delay);
    // Who is left without its monitor has no console until its next boot; it runs, or is suspended, all the same.
    const { status } = await until('it to be one or the other', async () => {
      const ve = await veld.show('web');
      return ve.status === 'running' || ve.status === 'suspended' ? ve : undefined;
    }, 20_000);
    t.diagnostic(`conmon killed after ${delay} ms: ${done ? 'the suspend succeeded' : 'the suspend failed'}, it is ${status}`);
    assert.equal(status, done ? 'suspended' : 'running');
    if (done) suspended += 1;
    else ran += 1;
    if (status === 'suspended') await veld.api.operate('POST', '/v1/ves/web/resume');
    await assertRuns();
    if (status === 'running') { // with a monitor again
      await veld.api.operate('POST', '/v1/ves/web/suspend');
      await veld.api.operate('POST', '/v1/ves/web/resume');
      await assertRuns();
    }
  }
  assert.ok(suspended + ran === 10);
  assertSame(veld.outline(), running, 'traces');
});

test('criu stands still: it is ended, and the VE runs on or stays suspended', async (t) => {
  const stopped = async (verb: string, delay: number): Promise<unknown> => {
    const ended = veld.api.operate('POST', `/v1/ves/web/${verb}`).then(() => undefined, (error: unknown) => error);
    const pid = await findCriu();
    await sleep(delay);
    process.kill(pid, 'SIGSTOP');
    return ended;
  };
  assert.match(String(await stopped('suspend', 60)), new RegExp(`checkpoint.failed: web could not be suspended, and runs on: criu did nothing for ${STALL_TIMEOUT} s`));
  await wasStruck(t);
  await assertRuns();
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  assert.match(String(await stopped('resume', 20)), new RegExp(`restore.failed: web could not be brought back, and stays suspended: criu did nothing for ${STALL_TIMEOUT} s`));
  assert.equal((await veld.show('web')).status, 'suspended');
  await veld.api.operate('POST', '/v1/ves/web/resume');
  await assertRuns();
  assertSame(veld.outline(), running, 'traces');
});

test('a network that does not answer any more after a restore is noticed', async () => {
  const { pid, uuid } = await veld.show('web');
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  // Nobody answers such questions (arp_ignore in the kernel's ip-sysctl).
  appendFileSync(join(stateDir, 'states', uuid, 'images', 'net.sysctls'), 'net/ipv4/conf/eth0/arp_ignore:8\n');
  const failure = await veld.api.operate('POST', '/v1/ves/web/resume').then(() => undefined, (error: unknown) => String(error));
  assert.match(failure ?? 'it was not noticed', /restore.unhealthy: web is back, but its network does not answer: nobody has [0-9.]+ any more/);
  assert.notEqual((await veld.show('web')).pid, pid);
  // Nobody is missed who has not answered before, either.
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  await veld.api.operate('POST', '/v1/ves/web/resume');
  await assertRuns();
});

test('without its engine, or on a processor that can do less, a state is refused in words, and waits', async () => {
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  const { uuid } = await veld.show('web');
  const file = join(stateDir, 'states', uuid, 'manifest.json');
  const manifest = JSON.parse(readFileSync(file, 'utf8')) as { engine: string; processor: string[] };
  const engine = join(stateDir, 'engine'); // a link to what all tests share
  renameSync(engine, `${engine}.away`);
  try {
    const result = await veld.cli('resume', 'web');
    assert.equal(result.code, 23);
    assert.match(result.stderr, /engine/);
  } finally {
    renameSync(`${engine}.away`, engine);
  }
  assert.ok(manifest.processor.length > 0);
  writeFileSync(file, JSON.stringify({ ...manifest, processor: [...manifest.processor, 'avx9000'] }));
  const other = await veld.cli('resume', 'web');
  assert.equal(other.code, 39);
  assert.match(other.stderr, /another processor: this one has not avx9000/);
  assert.equal((await veld.show('web')).status, 'suspended');
  writeFileSync(file, JSON.stringify(manifest));
  await veld.api.operate('POST', '/v1/ves/web/resume');
  await assertRuns();

  await veld.api.operate('DELETE', '/v1/ves/web?force=true');
});
