/**
 * How fair CPU time is divided, by Veld and its peers in one run: between VEs by their weights, and under their limits.
 *
 *   node bench/fair.ts [--only veld,incus,lxc] [--rounds 3] [--ves 2,4,8] [--loops 2,4] [--seconds 10] [--limits 10,25,50,100,150] [--json FILE]
 *
 * Weights are 1:2:3:...; each VE has so many loops that do nothing but burn. Said is the largest deviation of a VE's share from its ideal one, as a part of that, in percent; for limits,
 * the deviation of what one VE alone gets. What a VE got is what the kernel has accounted to its group. In each round all contestants take their turn, one after the other; VEs of the others are idle.
 * Where other loads are on the machine, weights say little.
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Contestant } from './contestants/types.ts';
import { boundsTable, judgeBounds, type Bound } from './lib/bounds.ts';
import { runCommands } from './lib/commands.ts';
import { groupCpu, initOf } from './lib/processes.ts';
import { insideOf, untilRunning } from './lib/ready.ts';
import { figures, setting } from './lib/report.ts';
import { makeSamples } from './lib/samples.ts';
import { machineNow, namesIn, startRun, together } from './lib/together.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'veld,incus,lxc' }, rounds: { type: 'string', default: '3' }, ves: { type: 'string', default: '2,4,8' }, loops: { type: 'string', default: '2,4' },
    seconds: { type: 'string', default: '10' }, limits: { type: 'string', default: '10,25,50,100,150' }, json: { type: 'string' },
  },
});
const list = (text: string): number[] => text.split(',').filter((word) => word !== '').map(Number);
const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
const crowds = list(values.ves);
const names = namesIn(values.only);

const BOUNDS: readonly Bound[] = [
  { what: 'weights: at most 3 %', rows: 'weights', most: 3 },
  { what: 'limits: at most 0.5 %', rows: 'limit', most: 0.5 },
];

const run = startRun(40 * 60_000);
const samples = makeSamples();
const nameOf = (contestant: Contestant, i: number): string => `${contestant.name}-fair${i}`;

/** Loops in some VEs of a contestant, as services of theirs. @returns what each VE got of CPU time in each second, in seconds */
async function got(contestant: Contestant, ves: readonly string[], loops: number): Promise<number[]> {
  const groups = await Promise.all(ves.map((ve) => contestant.group(ve)));
  const inside = (script: string): Promise<unknown> => Promise.all(groups.map((group) => insideOf(initOf(group)!, ['sh', '-c', `for i in $(seq ${loops}); do ${script}; done`])));
  await inside("systemd-run --quiet --collect --unit=burn$i timeout 300 sh -c 'while :; do :; done'");
  await sleep(1000); // loops begin one after the other
  const look = (): { clock: number; used: number }[] => groups.map((group) => ({ clock: performance.now(), used: groupCpu(group) }));
  const before = look();
  await sleep(seconds * 1000);
  const after = look();
  await inside('systemctl stop burn$i');
  const shares = after.map(({ clock, used }, i) => (used - before[i]!.used) / (clock - before[i]!.clock) * 1000);
  if (shares.some((share) => !(share > 0))) throw new Error(`${contestant.name}: nothing burns in one of ${ves.join(' ')}`);
  return shares;
}

async function weigh(contestant: Contestant, ves: readonly string[], loops: number): Promise<void> {
  for (const [i, ve] of ves.entries()) await contestant.limit(ve, { weight: 100 * (i + 1) });
  const used = await got(contestant, ves, loops);
  const [sum, weights] = [used.reduce((a, b) => a + b, 0), (ves.length * (ves.length + 1)) / 2];
  const worst = Math.max(...used.map((one, i) => Math.abs(one / sum / ((i + 1) / weights) - 1)));
  samples.add(`weights 1:2:..., ${ves.length} VEs, ${loops} loops in each: deviation, %`, contestant.name, worst * 100);
}

async function hold(contestant: Contestant, ve: string, limit: number): Promise<void> {
  await contestant.limit(ve, { cpu: limit });
  const [used] = await got(contestant, [ve], 4);
  samples.add(`limit ${limit} %: deviation, %`, contestant.name, Math.abs(used! / (limit / 100) - 1) * 100);
}

const titles = await together(names, 'boot', run, async (contestants) => {
  const most = Math.max(...crowds, 0);
  for (const contestant of contestants) {
    // Limits have a VE of their own.
    for (let i = 0; i <= most; i++) {
      run.signal.throwIfAborted();
      await runCommands(contestant.commands.deploy(nameOf(contestant, i)), contestant.env);
      await untilRunning(contestant, nameOf(contestant, i));
    }
    run.say(`${contestant.name}: ${most + 1} VEs run`);
  }
  const works: ((contestant: Contestant) => Promise<void>)[] = [
    ...crowds.flatMap((count) => list(values.loops).map((loops) => (contestant: Contestant) => weigh(contestant, Array.from({ length: count }, (_, i) => nameOf(contestant, i)), loops))),
    ...list(values.limits).map((limit) => (contestant: Contestant) => hold(contestant, nameOf(contestant, most), limit)),
  ];
  for (let round = 0; round < rounds; round++) {
    for (const work of works) {
      for (let turn = 0; turn < contestants.length; turn++) {
        run.signal.throwIfAborted();
        await work(contestants[(round + turn) % contestants.length]!);
      }
    }
    run.say(`round ${round + 1} of ${rounds}`);
  }
});

const [machine, bounds] = [machineNow(), judgeBounds(samples, BOUNDS)];
console.log([...setting(machine, titles), `${seconds} s for each figure`, '', figures(samples, names, 'median (min-max)'), '', boundsTable(bounds, names)].join('\n'));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, titles, rows: Object.fromEntries(samples.rows()), bounds }, null, 2)}\n`);
