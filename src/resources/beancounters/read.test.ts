/** Rows from the files of control groups, of either version. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { BEANCOUNTERS, type Beancounter } from '../../spec/beancounters/table.ts';
import type { VeGroups } from '../types.ts';
import type { Elsewhere } from './elsewhere.ts';
import { readBeancounters } from './read.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-ubc-'));
after(() => rmSync(folder, { recursive: true }));

let count = 0;
function group(files: Record<string, string>): string {
  const dir = join(folder, String(count += 1));
  mkdirSync(dir);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), `${text}\n`);
  return dir;
}

function read(groups: Omit<VeGroups, 'path'>, elsewhere?: Elsewhere): Record<string, Beancounter> {
  const rows = readBeancounters({ ...groups, path: '/x' }, elsewhere);
  assert.deepEqual(rows.map(({ name }) => name), BEANCOUNTERS.map(({ name }) => name));
  return Object.fromEntries(rows.map((row) => [row.name, row]));
}

const numbers = ({ held, maxheld, barrier, limit, failcnt }: Beancounter): unknown[] => [held, maxheld, barrier, limit, failcnt];

test('cgroup2: pages and bytes, peaks and refusals, limits as the files have them', () => {
  const unified = group({
    'pids.current': '20', 'pids.max': '240', 'pids.peak': '26', 'pids.events': 'max 3',
    'memory.current': '8193', 'memory.peak': '12288', 'memory.max': '1048576', 'memory.events': 'low 0\nhigh 0\nmax 90\noom 2\noom_kill 1\noom_group_kill 0',
    'memory.swap.current': '4096', 'memory.swap.max': 'max', 'memory.swap.peak': '8192', 'memory.swap.events': 'high 0\nmax 0\nfail 4',
    'memory.min': '20480', 'memory.stat': 'anon 5\nfile 8193\nkernel 70000\nsock 3000\nshmem 4097\nunevictable 40960',
  });
  const rows = read({ unified, v1: {} }, { oomGuarantee: 12_000 });
  assert.deepEqual(numbers(rows.numproc!), [20, 26, 240, 240, 3]);
  assert.equal(rows.numproc!.enforced, 'pids.max');
  assert.deepEqual(numbers(rows.physpages!), [3, 3, 0, 256, 2]);
  assert.equal(rows.physpages!.enforced, 'memory.max');
  assert.deepEqual(numbers(rows.swappages!), [1, 2, 0, null, 4]);
  assert.deepEqual(numbers(rows.oomguarpages!), [3, 3, 3, null, 1]);
  assert.match(rows.oomguarpages!.enforced!, /oom_score_adj/);
  assert.deepEqual([...numbers(rows.vmguarpages!), rows.vmguarpages!.enforced], [3, 3, 5, null, 0, 'memory.min']);
  assert.deepEqual(numbers(read({ unified, v1: {} }, { oomGuarantee: null }).oomguarpages!).slice(2, 4), [null, null], 'whatever it uses');
  assert.deepEqual(numbers(rows.kmemsize!), [70_000, 70_000, null, null, 0]);
  assert.deepEqual([rows.kmemsize!.kept, rows.kmemsize!.enforced], [['held'], null]);
  assert.equal(rows.shmpages!.held, 2);
  assert.equal(rows.lockedpages!.held, 10);
  assert.equal(rows.tcpsndbuf!.held, 3000);
  assert.deepEqual([rows.numfile!.counted, rows.numfile!.kept, ...numbers(rows.numfile!)], [null, [], 0, 0, null, null, 0]);
});

test('a fork that was refused is counted wherever the kernel has counted it', () => {
  const events = (max: number): Record<string, string> => ({ 'pids.current': '5', 'pids.max': '8', 'pids.events': `max ${max}` });
  const old = group(events(1));
  mkdirSync(join(old, 'a/b'), { recursive: true });
  for (const below of ['a', 'a/b']) writeFileSync(join(old, below, 'pids.events'), 'max 20');
  assert.equal(read({ unified: old, v1: {} }).numproc!.failcnt, 41, 'before 6.11, in the group of the process');
  writeFileSync(join(old, 'pids.events.local'), 'max 0');
  assert.equal(read({ unified: old, v1: {} }).numproc!.failcnt, 1, 'since then, where the limit is');
});

test('hybrid: v1\'s names, no limit as v1 writes it, swap as the difference', () => {
  const memory = group({
    'memory.usage_in_bytes': '40960', 'memory.max_usage_in_bytes': '81920', 'memory.limit_in_bytes': '409600', 'memory.failcnt': '77', 'memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 5',
    'memory.memsw.usage_in_bytes': '49152', 'memory.memsw.max_usage_in_bytes': '90112', 'memory.memsw.limit_in_bytes': '819200', 'memory.memsw.failcnt': '6',
    'memory.kmem.usage_in_bytes': '5000', 'memory.kmem.max_usage_in_bytes': '6000', 'memory.kmem.failcnt': '0', 'memory.stat': 'shmem 1\ntotal_cache 12288\ntotal_shmem 8192\ntotal_unevictable 0',
  });
  const pids = group({ 'pids.current': '7', 'pids.max': 'max', 'pids.events': 'max 0' });
  const rows = read({ unified: group({}), v1: { memory, pids } });
  assert.deepEqual(numbers(rows.physpages!), [10, 20, 0, 100, 5]);
  assert.equal(rows.physpages!.enforced, 'memory.limit_in_bytes');
  assert.deepEqual(numbers(rows.swappages!), [2, 2, 0, 100, 6]);
  assert.deepEqual(numbers(rows.oomguarpages!), [11, 11, 0, null, 5]);
  assert.deepEqual(numbers(rows.kmemsize!), [5000, 6000, null, null, 0]);
  assert.equal(rows.shmpages!.held, 2);
  assert.deepEqual(numbers(rows.numproc!), [7, 7, null, null, 0]);
  assert.deepEqual(rows.numproc!.kept, ['held', 'failcnt']);
  assert.equal(rows.tcpsndbuf!.counted, null, 'v1 counts buffers only where they have a limit');
  writeFileSync(join(memory, 'memory.limit_in_bytes'), '9223372036854771712\n');
  writeFileSync(join(memory, 'memory.memsw.limit_in_bytes'), '9223372036854771712\n');
  const free = read({ unified: group({}), v1: { memory, pids } });
  assert.deepEqual([free.physpages!.limit, free.swappages!.limit], [null, null]);
});

test('what nobody counts is not shown as counted, and what nobody holds not as held', () => {
  const rows = read({ unified: group({}), v1: {} });
  for (const row of Object.values(rows)) assert.deepEqual([row.counted, row.enforced, row.kept, row.held, row.failcnt], [null, null, [], 0, 0], row.name);
});

test('sockets, terminals, locks, and what was counted before a checkpoint', () => {
  const rows = read({ unified: group({ 'pids.current': '5', 'pids.peak': '8', 'pids.events': 'max 1', 'pids.max': 'max' }), v1: {} }, {
    sockets: { tcp: { held: 3, maxheld: 9, failcnt: 2 }, other: { held: 1, maxheld: 1, failcnt: 0 }, limits: { tcp: 80, other: null } },
    ptys: { held: 2, limit: 16 }, locks: 4, before: { numtcpsock: { maxheld: 12, failcnt: 30 }, numproc: { maxheld: 2, failcnt: 1 } },
  });
  assert.deepEqual(numbers(rows.numtcpsock!), [3, 12, 80, 80, 32]);
  assert.deepEqual([rows.numtcpsock!.enforced, rows.numtcpsock!.kept], ['BPF programs at the group', ['held', 'maxheld', 'failcnt']]);
  assert.deepEqual(numbers(rows.numothersock!), [1, 1, null, null, 0]);
  assert.deepEqual([...numbers(rows.numpty!), rows.numpty!.enforced], [2, 2, 16, 16, 0, 'max= of devpts']);
  assert.deepEqual([rows.numflock!.held, rows.numflock!.counted, rows.numflock!.enforced], [4, 'lines of /proc/locks', null]);
  assert.deepEqual(numbers(rows.numproc!), [5, 8, null, null, 2]);
});

test('open files and file locks by programs in the kernel; without them the reason is in the row', () => {
  const files = { held: 300, maxheld: 400, failcnt: 2, barrier: 500, limit: 500, missed: 0 };
  const rows = read({ unified: group({}), v1: {} }, { files, flocks: { ...files, barrier: 188, limit: 206, missed: 3 }, locks: 7, before: { numfile: { maxheld: 450, failcnt: 5 } } });
  assert.deepEqual([...numbers(rows.numfile!), rows.numfile!.enforced], [300, 450, 500, 500, 7, 'BPF programs in the kernel']);
  assert.deepEqual([...numbers(rows.numflock!), rows.numflock!.counted], [300, 400, 188, 206, 2, 'BPF programs in the kernel']);
  assert.match(rows.numflock!.note!, /left the programs out 3 times/);
  assert.doesNotMatch(rows.numfile!.note!, /left the programs out/);
  const bare = read({ unified: group({}), v1: {} }, { files: 'no BTF', flocks: 'no BTF', locks: 7 });
  for (const [row, counted] of [[bare.numfile!, null], [bare.numflock!, 'lines of /proc/locks']] as const) {
    assert.deepEqual([row.counted, row.enforced, row.limit], [counted, null, null]);
    assert.match(row.note!, /Not held here: no BTF\.$/);
  }
});
