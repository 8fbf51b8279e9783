import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { findHierarchies } from '../kernel/cgroup.ts';
import { chooseLayout, directoriesOf } from './layout.ts';
import type { Host, Limits } from './control.ts';
import { chooseCpus } from './cpuset.ts';
import { promiseUpwards } from './guarantee.ts';
import { weighUpwards } from './host-share.ts';
import { lineOf } from './io.ts';
import { planLimits, sameLimit } from './limits.ts';
import { createResources } from './resources.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { Properties } from '../spec/types.ts';
import type { VeGroups } from './types.ts';

const FREE: Limits = {
  'cpu.weight': 100, 'cpu.limit': null, 'cpu.burst': 0, 'cpu.count': null, 'cpu.mask': null, 'cpu.nodes': null,
  'memory.limit': null, 'memory.swap': null, 'memory.guarantee': 0, 'pids.limit': null, 'io.priority': 4, 'io.limit': null, 'io.iops': null,
};
/** Eight CPUs on two nodes; to the first two a VE is bound. */
const HOST: Host = { cpus: [0, 1, 2, 3, 4, 5, 6, 7], nodes: new Map([[0, [0, 1, 2, 3]], [1, [4, 5, 6, 7]]]), bound: (cpu) => (cpu < 2 ? 1 : 0), disk: { device: '8:0', name: 'sda' } };
const MiB = 1 << 20;

const hierarchies = findHierarchies();
const real = { skip: process.getuid?.() !== 0 || hierarchies.unified === undefined };
const instance = 'rtest';
const resources = createResources({ instance, disks: tmpdir() });
const folder = mkdtempSync(join(tmpdir(), 'veld-resources-'));

before(() => { if (!real.skip) resources.setup(); });
after(async () => {
  rmSync(folder, { recursive: true });
  if (real.skip) return;
  for (const number of resources.list()) await resources.kill(number);
  await resources.teardown();
  assert.equal(existsSync(`${hierarchies.unified}/veld-${instance}`), false);
});

function limits(over: Partial<Limits>): Properties {
  return { ...FREE, ...over } as Properties;
}

/** Groups of files in a folder, for the plans of hosts that this one is not. */
function fakeGroups(name: string, v1: boolean): VeGroups {
  const directory = join(folder, name);
  mkdirSync(directory);
  const files = v1
    ? ['cpu.shares', 'cpu.cfs_quota_us', 'cpu.cfs_burst_us', 'cpuset.cpus', 'cpuset.mems', 'blkio.throttle.read_bps_device', 'blkio.throttle.read_iops_device', 'memory.limit_in_bytes', 'memory.memsw.limit_in_bytes', 'pids.max']
    : ['cpu.weight', 'cpu.max', 'cpu.max.burst', 'cpuset.cpus', 'cpuset.mems', 'io.max', 'memory.max', 'memory.swap.max', 'memory.min', 'pids.max'];
  for (const file of files) writeFileSync(join(directory, file), '');
  return { unified: directory, v1: v1 ? { cpu: directory, cpuset: directory, blkio: directory, memory: directory, pids: directory } : {}, path: `/${name}` };
}

test('lines for cgroup v2', () => {
  const groups = fakeGroups('two', false);
  const plan = planLimits(groups, { ...FREE, 'cpu.weight': 7, 'cpu.limit': 150, 'cpu.burst': 50, 'cpu.mask': '2-3', 'cpu.nodes': '0', 'memory.limit': 64 * MiB, 'memory.swap': 0, 'pids.limit': 50, 'io.limit': MiB }, HOST);
  assert.deepEqual(plan.map((w) => `${w.file}=${w.value}`), [
    'cpu.weight=7', 'cpu.max=150000 100000', 'cpu.max.burst=50000', 'cpuset.cpus=2-3', 'cpuset.mems=0',
    `io.max=8:0 rbps=${MiB} wbps=${MiB}`, 'io.max=8:0 riops=max wiops=max', 'pids.max=50', `memory.max=${64 * MiB}`, 'memory.swap.max=0', 'memory.min=0',
  ]);
  assert.deepEqual(planLimits(groups, FREE, HOST).map((w) => w.value), ['100', 'max 100000', '0', '', '', '8:0 rbps=max wbps=max', '8:0 riops=max wiops=max', 'max', 'max', 'max', '0']);
});

test('lines for cgroup v1: weights scale, the sum of memory and swap is never below memory', () => {
  const groups = fakeGroups('one', true);
  const order = (now: string, over: Partial<Limits>): string[] => planLimits(groups, { ...FREE, ...over }, HOST, () => now).slice(-2).map((w) => w.value);
  assert.deepEqual(planLimits(groups, { ...FREE, 'cpu.weight': 1 }, HOST, (_, file) => (file.startsWith('cpuset') ? '0-7' : '0')).map((w) => w.value), ['10', '-1', '0', '0-7', '0-7', '8:0 0', '8:0 0', '8:0 0', '8:0 0', 'max', '-1', '-1']);
  assert.deepEqual(order('300', { 'memory.limit': 200, 'memory.swap': 50 }), ['200', '250'], 'lowering: memory first');
  assert.deepEqual(order('100', { 'memory.limit': 200, 'memory.swap': 50 }), ['250', '200'], 'raising: the sum first');
  assert.throws(() => planLimits(groups, { ...FREE, 'memory.swap': 5 }, HOST), { code: 'property.unsupported' });
  assert.throws(() => planLimits(groups, { ...FREE, 'memory.guarantee': MiB }, HOST), { code: 'property.unsupported', message: /soft limits guarantee nothing/ });
  assert.throws(() => planLimits(groups, { ...FREE, 'memory.limit': MiB, 'memory.guarantee': 2 * MiB }, HOST), { code: 'property.invalid', message: /\(2M\) is more than memory\.limit \(1M\)/ });
});

test('a burst is never more than the quota, after each line', () => {
  const groups = fakeGroups('burst', false);
  const files = (now: string, limit: number, burst: number): string[] => planLimits(groups, { ...FREE, 'cpu.limit': limit, 'cpu.burst': burst }, HOST, () => now).slice(1, 3).map((w) => w.file);
  assert.deepEqual(files('100000', 50, 50), ['cpu.max.burst', 'cpu.max'], 'lowered');
  assert.deepEqual(files('10000', 200, 150), ['cpu.max', 'cpu.max.burst'], 'raised');
  for (const over of [{ 'cpu.burst': 1 }, { 'cpu.limit': 50, 'cpu.burst': 51 }]) assert.throws(() => planLimits(groups, { ...FREE, ...over }, HOST), { code: 'property.invalid', message: /cpu\.limit/ });
});

test('CPUs: those that are there, those of the nodes, as many as are asked for', () => {
  const groups = fakeGroups('set', false);
  const set = (over: Partial<Limits>, now = ''): string => planLimits(groups, { ...FREE, ...over }, HOST, () => now).find((w) => w.file === 'cpuset.cpus')!.value;
  assert.equal(set({ 'cpu.nodes': '1' }), '4-7');
  // Processes cannot be left without a set once they had one.
  assert.equal(planLimits(groups, FREE, HOST, (_, file) => (file === 'cpuset.cpus' ? '0' : file === 'cpuset.cpus.effective' ? '0-7' : '')).find((w) => w.file === 'cpuset.cpus')!.value, '0-7');
  assert.equal(set({ 'cpu.nodes': '1', 'cpu.mask': '0-5' }), '4-5');
  assert.equal(set({ 'cpu.count': 2 }), '2-3', 'where no other VE is bound');
  assert.equal(set({ 'cpu.count': 2 }, '0-1'), '0-1', 'it stays where it is');
  assert.equal(set({ 'cpu.count': 3, 'cpu.mask': '0,1,7' }), '0-1,7');
  for (const [over, says] of [[{ 'cpu.count': 9 }, /9 CPUs are more/], [{ 'cpu.count': 3, 'cpu.mask': '1-2' }, /cpu\.mask and cpu\.nodes leave it: 2/], [{ 'cpu.mask': '7-9' }, /no CPU 8-9/], [{ 'cpu.nodes': '2' }, /no NUMA node 2/], [{ 'cpu.nodes': '1', 'cpu.mask': '0' }, /None of the CPUs/]] as const) {
    assert.throws(() => planLimits(groups, { ...FREE, ...over }, HOST), { code: 'property.invalid', message: says });
  }
});

test('CPUs that are chosen: as many, of those allowed, and those it has are the last to go', () => {
  fc.assert(fc.property(fc.uniqueArray(fc.nat(15), { minLength: 1 }), fc.uniqueArray(fc.nat(15)), fc.nat(), fc.func(fc.nat(3)), (allowed, now, n, bound) => {
    const count = 1 + n % allowed.length;
    const chosen = chooseCpus(count, allowed, now, bound);
    assert.equal(new Set(chosen).size, count);
    assert.ok(chosen.every((cpu) => allowed.includes(cpu)));
    assert.deepEqual(chooseCpus(count, allowed, chosen, bound), chosen, 'to ask again changes nothing');
  }));
});

test('a file with a line for each disk: the one of ours, and what is not said', () => {
  const v2 = '8:16 rbps=1 wbps=2 riops=3 wiops=4\n8:0 rbps=5 wbps=max riops=7 wiops=8';
  assert.equal(lineOf(v2, '8:0', '8:0 rbps=9 wbps=9'), '8:0 rbps=5 wbps=max');
  assert.equal(lineOf(v2, '8:32', '8:32 riops=9 wiops=9'), '8:32 riops=max wiops=max');
  assert.equal(lineOf('8:16 100\n8:0 200', '8:0', '8:0 1'), '8:0 200');
  assert.equal(lineOf('', '8:0', '8:0 1'), '8:0 0');
});

test('a limit without its controller is refused in words, its default is not', () => {
  const groups = { unified: mkdtempSync(join(folder, 'none')), v1: {}, path: '' };
  assert.deepEqual(planLimits(groups, FREE, HOST), []);
  for (const [name, value] of Object.entries({ 'cpu.weight': 99, 'cpu.limit': 10, 'cpu.count': 2, 'cpu.mask': '1', 'cpu.nodes': '0', 'memory.limit': MiB, 'memory.swap': 0, 'memory.guarantee': MiB, 'pids.limit': 9, 'io.priority': 5, 'io.limit': MiB, 'io.iops': 100 })) {
    assert.throws(() => planLimits(groups, { ...FREE, [name]: value }, HOST), { code: 'property.unsupported', message: new RegExp(`^${name} cannot be held`) });
  }
});

test('what this host cannot hold is refused before there is a group, what nobody counts among it; what does not change is not asked about', real, () => {
  const all = resolveProperties({});
  for (const name of ['ubc.numtcpsock', 'ubc.numothersock', 'ubc.numfile', 'ubc.numflock'] as const) {
    const asked = { ...all, [name]: { barrier: 5, limit: 5 } };
    assert.throws(() => resources.check(asked), { code: 'property.unsupported', message: new RegExp(`^${name} cannot be held on this host: .*not been loaded`) });
    assert.throws(() => resources.check(asked, ['description', name]), { code: 'property.unsupported' });
    resources.check(asked, ['memory.limit', 'description']);
  }
  resources.check(all);
  assert.throws(() => resources.check({ ...all, 'cpu.count': 9999 }), { code: 'property.invalid' });
  resources.check({ ...all, 'cpu.count': 9999 }, ['pids.limit']);
});

test('reading back: pages are rounded, anything else is a mismatch', () => {
  const write = { property: 'memory.limit' as const, group: '', file: '', value: '100000000' };
  assert.ok(sameLimit(write, '99999744'));
  assert.ok(!sameLimit(write, '50000000'));
  assert.ok(sameLimit({ ...write, value: '-1' }, '9223372036854771712'));
  assert.ok(!sameLimit({ ...write, property: 'pids.limit', value: '100' }, '101'));
});

test('v2 under systemd: the delegated unit, or what it wrote, else a group of our own', () => {
  const root = join(folder, 'v2');
  const v2 = { mode: 'v2' as const, unified: root, v1: {} };
  assert.deepEqual(chooseLayout(v2, 'x', folder, false).base, '/veld-x');
  assert.deepEqual(chooseLayout(v2, 'x', folder, true).base, '/veld-x.slice');
  for (const path of ['/veld.slice/veld-x.slice/veld-x-ves.service', '/told']) {
    mkdirSync(root + path, { recursive: true });
    writeFileSync(`${root}${path}/cgroup.procs`, '');
  }
  assert.deepEqual(chooseLayout(v2, 'x', folder, true).base, '/veld.slice/veld-x.slice/veld-x-ves.service');
  writeFileSync(join(folder, 'cgroup-base'), '/told\n');
  assert.deepEqual(chooseLayout(v2, 'x', folder, true), { hierarchies: v2, base: '/told', delegated: true });
  writeFileSync(join(folder, 'cgroup-base'), '/told/../..\n');
  assert.equal(chooseLayout(v2, 'x', folder, true).delegated && chooseLayout(v2, 'x', folder, true).base, '/veld.slice/veld-x.slice/veld-x-ves.service');
});

test('what VEs are promised is promised to the groups above them', () => {
  const root = join(folder, 'promises');
  const put = (path: string, value: string): void => {
    mkdirSync(join(root, path), { recursive: true });
    writeFileSync(join(root, path, 'memory.min'), value);
  };
  const promised = (path: string): string => readFileSync(join(root, path, 'memory.min'), 'utf8');
  for (const [path, value] of [['slice', '0'], ['slice/other', '50'], ['slice/base', '0'], ['slice/base/101', '0'], ['slice/base/102', '30'], ['slice/base/monitors', '0']] as const) put(path, value);
  promiseUpwards(join(root, 'slice/base'), root);
  assert.deepEqual(['slice/base', 'slice'].map(promised), ['30', '80']);
  put('slice/base/101', '100');
  promiseUpwards(join(root, 'slice/base'), root);
  assert.deepEqual(['slice/base', 'slice'].map(promised), ['130', '180']);
  put('slice/base/102', 'max');
  promiseUpwards(join(root, 'slice/base'), root);
  assert.deepEqual(['slice/base', 'slice'].map(promised), ['max', 'max']);
});

test('VEs together weigh what they weigh, beside what the host weighs', () => {
  const root = join(folder, 'weights');
  const put = (path: string, value: string): void => {
    mkdirSync(join(root, path), { recursive: true });
    writeFileSync(join(root, path, 'cpu.weight'), value);
  };
  const weights = (): string[] => ['slice/base', 'slice'].map((path) => readFileSync(join(root, path, 'cpu.weight'), 'utf8'));
  for (const path of ['slice', 'slice/other', 'slice/base']) put(path, '100');
  const base: VeGroups = { unified: join(root, 'slice/base'), v1: {}, path: '/slice/base' };
  for (const [ves, host, expected] of [[[100, 250], 100, ['350', '450']], [[100, 1300], 700, ['200', '300']], [[], 700, ['100', '200']], [[10_000, 10_000], 100, ['10000', '10000']], [[1], 10_000, ['100', '200']]] as const) {
    for (const path of ['slice', 'slice/base']) put(path, ''); // a file does not forget the end of a longer line, as the kernel's do
    weighUpwards(base, [root], ves, host);
    assert.deepEqual(weights(), expected, JSON.stringify([ves, host]));
  }
});

test('the group of all VEs follows those that come, change and go', real, async () => {
  const base = resources.groups(111);
  const weight = (): number => {
    const group = (base.v1.cpu ?? base.unified).replace(/\/111$/, '');
    return base.v1.cpu === undefined ? Number(readFileSync(`${group}/cpu.weight`, 'utf8')) : Math.round(Number(readFileSync(`${group}/cpu.shares`, 'utf8')) / 10.24);
  };
  const others = resources.list().length;
  assert.deepEqual([others, weight()], [0, 100]);
  resources.create(111, 500_000, limits({ 'cpu.weight': 3000 }));
  assert.equal(weight(), 300);
  resources.create(112, 600_000, limits({ 'cpu.weight': 1000 }));
  assert.equal(weight(), 400);
  resources.apply(111, limits({ 'cpu.weight': 500 }), ['cpu.weight']);
  assert.equal(weight(), 150);
  for (const number of [111, 112]) await resources.remove(number);
  assert.equal(weight(), 100);
});

test('limits change live, both ways, and are in the kernel', real, () => {
  resources.create(101, 500_000, limits({}));
  const small = limits({ 'cpu.weight': 200, 'cpu.limit': 50, 'memory.limit': 64 * MiB, 'memory.swap': 16 * MiB, 'pids.limit': 20 });
  const large = limits({ 'cpu.weight': 300, 'cpu.limit': 250, 'memory.limit': 256 * MiB, 'memory.swap': 256 * MiB, 'pids.limit': 40 });
  for (const one of [small, large, limits({}), large, small]) resources.apply(101, one);
  const groups = resources.groups(101);
  const pids = groups.v1.pids ?? groups.unified;
  assert.equal(readFileSync(`${pids}/pids.max`, 'utf8').trim(), '20');
  const memory = groups.v1.memory === undefined ? `${groups.unified}/memory.max` : `${groups.v1.memory}/memory.limit_in_bytes`;
  assert.equal(readFileSync(memory, 'utf8').trim(), String(64 * MiB));
});

test('limits hold: no process beyond pids.limit', real, async () => {
  resources.create(102, 600_000, limits({ 'pids.limit': 16 }));
  const out = await enter(102, 'i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done 2>/dev/null; echo done');
  assert.ok(!out.includes('done'), out);
  assert.equal(resources.usage(102)?.tasks, 15, 'the sixteenth was the shell itself, which gives up');
  await resources.kill(102);
  await resources.remove(102);
});

test('a refused limit takes back those before it', real, async () => {
  resources.create(103, 600_000, limits({ 'memory.limit': 256 * MiB, 'pids.limit': 30 }));
  assert.throws(() => resources.apply(103, limits({ 'pids.limit': 31, 'memory.limit': -5 })), { code: 'property.unsupported' });
  const groups = resources.groups(103);
  assert.equal(readFileSync(`${groups.v1.pids ?? groups.unified}/pids.max`, 'utf8').trim(), '30');
  await resources.remove(103);
});

test('a VE: entered, measured, frozen, thawed, killed while frozen, removed with what it nested', real, async () => {
  resources.create(104, 700_000, limits({}));
  await enter(104, 'sleep 60 & sleep 60 & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo up');
  const { unified } = resources.groups(104);
  assert.equal(resources.pids(104).length, 3);
  const usage = resources.usage(104);
  assert.ok(usage && usage.tasks === 3 && usage.cpuSeconds > 0 && usage.memoryBytes > 0, JSON.stringify(usage));
  assert.equal(statSync(`${unified}/cgroup.procs`).uid, 700_000);
  assert.equal(statSync(`${unified}/cgroup.freeze`).uid, 0, 'what limits the VE stays the host\'s');
  assert.equal(statSync(`${unified}/cgroup.max.depth`).uid, 0);
  await resources.freeze(104);
  assert.equal(resources.isFrozen(104), true);
  await resources.thaw(104);
  assert.equal(resources.isFrozen(104), false);
  await resources.freeze(104);
  mkdirSync(`${unified}/nested/deeper`, { recursive: true });
  await resources.kill(104);
  assert.deepEqual(resources.pids(104), []);
  await resources.remove(104);
  for (const directory of directoriesOf(resources.groups(104))) assert.equal(existsSync(directory), false);
  assert.equal(resources.usage(104), undefined);
  assert.ok(!resources.list().includes(104));
});

test('kill finds a process that entered only some of the groups', { skip: real.skip || hierarchies.v1.pids === undefined }, async () => {
  resources.create(105, 800_000, limits({}));
  const child = spawn('/bin/sleep', ['60']);
  writeFileSync(`${resources.groups(105).v1.pids}/cgroup.procs`, String(child.pid));
  assert.deepEqual(resources.pids(105), [child.pid]);
  await resources.kill(105);
  assert.deepEqual(resources.pids(105), []);
  await resources.remove(105);
});

test('exec enters beside a tree that hands controllers down, and goes round a group that the VE spoiled', real, async () => {
  resources.create(106, 900_000, limits({}));
  const first = resources.execGroups(106)[0] as string;
  assert.ok(first.endsWith('/106/veld-exec'));
  assert.equal(statSync(`${first}/cgroup.procs`).uid, 900_000);
  writeFileSync(`${first}/cgroup.type`, 'threaded'); // spoils all: the VE's group is now the root of a threaded tree
  assert.throws(() => resources.execGroups(106), { code: 'exec.failed' });
  await resources.remove(106);
  assert.throws(() => resources.execGroups(106), { code: 've.not_running' });
});

/** Run a shell in the VE's groups; it stays as `sleep`. Answers with its first output, or nothing when a second passes without. */
function enter(number: number, script: string): Promise<string> {
  const child = spawn('/bin/sh', ['-c', `for d in "$@"; do echo 0 > "$d/cgroup.procs"; done; ${script}; exec sleep 60`, 'sh', ...resources.execGroups(number)]);
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(''), 1000);
    child.stdout.once('data', (data: Buffer) => { clearTimeout(timer); setTimeout(() => resolve(String(data)), 20); });
    child.once('exit', () => { clearTimeout(timer); resolve(''); });
  });
}
