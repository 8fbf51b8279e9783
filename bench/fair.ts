/**
 * How fair CPU time is divided: between VEs by their weights, and under their limits.
 *
 *   node bench/fair.ts [--ves 2,4,8] [--loops 2,4] [--seconds 10] [--limits 10,25,50,100,150] [--json]
 *
 * Weights are 1:2:3:...; each VE has so many loops that do nothing but burn. Said is the largest deviation of a VE's share from its ideal one, as a part of that, in percent; for limits,
 * the deviation of what one VE alone gets. What a VE got is what the kernel has accounted to its group. Where other loads are on the machine, weights say little.
 */
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { buildCache } from '../test/lib/cache.ts';
import { startInstance } from '../test/lib/instance.ts';
import { writeGuard } from '../test/lib/guard.ts';
import type { UsageSample, VeUsage } from '../src/ve/types.ts';

const { values } = parseArgs({ options: { ves: { type: 'string', default: '2,4,8' }, loops: { type: 'string', default: '2,4' }, seconds: { type: 'string', default: '10' }, limits: { type: 'string', default: '10,25,50,100,150' }, json: { type: 'boolean', default: false } } });
process.env.VELD_TEST_OK ??= writeGuard();
const list = (text: string): number[] => text.split(',').filter((word) => word !== '').map(Number);
const seconds = Number(values.seconds);

await buildCache(() => startInstance({ noTemplate: true }), (line) => process.stderr.write(`${line}\n`));
const veld = await startInstance({});
const rows: Record<string, string | number>[] = [];

/** What VEs got of CPU time in each second, in seconds. */
async function got(names: readonly string[]): Promise<number[]> {
  const sample = async (): Promise<Map<string, VeUsage>> => new Map((await veld.api.call<UsageSample>('GET', '/v1/usage')).ves.map((ve) => [ve.name, ve]));
  await sleep(1000); // loops begin one after the other
  const before = await sample();
  await sleep(seconds * 1000);
  const after = await sample();
  return names.map((name) => {
    const [first, last] = [before.get(name)!, after.get(name)!];
    return (last.usage!.cpuSeconds - first.usage!.cpuSeconds) / (last.clock - first.clock);
  });
}

const percent = (part: number): number => Math.round(part * 1000) / 10;

try {
  const most = Math.max(...list(values.ves), 1);
  const names = Array.from({ length: most }, (_, i) => `fair${i}`);
  for (const name of names) await veld.createRunning(name);
  for (const name of names) await veld.booted(name);
  const burn = async (some: readonly string[], loops: number): Promise<void> => {
    await Promise.all(some.map((name) => veld.exec(name, 'sh', '-c', `for i in $(seq ${loops}); do systemd-run --quiet --unit=burn$i timeout 120 sh -c 'while :; do :; done'; done`)));
  };
  const calm = async (some: readonly string[], loops: number): Promise<void> => {
    await Promise.all(some.map((name) => veld.exec(name, 'sh', '-c', `for i in $(seq ${loops}); do systemctl stop burn$i; done`)));
  };
  for (const ves of list(values.ves)) {
    const some = names.slice(0, ves);
    for (const [i, name] of some.entries()) await veld.cli('set', name, `cpu.weight=${100 * (i + 1)}`);
    for (const loops of list(values.loops)) {
      await burn(some, loops);
      const used = await got(some);
      await calm(some, loops);
      const [sum, weights] = [used.reduce((a, b) => a + b, 0), (ves * (ves + 1)) / 2];
      const worst = Math.max(...used.map((one, i) => Math.abs(one / sum / ((i + 1) / weights) - 1)));
      rows.push({ 'VEs with weights 1:2:...': ves, 'loops in each': loops, 'largest deviation, %': percent(worst), 'of all CPU time, %': percent(sum / cpus().length) });
    }
  }
  const [one] = names;
  await veld.cli('set', one!, 'cpu.weight=100');
  for (const limit of list(values.limits)) {
    await veld.cli('set', one!, `cpu.limit=${limit}%`);
    await burn([one!], 4);
    const [used] = await got([one!]);
    await calm([one!], 4);
    rows.push({ 'limit, %': limit, 'it got, %': percent(used!), 'deviation, %': percent(Math.abs(used! / (limit / 100) - 1)) });
  }
  if (values.json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
  else for (const row of rows) process.stdout.write(`${Object.entries(row).map(([what, figure]) => `${what} ${figure}`).join('   ')}\n`);
} finally {
  await veld.destroy();
}
