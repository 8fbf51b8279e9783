/** CPU time, and the CPUs that a VE has. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../wait.ts';
import type { Fill } from './fills.ts';
import type { LimitGround } from './ground.ts';

const burn = (ground: LimitGround, ve: string): Promise<unknown> => ground.exec(ve, 'systemd-run', '--quiet', '--unit=burner', 'timeout', '600', 'sh', '-c', 'while :; do :; done');
const calm = (ground: LimitGround, ve: string): Promise<unknown> => ground.exec(ve, 'systemctl', 'stop', 'burner');
const used = async (ground: LimitGround, ve = ground.ve): Promise<number> => (await ground.show(ve)).usage!.cpuSeconds;
const stat = async (ground: LimitGround, key: string): Promise<number> => Number(new RegExp(`^${key} (\\d+)`, 'm').exec(await ground.control(ground.ve, 'cpu.stat'))?.[1]);

/** Part of what both VEs use that is the first one's. */
async function shareOf(ground: LimitGround): Promise<number> {
  const both = [ground.ve, ground.neighbour];
  const before = await Promise.all(both.map((ve) => used(ground, ve)));
  await sleep(4000);
  const after = await Promise.all(both.map((ve) => used(ground, ve)));
  const [mine, other] = after.map((seconds, i) => seconds - before[i]!) as [number, number];
  return mine / (mine + other);
}

/** Ten times: 60 ms of CPU time (as exact as times(2) is), which is three periods' worth of 20 %, and then a rest. */
const PULSES = 'for (1 .. 10) { ($u, $s) = times; $b = $u + $s; do { ($u, $s) = times } while $u + $s < $b + 0.06; select undef, undef, undef, 0.4 }';

/** What binding a process to a CPU says: nothing, or the kernel's refusal. */
const bind = async (ground: LimitGround, cpu: string | number): Promise<string> => (await ground.exec(ground.ve, 'env', 'LC_ALL=C', 'taskset', '-c', String(cpu), 'true')).stderr.trim();

const online = async (ground: LimitGround, what: 'cpu' | 'node'): Promise<string> => ground.onHost(`cat /sys/devices/system/${what}/online`);

export const CPU_FILLS: readonly Fill[] = [
  {
    property: 'cpu.weight',
    over: 'on one CPU with another VE it gets half with the same weight, and three quarters with three times as much',
    counted: 'CPU time',
    async fill(ground) {
      const both = [ground.ve, ground.neighbour];
      for (const ve of both) await ground.set(ve, { 'cpu.mask': '0' });
      for (const ve of both) await burn(ground, ve);
      const equal = await shareOf(ground);
      await ground.set(ground.ve, { 'cpu.weight': 300 });
      const more = await shareOf(ground);
      for (const ve of both) await calm(ground, ve);
      for (const ve of both) await ground.set(ve, { 'cpu.mask': null });
      await ground.set(ground.ve, { 'cpu.weight': null });
      assert.ok(Math.abs(equal - 0.5) < 0.08 && Math.abs(more - 0.75) < 0.08, `${equal} and ${more}`);
    },
  },
  {
    property: 'cpu.limit',
    over: 'stands still until the next period of 100 ms',
    counted: 'nr_throttled of cpu.stat',
    async fill(ground) {
      await ground.set(ground.ve, { 'cpu.limit': '20%' });
      assert.match(await ground.control(ground.ve, 'cpu.cfs_quota_us', 'cpu.max'), /^20000( 100000)?$/);
      await burn(ground, ground.ve);
      const before = await stat(ground, 'nr_throttled');
      const [begin, since] = [await used(ground), performance.now()];
      await until('it to be throttled', async () => await stat(ground, 'nr_throttled') > before + 20, 60_000, 250);
      const share = (await used(ground) - begin) / (performance.now() - since) * 1000;
      assert.ok(share < 0.25, `${share} of a CPU`);
      await ground.set(ground.ve, { 'cpu.limit': '400%' });
      const [calmly, from] = [await stat(ground, 'nr_throttled'), await used(ground)];
      await until('it to have used a second', async () => await used(ground) > from + 1, 60_000 * ground.slow, 250);
      assert.equal(await stat(ground, 'nr_throttled'), calmly, 'never throttled meanwhile');
      await calm(ground, ground.ve);
      await ground.set(ground.ve, { 'cpu.limit': null });
    },
  },
  {
    property: 'cpu.burst',
    over: 'stands still where it has saved up nothing, and not where it has',
    counted: 'nr_bursts of cpu.stat',
    async fill(ground) {
      await ground.set(ground.ve, { 'cpu.limit': '20%' });
      const pulses = async (): Promise<[throttled: number, bursts: number]> => {
        const before = [await stat(ground, 'nr_throttled'), await stat(ground, 'nr_bursts')] as const;
        assert.equal((await ground.exec(ground.ve, 'perl', '-e', PULSES)).exitCode, 0);
        return [await stat(ground, 'nr_throttled') - before[0], await stat(ground, 'nr_bursts') - before[1]];
      };
      const without = await pulses();
      await ground.set(ground.ve, { 'cpu.burst': '20%' });
      assert.equal(await ground.control(ground.ve, 'cpu.cfs_burst_us', 'cpu.max.burst'), '20000');
      const saved = await pulses();
      await ground.set(ground.ve, { 'cpu.burst': null, 'cpu.limit': null });
      assert.ok(without[0] >= 4 && without[1] === 0, `without: ${without.join(', ')}`);
      assert.ok(saved[1] >= 3 && saved[0] < without[0], `with: ${saved.join(', ')}`);
    },
  },
  {
    property: 'cpu.count',
    over: 'sees so many; binding to another: EINVAL',
    counted: 'no',
    async fill(ground) {
      if (await online(ground, 'cpu') === '0') return 'this host has one CPU';
      const seen = async (): Promise<string> => (await ground.exec(ground.ve, 'sh', '-c', 'nproc; grep -c ^processor /proc/cpuinfo')).stdout.trim();
      const all = await seen();
      await ground.set(ground.ve, { 'cpu.count': 1 });
      assert.equal(await seen(), '1\n1');
      const its = (await ground.exec(ground.ve, 'sh', '-c', 'grep Cpus_allowed_list /proc/1/status | cut -f2')).stdout.trim();
      const other = its === '0' ? 1 : 0;
      assert.match(await bind(ground, other), /Invalid argument/);
      assert.equal(await bind(ground, its), '');
      await ground.set(ground.ve, { 'cpu.count': null });
      assert.equal(await seen(), all);
      assert.equal(await bind(ground, other), '');
      return undefined;
    },
  },
  {
    property: 'cpu.mask',
    over: 'binding to another: EINVAL',
    counted: 'no',
    async fill(ground) {
      if (await online(ground, 'cpu') === '0') return 'this host has one CPU';
      await ground.set(ground.ve, { 'cpu.mask': '1' });
      assert.deepEqual([await bind(ground, 1), /Invalid argument/.test(await bind(ground, 0))], ['', true]);
      await ground.set(ground.ve, { 'cpu.mask': '0-1' });
      assert.equal(await bind(ground, 0), '');
      await ground.set(ground.ve, { 'cpu.mask': null });
      return undefined;
    },
  },
  {
    property: 'cpu.nodes',
    over: 'memory comes from these nodes; binding to a CPU of another: EINVAL',
    counted: 'pages of each node in numa_maps',
    async fill(ground) {
      const several = await online(ground, 'node') !== '0';
      await ground.set(ground.ve, { 'cpu.nodes': several ? '1' : '0' });
      if (!several) {
        assert.equal(await ground.control(ground.ve, 'cpuset.mems'), '0');
        await ground.set(ground.ve, { 'cpu.nodes': null });
        return 'this host has one NUMA node';
      }
      const first = async (node: number): Promise<string> => (await ground.onHost(`cat /sys/devices/system/node/node${node}/cpulist`)).split(/[-,]/)[0]!;
      /** Pages of each node that a process has which writes to 32 MiB. */
      const pages = async (): Promise<number[]> => {
        const { stdout } = await ground.exec(ground.ve, 'perl', '-e', '$n = 32 << 20; $x = "y" x $n; open F, "<", "/proc/self/numa_maps"; print grep { /anon=/ } <F>');
        return [0, 1].map((node) => [...stdout.matchAll(new RegExp(` N${node}=(\\d+)`, 'g'))].reduce((sum, [, some]) => sum + Number(some), 0));
      };
      const held = await pages();
      assert.ok(held[1]! > 8000 && held[0]! < 100, `pages: ${held.join(', ')}`);
      assert.match(await bind(ground, await first(0)), /Invalid argument/);
      await ground.set(ground.ve, { 'cpu.nodes': '0-1' });
      assert.equal(await bind(ground, await first(0)), '');
      await ground.set(ground.ve, { 'cpu.nodes': null });
      return undefined;
    },
  },
];
