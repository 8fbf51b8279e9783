/** Limits of VEs on a host with cgroup v2, and what is guaranteed to them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../lib/wait.ts';
import { PATIENCE, type Host } from './host.ts';

/** Each leaves `demo` running and without limits. */
export function limitsTests(host: Host): void {
  const { machine, group } = host;

  test('limits set while it runs are written, seen inside, and bite', async () => {
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

    // cpu: a loop of 4 s of clock gets a fifth of one CPU, and a little for what the period begins with.
    const used = async (): Promise<number> => Number(/usage_usec (\d+)/.exec(await host.control(demo, 'cpu.stat'))?.[1]);
    const before = await used();
    await host.exec('demo', 'timeout', '4', 'sh', '-c', 'while :; do :; done');
    assert.ok((await used()) - before < 2_000_000, 'the loop took more CPU than the limit allows');
    assert.ok(Number(/nr_throttled (\d+)/.exec(await host.control(demo, 'cpu.stat'))?.[1]) > 10);
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

    // What goes through the page cache, too, is the VE's own here.
    await host.set('demo', { 'io.limit': '4M' });
    assert.match(await host.control(demo, 'io.max'), /rbps=4194304 wbps=4194304/);
    const since = performance.now();
    await host.said('demo', 'sh', '-c', 'dd if=/dev/urandom of=/root/io bs=1M count=12 conv=fsync 2>/dev/null; rm /root/io');
    assert.ok(performance.now() - since > 1500, '12 MiB at 4 MiB a second');
    await host.set('demo', { 'io.limit': null });
    assert.doesNotMatch(await host.control(demo, 'io.max'), /wbps=\d/);

    assert.notEqual((await host.exec('demo', 'perl', '-e', '$x = "x" x (400 << 20)')).exitCode, 0);
    assert.match(await host.control(demo, 'memory.events'), /oom_kill [1-9]/);

    const forks = await host.exec('demo', 'sh', '-c', 'for i in $(seq 100); do sleep 60 & done; wait');
    assert.match(forks.stderr, /fork/i);
    // Counted where the process was, or (since 6.11) where the limit is.
    assert.match(await machine.ask(`find ${group}/${demo.number} -name pids.events | xargs cat`), /^max [1-9]/m);
    await host.set('demo', { 'memory.limit': null, 'memory.swap': null, 'pids.limit': null, 'cpu.weight': null });
    await host.exec('demo', 'pkill', 'sleep');
    assert.equal(await host.control(demo, 'memory.max'), 'max');
    assert.equal(await host.said('demo', 'systemctl', 'is-system-running'), 'running');
  });
}

/** It leaves `demo` running and without limits, too. */
export function guaranteeTest(host: Host): void {
  const { template } = host;

  test('guaranteed memory stays while another VE fills the host', async (t) => {
    const MIB = 2 ** 20;
    const ROOM = 260;
    const TIMES = 2;
    // (Known when it runs only: else perl has it twice.)
    const TAKE = 'my $n = shift; my $m = "x" x ($n << 20); sleep 3; print "taken"';
    await host.api.operate('POST', '/v1/ves', { name: 'greedy', template, start: true });
    await host.booted('greedy');
    const demo = await host.show('demo');
    const kept = async (): Promise<number> => Number(/^file (\d+)$/m.exec(await host.control(demo, 'memory.stat'))![1]) / MIB;
    await host.said('demo', 'sh', '-c', 'head -c 200M /dev/zero >/root/cached; sync /root/cached');
    // What the other takes leaves caches ROOM: less than there is of them, so that somebody's must go. It has to be taken more than once, as the kernel goes by small steps.
    const press = async (times: number, enough: (left: number) => boolean): Promise<number> => {
      await host.said('demo', 'sh', '-c', 'cat /root/cached >/dev/null');
      let left = await kept();
      for (let i = 0; i < times && !enough(left); i++) {
        const available = Number(/^MemAvailable: +(\d+) kB$/m.exec(await host.machine.ask('cat /proc/meminfo'))![1]) / 1024;
        assert.equal(await host.said('greedy', 'perl', '-e', TAKE, String(Math.floor(available - ROOM))), 'taken');
        left = await kept();
      }
      return left;
    };
    await host.set('demo', { 'memory.guarantee': '400M' });
    assert.equal(await host.control(demo, 'memory.low'), String(400 * MIB));
    const promised = await press(TIMES, () => false);
    await host.set('demo', { 'memory.guarantee': null });
    const bare = await press(3 * TIMES, (left) => left < promised - 40);
    t.diagnostic(`of 200 MiB ${promised.toFixed(0)} were left with a guarantee, and ${bare.toFixed(0)} without`);
    assert.ok(promised > 180, `${promised} MiB`);
    assert.ok(bare < promised - 40, `${bare} MiB without`);
    await host.said('demo', 'rm', '/root/cached');
    await host.api.operate('DELETE', '/v1/ves/greedy?force=true');
  });
}
