import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { NO_LINKS, openGroups, key, parseBlkio, parseIoStat, pressure } from './reading.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-reading-'));
after(() => rmSync(folder, { recursive: true }));

function group(name: string, files: Record<string, string>): string {
  const path = join(folder, name);
  mkdirSync(path);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
  return path;
}

const PRESSURE = { 'cpu.pressure': 'some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n',
  'memory.pressure': 'some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n' };

test('cgroup2: everything from one group', () => {
  const unified = group('v2', { ...PRESSURE,
    'cpu.stat': 'usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 20\nnr_throttled 5\nthrottled_usec 750000\nnr_bursts 0\nburst_usec 0\n',
    'memory.current': '1048576\n', 'memory.swap.current': '4096\n', 'memory.stat': 'anon 500000\nfile 300000\nkernel 9\nshmem 100000\nfile_mapped 4\n',
    'memory.events': 'low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n', 'pids.current': '12\n',
    'io.stat': '254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n254:16 rbytes=100 wbytes=0 rios=3 wios=0 dbytes=0 dios=0\n' });
  const reader = openGroups({ unified, v1: {}, path: '/' });
  assert.deepEqual(reader.read({ rxBytes: 1, txBytes: 2, rxPackets: 3, txPackets: 4 }), {
    cpuSeconds: 2.5, throttledSeconds: 0.75, periods: 20, throttledPeriods: 5, memoryBytes: 1_048_576, cacheBytes: 200_000, swapBytes: 4096, oomKills: 1, tasks: 12,
    diskReadBytes: 4196, diskWriteBytes: 8192, diskReads: 4, diskWrites: 2, rxBytes: 1, txBytes: 2, rxPackets: 3, txPackets: 4,
    cpuPressureSeconds: 1.5, memoryPressureSeconds: 2, memoryFullSeconds: 1, ioPressureSeconds: Number.NaN, ioFullSeconds: Number.NaN,
  });
  reader.close();
});

test('v1: from the groups of the controllers, sums with those below', () => {
  const unified = group('hybrid', PRESSURE);
  const v1 = group('v1', { 'cpuacct.usage': '2500000000\n', 'cpu.stat': 'nr_periods 20\nnr_throttled 5\nthrottled_time 750000000\n', 'memory.usage_in_bytes': '1048576\n',
    'memory.stat': 'cache 1\nrss 2\nshmem 3\nswap 4\ntotal_cache 300000\ntotal_rss 5\ntotal_shmem 100000\ntotal_swap 4096\n',
    'memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n', 'pids.current': '12\n',
    'blkio.throttle.io_service_bytes_recursive': '254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 0\n254:0 Total 12288\nTotal 12288\n',
    'blkio.throttle.io_serviced_recursive': '254:0 Read 1\n254:0 Write 2\n254:0 Total 3\n254:16 Read 5\nTotal 3\n' });
  const reader = openGroups({ unified, v1: { cpu: v1, cpuacct: v1, memory: v1, pids: v1, blkio: v1 }, path: '/' });
  const { cpuSeconds, throttledSeconds, throttledPeriods, cacheBytes, swapBytes, oomKills, diskReadBytes, diskWriteBytes, diskReads, diskWrites } = reader.read(NO_LINKS)!;
  assert.deepEqual([cpuSeconds, throttledSeconds, throttledPeriods, cacheBytes, swapBytes, oomKills], [2.5, 0.75, 5, 200_000, 4096, 1]);
  assert.deepEqual([diskReadBytes, diskWriteBytes, diskReads, diskWrites], [4096, 8192, 6, 2]);
  reader.close();
});

test('what a host does not count is unknown, and no zero', () => {
  const bare = openGroups({ unified: group('bare', { 'cpu.stat': 'usage_usec 1\n' }), v1: {}, path: '/' });
  const { cpuSeconds, periods, memoryBytes, cpuPressureSeconds } = bare.read(NO_LINKS)!;
  assert.deepEqual([cpuSeconds, periods, memoryBytes, cpuPressureSeconds], [1e-6, Number.NaN, Number.NaN, Number.NaN]);
  bare.close();
});

test('a VE in which nothing ran is not looked at in whole each time, its links are', () => {
  const unified = group('idle', { 'cpu.stat': 'usage_usec 1000000\n', 'memory.current': '100\n' });
  const reader = openGroups({ unified, v1: {}, path: '/' });
  const look = (rxBytes: number) => { const { memoryBytes, rxBytes: seen } = reader.read({ ...NO_LINKS, rxBytes })!; return [memoryBytes, seen]; };
  assert.deepEqual(look(1), [100, 1]);
  writeFileSync(join(unified, 'memory.current'), '200\n');
  assert.deepEqual([look(2), look(3), look(4), look(5), look(6)], [[100, 2], [100, 3], [100, 4], [100, 5], [200, 6]]);
  writeFileSync(join(unified, 'memory.current'), '300\n');
  writeFileSync(join(unified, 'cpu.stat'), 'usage_usec 1000001\n');
  assert.deepEqual(look(7), [300, 7]);
  reader.close();
});

test('formats: a key that another one ends with, lines of pressure, disks without a figure', () => {
  assert.equal(key('total_cache 1\ncache 2\n', 'cache'), 2);
  assert.ok(Number.isNaN(key('total_cache 1\n', 'cache')));
  assert.equal(pressure('some avg10=0.00 total=1\nfull avg10=0.00 total=2000000\n', 'full'), 2);
  assert.ok(Number.isNaN(pressure('some avg10=0.00 total=1\n', 'full')), 'CPU pressure of older kernels');
  assert.deepEqual(parseBlkio('Total 0\n', 'Total 0\n'), parseIoStat(''));
  assert.deepEqual(parseIoStat('254:0 \n'), parseIoStat(''));
});
