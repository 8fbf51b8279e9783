/** What VEs see of themselves in /proc, and that it stays theirs whatever becomes of lxcfs. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, test } from 'node:test';
import type { DoctorCheck } from '../../src/jobs/doctor.ts';
import { createLxcfsKeeper } from '../../src/jobs/lxcfs-keeper.ts';
import { currentLxcfs } from '../../src/kernel/lxcfs-build.ts';
import { prepareExchange } from '../../src/kernel/lxcfs-mend.ts';
import { filesOf, lxcfsBinds, lxcfsDevice, lxcfsSource, parseMountTable } from '../../src/kernel/lxcfs-mounts.ts';
import { lxcfsPath, lxcfsProcess, lxcfsStatus, startLxcfs, stopLxcfs } from '../../src/kernel/lxcfs.ts';
import { silentLogger } from '../../src/lib/log.ts';
import { createEventBus } from '../../src/ops/events.ts';
import { createResources } from '../../src/resources/resources.ts';
import { listen } from '../lib/events.ts';
import { startTime } from '../lib/guard.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
const { runDir, stateDir } = veld.settings;
const path = lxcfsPath(runDir);
const source = lxcfsSource(veld.name);
const LIMIT = 200; // MiB

/** Reads four files in turn, each whole; every value or error becomes a line. */
const READER = `
open STDOUT, ">", $ARGV[0]; $| = 1;
while (1) {
  for my $file (qw(meminfo uptime swaps cpuinfo)) {
    my ($handle, $text, $value);
    if (open($handle, "<", "/proc/$file") and sysread($handle, $text, 65536)) {
      ($value) = $file eq "cpuinfo" ? scalar(() = $text =~ /^processor/mg) : $text =~ /([\\d.]+)/;
    } else { $value = "error:" . join ",", grep { $!{$_} } keys %!; }
    print "$file ", $value // "none", "\\n";
  }
  select undef, undef, undef, 0.002;
}`;

async function sh(ve: string, script: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await veld.exec(ve, 'sh', '-c', script, 'sh', ...args);
  assert.equal(exitCode, 0, `${script}: ${stderr}${stdout}`);
  return stdout.trim();
}

/** A running VE with limits, in which a unit reads all the time. `files` are what the readers write. */
async function reading(name: string, units: Record<string, string[]> = { reader: [] }, properties = {}): Promise<string[]> {
  await veld.createRunning(name, { 'memory.limit': `${LIMIT}M`, 'cpu.limit': 100, ...properties });
  await veld.booted(name);
  await sh(name, 'mkdir -p /srv && printf %s "$1" >/srv/reader', READER);
  for (const [unit, options] of Object.entries(units)) {
    await sh(name, `systemd-run --quiet --unit=${unit} ${options.map((o) => `-p ${o}`).join(' ')} ${UNSHARE[unit] ?? ''} perl /srv/reader /dev/shm/${unit}`);
    await until(`${unit} of ${name} to read`, async () => Number(await sh(name, 'wc -l <"$1" 2>/dev/null || echo 0', `/dev/shm/${unit}`)) > 20);
  }
  return Object.keys(units);
}
/** Readers that live in a mount namespace that nothing from outside reaches. */
const UNSHARE: Record<string, string> = { alone: 'unshare -m --propagation private' };

interface Seen { file: string; value: string }
async function seen(ve: string, unit: string): Promise<Seen[]> {
  const text = await sh(ve, 'cat "$1"', `/dev/shm/${unit}`);
  return text.split('\n').filter((line) => /^\w+ \S+$/.test(line)).map((line) => ({ file: line.split(' ')[0]!, value: line.split(' ')[1]! }));
}

/** Nothing that was read is the host's: either an error, or what belongs to the VE. */
function assertOwn(all: readonly Seen[], who: string): { errors: number; values: number } {
  const hostUptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  let errors = 0;
  for (const { file, value } of all) {
    if (value.startsWith('error:')) {
      errors += 1;
      assert.match(value, /ENOTCONN|ECONNABORTED/, `${who}: ${file}`);
    }
    else if (file === 'meminfo') assert.equal(value, String(LIMIT * 1024), `${who} saw the memory of the host`);
    else if (file === 'uptime') assert.ok(Number(value) < hostUptime / 2 && Number(value) < 600, `${who} saw an uptime of ${value} s`);
    else if (file === 'cpuinfo') assert.equal(value, '1', `${who} saw the CPUs of the host`);
  }
  return { errors, values: all.length - errors };
}

/** Wait until the last lines of a reader are values again. */
async function healed(ve: string, unit: string): Promise<void> {
  await until(`${unit} of ${ve} to read values`, async () => {
    const lines = (await sh(ve, 'tail -n 12 "$1"', `/dev/shm/${unit}`)).split('\n');
    return lines.length === 12 && lines.every((line) => !line.includes('error'));
  });
}

beforeEach(async () => {
  if (veld.pid === undefined) await veld.start();
  for (const { name } of await veld.list()) await destroy(name);
});

const quiet = (ve: string, unit: string): Promise<string> => sh(ve, `systemctl stop ${unit}; rm -f /dev/shm/${unit}`);

/** Pid of the instance's lxcfs. Throws when there is none: a signal to 0 would be one to the test itself. */
function lxcfs(): number {
  const id = lxcfsProcess(runDir);
  assert.ok(id, 'lxcfs runs');
  return id.pid;
}

function bindsOf(pid: number): ReturnType<typeof lxcfsBinds> {
  return lxcfsBinds(parseMountTable(readFileSync(`/proc/${pid}/mountinfo`, 'utf8')), source);
}

/** End a process that may have ended by itself, and has left nothing to ask. */
function stop(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ESRCH');
  }
}

/** All binds of a VE are of the lxcfs that serves, and each file has one. */
async function assertMended(name: string): Promise<void> {
  const { pid } = await veld.show(name);
  const binds = bindsOf(pid ?? 0);
  assert.deepEqual([...new Set(binds.map(({ device }) => device))], [lxcfsDevice(path)]);
  assert.equal(new Set(binds.map(({ target }) => target)).size, binds.length, 'one mount over each file');
  assert.equal(binds.length, filesOf({ timeNamespace: true }).length);
}

async function destroy(name: string): Promise<void> {
  await veld.api.operate('DELETE', `/v1/ves/${name}?force=true`);
}

async function doctor(): Promise<DoctorCheck[]> {
  return (await veld.api.call<{ checks: DoctorCheck[] }>('GET', '/v1/doctor')).checks.filter(({ id }) => id.startsWith('lxcfs'));
}

test('lxcfs is in no group of the daemon\'s, and in a session of its own', () => {
  const groups = readFileSync(`/proc/${lxcfs()}/cgroup`, 'utf8');
  assert.match(groups, new RegExp(`^0::/.*${veld.name}.*/monitors$`, 'm'));
  const [, , , , group, session] = readFileSync(`/proc/${lxcfs()}/stat`, 'utf8').split(' ');
  assert.deepEqual([group, session], [String(lxcfs()), String(lxcfs())]);
});

test('what a VE sees is its own: memory, CPUs, uptime, load, swap', async () => {
  await veld.createRunning('seer', { 'memory.limit': `${LIMIT}M`, 'cpu.limit': 100 });
  await veld.booted('seer');
  const facts = await sh('seer', `
    free -m | awk '/^Mem/{print "memory", $2}'; grep -c ^processor /proc/cpuinfo | sed 's/^/cpuinfo /'; grep -c '^cpu[0-9]' /proc/stat | sed 's/^/stat /'
    sed 's/^/online /' /sys/devices/system/cpu/online; echo "conf $(getconf _NPROCESSORS_ONLN)"; top -bn1 | awk -F'[, ]+' '/Mem :/{print "top", $4}'
    echo "since $(date -d "$(uptime -s)" +%s)"; echo "age $(ps -o etimes= -p 1)"; echo "now $(date +%s)"; echo "swap $(tail -n +2 /proc/swaps | wc -l)"`);
  const fact = Object.fromEntries(facts.split('\n').map((line) => line.split(' '))) as Record<string, string>;
  assert.equal(Number(fact.memory), LIMIT);
  assert.equal(Math.round(Number(fact.top)), LIMIT);
  assert.deepEqual([fact.cpuinfo, fact.stat, fact.online, fact.conf], ['1', '1', '0', '1']);
  const { startedAt } = await veld.show('seer');
  const born = Date.parse(startedAt!) / 1000;
  assert.ok(Math.abs(Number(fact.since) - born) < 5, `${fact.since}, and it started at ${born}`);
  assert.ok(Math.abs(Number(fact.now) - Number(fact.age) - born) < 5, `${fact.age} s at ${fact.now}, and it started at ${born}`);
  await assertMended('seer');
  // A reboot inside begins anew, a restart of the daemon does not.
  await veld.restart();
  const before = Number((await sh('seer', 'cat /proc/uptime')).split(' ')[0]);
  const { pid } = await veld.show('seer');
  await veld.exec('seer', 'systemctl', 'reboot');
  await until('another init', async () => { const now = await veld.show('seer'); return now.pid !== null && now.pid !== pid && now.status === 'running'; });
  await veld.booted('seer');
  const after = Number((await sh('seer', 'cat /proc/uptime')).split(' ')[0]);
  const age = (Date.now() - Date.parse((await veld.show('seer')).startedAt!)) / 1000;
  assert.ok(before > 0 && Math.abs(after - age) < 5, `${before}, then ${after} at an age of ${age}`);
  await destroy('seer');
});

test('lxcfs killed: errors for a moment, never the host\'s values, then the VE\'s own again, in all its mount namespaces', async (t) => {
  const units = { reader: [], slave: ['PrivateTmp=yes', 'ProtectSystem=full'], alone: [] };
  const ves = { one: await reading('one', units), two: await reading('two') };
  await veld.api.operate('POST', '/v1/ves', { name: 'cold', template: 'test', properties: { 'memory.limit': `${LIMIT}M` }, start: true });
  await veld.api.operate('POST', '/v1/ves/cold/freeze');
  const listener = await listen(veld.api);
  for (let round = 1; round <= 2; round++) {
    const pid = lxcfs();
    process.kill(pid, 'SIGKILL');
    const { data } = await until('lxcfs to be restored', () => listener.events.filter(({ type }) => type === 'lxcfs.restored')[round - 1], 30_000);
    t.diagnostic(`round ${round}: ${Number(data?.ves)} VEs had their own values again after ${Number(data?.seconds)} s`);
    assert.notEqual(lxcfs(), pid);
    assert.deepEqual(data?.left, []);
    for (const [ve, readers] of Object.entries(ves)) for (const unit of readers) await healed(ve, unit);
  }
  for (const [ve, readers] of Object.entries(ves)) {
    for (const unit of readers) {
      const { errors, values } = assertOwn(await seen(ve, unit), `${unit} of ${ve}`);
      t.diagnostic(`${unit} of ${ve}: ${values} values, ${errors} errors`);
      assert.ok(values > 0);
      await quiet(ve, unit);
    }
    await assertMended(ve);
    assert.equal(await sh(ve, 'free -m | awk \'/^Mem/{print $2}\''), String(LIMIT));
    assert.match(await sh(ve, 'uptime && top -bn1 | head -4'), /load average/);
  }
  await veld.api.operate('POST', '/v1/ves/cold/thaw');
  await assertMended('cold');
  assert.match(await sh('cold', 'head -1 /proc/meminfo'), new RegExp(` ${LIMIT * 1024} kB`));
  assert.match((await doctor()).find(({ id }) => id === 'lxcfs.ended')?.message ?? '', /2 times/);
  listener.close();
  for (const ve of ['one', 'two', 'cold']) await destroy(ve);
});

test('what a VE has done to its own /proc stays as it is; locked copies of a nested container are covered', async () => {
  await veld.createRunning('wild', { 'memory.limit': `${LIMIT}M`, 'features.nesting': true });
  await veld.booted('wild');
  await sh('wild', `umount /proc/loadavg && echo mine >/srv/mine && mount --bind /srv/mine /proc/meminfo && mkdir -p /srv/root/proc && touch /srv/root/proc/stat
    mount --bind /proc/stat /srv/root/proc/stat
    ln -s /proc/swaps /srv/link
    systemd-run --quiet --unit=nested unshare --user --map-root-user --mount --pid --fork sleep 600`);
  const nested = await until('the nested container', async () => (await sh('wild', 'pgrep -f "^sleep 600" || true')) || undefined);
  const listener = await listen(veld.api);
  process.kill(lxcfs(), 'SIGKILL');
  const { data } = await listener.next('lxcfs.restored', 30_000);
  listener.close();
  assert.deepEqual(data?.left, ['wild'], 'a bind that the VE has hidden cannot be reached, and that is said');
  assert.equal(await sh('wild', 'cat /proc/meminfo'), 'mine');
  assert.equal(await sh('wild', 'grep -c " /proc/loadavg " /proc/self/mountinfo || true'), '0', 'what was unmounted stays so');
  assert.match(await sh('wild', 'cat /srv/root/proc/stat'), /^cpu /);
  assert.match(await sh('wild', 'nsenter -t "$1" -U -m --preserve-credentials cat /proc/swaps', nested), /^Filename/);
  await destroy('wild');
});

test('without mounting beneath (Linux before 6.5) the VE stands still meanwhile, and sees no value of the host', async (t) => {
  await reading('old');
  const other = mkdtempSync(join(tmpdir(), 'veld-lxcfs-'));
  t.after(async () => {
    await stopLxcfs(other);
    rmSync(other, { recursive: true });
  });
  await startLxcfs({ stateDir, runDir: other, instance: veld.name });
  const ve = await veld.show('old');
  const group = createResources({ instance: veld.name, runDir }).groups(ve.number).unified;
  const target = { pid: ve.pid!, startTime: Number(startTime(ve.pid!)), group, attach: false };
  for (const [folder, beneath] of [[lxcfsPath(other), false], [path, false], [lxcfsPath(other), true], [path, true]] as const) {
    const device = lxcfsDevice(folder)!;
    const [result] = await prepareExchange().run({ folder, device, source, targets: [target], beneath });
    assert.deepEqual([result?.covered, result?.attached, result?.left], [0, 0, []]);
    assert.ok(result!.exchanged >= 7, 'in its own namespace, and perhaps in those of its services');
    assert.deepEqual([...new Set(bindsOf(target.pid).map((bind) => bind.device))], [device]);
    assert.equal(readFileSync(join(group, 'cgroup.freeze'), 'utf8'), '0\n');
  }
  await assertMended('old');
  const { errors, values } = assertOwn(await seen('old', 'reader'), 'old');
  assert.equal(errors, 0, 'both served all the time');
  assert.ok(values > 0);
  await destroy('old');
});

test('an exchange that hangs is given up, and hurts nobody', async (t) => {
  await veld.createRunning('next');
  const ve = await veld.show('next');
  const group = createResources({ instance: veld.name, runDir }).groups(ve.number).unified;
  const target = { pid: ve.pid!, startTime: Number(startTime(ve.pid!)), group, attach: false };
  // The walk to a bind leads through a FUSE that never answers: lxcfs itself, stopped, serves as one.
  const other = mkdtempSync(join(tmpdir(), 'veld-lxcfs-'));
  t.after(async () => {
    await stopLxcfs(other);
    rmSync(other, { recursive: true });
  });
  const { pid: hanging } = await startLxcfs({ stateDir, runDir: other, instance: veld.name });
  process.kill(hanging!, 'SIGSTOP');
  const folder = lxcfsPath(other);
  // Without mounting beneath the VE stands still when the program is killed: it must not stay so.
  for (const beneath of [false, true]) {
    const stuck = await prepareExchange().run({ folder, device: '0:0', source, targets: [target], beneath });
    assert.match(stuck[0]!.left.join(), /nothing was heard/);
    assert.equal(readFileSync(join(group, 'cgroup.freeze'), 'utf8'), '0\n');
  }
  const done = await prepareExchange().run({ folder: path, device: '0:0', source, targets: [target] });
  assert.ok(done[0]!.exchanged >= 7);
  await destroy('next');
});

test('lxcfs dies while the daemon is away: a VE that boots meanwhile has its files when the daemon is back', async () => {
  await veld.createRunning('away', { 'memory.limit': `${LIMIT}M` });
  await veld.createRunning('stays', { 'memory.limit': `${LIMIT}M` });
  await veld.booted('away');
  const { pid, number } = await veld.show('away');
  const born = startTime(pid ?? 0);
  await veld.exec('away', 'systemd-run', '--quiet', 'sh', '-c', 'sleep 1; systemctl reboot');
  const before = lxcfs();
  await veld.stop();
  assert.equal(lxcfs(), before, 'it lives on without the daemon');
  process.kill(before, 'SIGKILL');
  await until('the old init to be gone', () => startTime(pid ?? 0) !== born, 30_000);
  const init = join(runDir, 'ves', String(number), 'init');
  await until('another init', () => existsSync(init) && !readFileSync(init, 'utf8').startsWith(`${pid} `), 30_000);
  await veld.start();
  await until('the VEs to be mended', async () => {
    await assertMended('away');
    await assertMended('stays');
    return true;
  });
  for (const ve of ['away', 'stays']) {
    await veld.booted(ve);
    assert.match(await sh(ve, 'head -1 /proc/meminfo'), new RegExp(` ${LIMIT * 1024} kB`));
    await destroy(ve);
  }
});

test('a daemon that is killed or replaced leaves lxcfs as it is', async () => {
  const before = lxcfs();
  await veld.kill9();
  await veld.start();
  assert.equal(lxcfs(), before);
  await veld.restart();
  assert.equal(lxcfs(), before);
});

test('a newer build takes the place of lxcfs without a single failed read, and one that cannot run does not', async (t) => {
  await reading('upgraded');
  const old = lxcfs();
  const root = currentLxcfs(stateDir)!;
  const built = readlinkSync(join(stateDir, 'lxcfs'));
  const newer = (fingerprint: string, program: string): void => {
    const dir = join(stateDir, 'lxcfs', fingerprint);
    mkdirSync(join(dir, 'bin'), { recursive: true });
    cpSync(program, join(dir, 'bin/lxcfs'));
    writeFileSync(join(dir, 'manifest.json'), JSON.stringify({ ...root.manifest, fingerprint }));
    rmSync(join(stateDir, 'lxcfs/current'), { force: true });
    symlinkSync(fingerprint, join(stateDir, 'lxcfs/current'));
  };
  unlinkSync(join(stateDir, 'lxcfs'));
  t.after(() => {
    rmSync(join(stateDir, 'lxcfs'), { recursive: true, force: true });
    symlinkSync(built, join(stateDir, 'lxcfs'));
  });
  newer('b'.repeat(64), built.concat(root.lxcfs.slice(join(stateDir, 'lxcfs').length)));
  await veld.restart();
  assert.notEqual(lxcfs(), old);
  // It lives on while any mount namespace of the host has a copy of its mount: but nobody here asks it any more.
  await until('the VE to be mended', async () => { await assertMended('upgraded'); return true; });
  stop(old);

  const good = lxcfs();
  newer('c'.repeat(64), '/bin/false');
  await veld.restart();
  assert.equal(lxcfs(), good);
  assert.equal((await lxcfsStatus({ stateDir, runDir })).state, 'running');
  assert.match((await doctor()).find(({ id }) => id === 'lxcfs.start')?.message ?? '', /ended with status 1/);
  const { errors, values } = assertOwn(await seen('upgraded', 'reader'), 'upgraded');
  assert.equal(errors, 0, `${values} values`);
  await destroy('upgraded');
});

test('an lxcfs that hangs keeps neither daemon nor VEs, and is replaced', async (t) => {
  await veld.createRunning('hung', { 'memory.limit': `${LIMIT}M` });
  const before = lxcfs();
  const listener = await listen(veld.api);
  process.kill(before, 'SIGSTOP');
  // More questions than the daemon has threads.
  const answers = await Promise.all(Array.from({ length: 6 }, () => doctor()));
  for (const checks of answers) assert.match(checks[0]?.message ?? '', /does not answer/);
  assert.equal((await veld.list()).length, 1);
  await veld.createRunning('meanwhile', { 'memory.limit': `${LIMIT}M` });
  const { data } = await listener.next('lxcfs.restored', 60_000);
  t.diagnostic(`VEs had their own values again ${Number(data?.seconds)} s after it was ended`);
  listener.close();
  assert.notEqual(lxcfs(), before);
  for (const ve of ['hung', 'meanwhile']) {
    await until(`${ve} to be mended`, async () => { await assertMended(ve); return true; });
    await destroy(ve);
  }
});

test('the keeper ends what hangs, and waits longer each time', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-lxcfs-'));
  const events = createEventBus();
  const keeper = createLxcfsKeeper({ options: { stateDir, runDir: folder, instance: veld.name }, stale: () => [], events, log: silentLogger(), askEvery: 50, askPatience: 500 });
  t.after(async () => {
    await keeper.close();
    await stopLxcfs(folder);
    rmSync(folder, { recursive: true });
  });
  await keeper.start();
  const first = lxcfsProcess(folder);
  assert.ok(first);
  process.kill(first.pid, 'SIGSTOP');
  await until('another', () => { const now = lxcfsProcess(folder); return now !== undefined && now.pid !== first.pid && events.since(0).some(({ type }) => type === 'lxcfs.restored'); });
  process.kill(lxcfsProcess(folder)!.pid, 'SIGKILL');
  await until('a third', () => events.since(0).filter(({ type }) => type === 'lxcfs.restored').length === 2);
  const restored = events.since(0).filter(({ type }) => type === 'lxcfs.restored').map(({ data }) => Number(data?.seconds));
  assert.ok(restored[1]! >= 1, `the second time in a row waits a second, and took ${restored[1]} s`);
  assert.equal(keeper.history().ended, 2);
});
