/**
 * Measures Veld beside Incus and LXC: same machine, same run, same root file system with the same units, unprivileged all of them, in turns.
 *
 * Everything is made anew and removed again, also on Ctrl-C; packages and images of the peers stay until `bench/peers --remove`.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Contestant, ContestantName } from './contestants/types.ts';
import { judge } from './lib/aims.ts';
import { printed, type Report } from './lib/report.ts';
import { makeSamples } from './lib/samples.ts';
import { machineNow, startRun, together } from './lib/together.ts';
import { compareUnits, measureCrowd, measureMany, measureVerbs, type CrowdStep, type PhaseContext } from './phases.ts';

const USAGE = `usage: bench/run [--quick] [--only veld,incus,lxc] [--phases verbs,many,crowd] [--rounds N] [--many N] [--crowd N] [--json FILE]

  --quick     few rounds and VEs: under 5 minutes (all: under 25)
  --only      these alone; without Veld's peers nothing is installed
  --phases    verbs: the life of one VE; many: idle VEs of each (30); crowd: idle VEs of Veld alone (200), and what one more costs
  --json      write the figures to a file as well`;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false }, only: { type: 'string', default: 'veld,incus,lxc' }, phases: { type: 'string', default: 'verbs,many,crowd' },
    rounds: { type: 'string' }, many: { type: 'string' }, crowd: { type: 'string' }, json: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});
const { quick } = values;
const only = values.only.split(',') as ContestantName[];
const phases = values.phases.split(',');
const rounds = Number(values.rounds ?? (quick ? 4 : 20));
const many = Number(values.many ?? (quick ? 10 : 30));
const crowd = Number(values.crowd ?? (quick ? 30 : 200));
if (values.help || only.some((name) => !['veld', 'incus', 'lxc'].includes(name)) || phases.some((name) => !['verbs', 'many', 'crowd'].includes(name)) || [rounds, many, crowd].some((n) => !(n >= 1))) {
  console.error(USAGE);
  process.exit(values.help ? 0 : 2);
}
if (process.getuid?.() !== 0) {
  console.error('bench: must be run as root: it makes VEs on this machine');
  process.exit(1);
}

/** A slow machine gets fewer figures, not a longer run. */
const run = startRun((quick ? 4.5 : 23) * 60_000);
const minutes = (full: number, short: number): number => performance.now() + (quick ? short : full) * 60_000;
const samples = makeSamples();
let measured: readonly Contestant[] = [];
let units: Report['units'] = null;
let found: CrowdStep[] = [];
const titles = await together(only, 'cold', run, async (contestants, veld) => {
  measured = contestants;
  const context = (deadline: number): PhaseContext => ({ samples, contestants, ...run, deadline });
  units = await compareUnits(context(Infinity)); // and warms up
  if (phases.includes('verbs')) await measureVerbs(context(minutes(9, 2)), rounds);
  if (phases.includes('many')) await measureMany(context(minutes(5, 1)), many, quick ? 1 : 3);
  const steps = [1, Math.ceil(crowd / 4), crowd].filter((n, i, all) => n > (all[i - 1] ?? 0));
  if (phases.includes('crowd') && only.includes('veld')) found = await measureCrowd(context(minutes(9, 2)), veld, steps, quick ? 3 : 9, quick ? 1 : 3);
});

const report: Report = {
  machine: machineNow(), titles,
  units, rows: Object.fromEntries(samples.rows()), aims: judge(samples), crowd: found,
};
console.log(printed(report, samples, measured));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
run.say('done');
