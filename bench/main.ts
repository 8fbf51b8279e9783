/**
 * Measures Veld beside Incus and LXC: same machine, same run, same root file system with the same units, unprivileged all of them, in turns.
 *
 * Everything is made anew and removed again, also on Ctrl-C; packages and images of the peers stay until `bench/peers --remove`.
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildCache } from '../test/lib/cache.ts';
import { identity, removeGuard, writeGuard } from '../test/lib/guard.ts';
import { startInstance } from '../test/lib/instance.ts';
import { sweepAll } from '../test/lib/sweep.ts';
import { openIncus } from './contestants/incus.ts';
import { openLxc } from './contestants/lxc.ts';
import type { Contestant, ContestantName } from './contestants/types.ts';
import { openVeld } from './contestants/veld.ts';
import { judge } from './lib/aims.ts';
import { printed, type Report } from './lib/report.ts';
import { makeSamples } from './lib/samples.ts';
import { compareUnits, measureCrowd, measureMany, measureVerbs, type CrowdStep, type PhaseContext } from './phases.ts';

const ROOT = join(import.meta.dirname, '..');
const PEERS_DIR = process.env.VELD_BENCH_DIR ?? '/var/tmp/veld-bench';
/** As bench/peers names it. */
const BRIDGE = 'vbench0';

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

const abort = new AbortController();
const begin = performance.now();
const say = (line: string): void => console.error(`${((performance.now() - begin) / 1000).toFixed(0).padStart(5)} s  ${line}`);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => abort.abort(new Error('interrupted')));
/** A slow machine gets fewer figures, not a longer run; cleaning up comes on top. */
setTimeout(() => abort.abort(new Error('out of time')), (quick ? 4.5 : 23) * 60_000).unref();

/** A program of ours, in a session of its own: Ctrl-C at the terminal is for us alone. */
function ours(program: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'], detached: true });
    child.on('error', reject);
    child.on('exit', (code, signal) => (code === 0 ? resolve() : reject(new Error(`${program} ended with ${code ?? signal}`))));
  });
}

const minutes = (full: number, short: number): number => performance.now() + (quick ? short : full) * 60_000;
const samples = makeSamples();
const contestants: Contestant[] = [];
const guard = writeGuard();
process.env.VELD_TEST_OK = guard;
let units: Report['units'] = null;
let found: CrowdStep[] = [];
try {
  say('building the release bundle');
  await ours(process.execPath, [join(ROOT, 'node_modules/rolldown/bin/cli.mjs'), '-c', 'rolldown.config.ts']);
  await sweepAll();
  await buildCache(() => startInstance({ noTemplate: true }), say);
  // Also where Veld itself is not measured: the root file system is its template's.
  const veld = await openVeld();
  contestants.push(veld);
  if (only.some((name) => name !== 'veld')) {
    say('starting the peers');
    await ours(join(ROOT, 'bench/peers'), []);
    abort.signal.throwIfAborted();
    if (only.includes('incus')) contestants.push(openIncus(PEERS_DIR, veld.rootfs));
    if (only.includes('lxc')) contestants.push(openLxc(PEERS_DIR, BRIDGE, veld.rootfs));
  }
  const measured = contestants.filter(({ name }) => only.includes(name));
  const context = (deadline: number): PhaseContext => ({ samples, contestants: measured, say, signal: abort.signal, deadline });
  units = await compareUnits(context(Infinity)); // and warms up
  if (phases.includes('verbs')) await measureVerbs(context(minutes(9, 2)), rounds);
  if (phases.includes('many')) await measureMany(context(minutes(5, 1)), many, quick ? 1 : 3);
  const steps = [1, Math.ceil(crowd / 4), crowd].filter((n, i, all) => n > (all[i - 1] ?? 0));
  if (phases.includes('crowd') && only.includes('veld')) found = await measureCrowd(context(minutes(9, 2)), veld, steps, quick ? 3 : 9, quick ? 1 : 3);
} catch (error) {
  process.exitCode = 1;
  if (abort.signal.aborted) say((abort.signal.reason as Error).message);
  else console.error(error);
} finally {
  say('cleaning up');
  for (const contestant of contestants) await contestant.close().catch((error: unknown) => console.error(error));
  await sweepAll(identity());
  removeGuard(guard);
  if (only.some((name) => name !== 'veld')) await ours(join(ROOT, 'bench/peers'), ['--stop']).catch((error: unknown) => console.error(error));
}

const report: Report = {
  machine: { kernel: release(), cpus: cpus().length, memoryMb: Math.round(totalmem() / (1 << 20)), load: loadavg(), date: new Date().toISOString() },
  titles: Object.fromEntries(contestants.map(({ name, title }) => [name, title])),
  units, rows: Object.fromEntries(samples.rows()), aims: judge(samples), crowd: found,
};
console.log(printed(report, samples, contestants.filter(({ name }) => only.includes(name))));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
say('done');
