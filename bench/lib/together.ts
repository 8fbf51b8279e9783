/** Veld and its peers on this machine for as long as something is measured: everything is made anew and removed again; packages and images of the peers stay until `bench/peers --remove`. */
import { spawn } from 'node:child_process';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { buildCache } from '../../test/lib/cache.ts';
import { identity, removeGuard, writeGuard } from '../../test/lib/guard.ts';
import { startInstance } from '../../test/lib/instance.ts';
import { sweepAll } from '../../test/lib/sweep.ts';
import { openIncus } from '../contestants/incus.ts';
import { openLxc } from '../contestants/lxc.ts';
import type { Contestant, ContestantName } from '../contestants/types.ts';
import type { Deploys, VeldContestant } from '../contestants/veld.ts';
import { openVeld } from '../contestants/veld.ts';
import type { Report } from './report.ts';

const ROOT = join(import.meta.dirname, '../..');
const PEERS_DIR = process.env.VELD_BENCH_DIR ?? '/var/tmp/veld-bench';
/** As bench/peers names it. */
const BRIDGE = 'vbench0';

export interface Run {
  say: (line: string) => void;
  signal: AbortSignal;
}

/** Names in a list with commas. @throws Error when one is nobody's */
export function namesIn(list: string): ContestantName[] {
  const names = list.split(',') as ContestantName[];
  if (names.some((name) => !['veld', 'incus', 'lxc'].includes(name))) throw new Error(`${list}: they are veld, incus and lxc`);
  return names;
}

/** Lines with the time since now to standard error; ended by signals, and when its time is over. @param time milliseconds; cleaning up comes on top */
export function startRun(time: number): Run {
  const abort = new AbortController();
  const begin = performance.now();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => abort.abort(new Error('interrupted')));
  setTimeout(() => abort.abort(new Error('out of time')), time).unref();
  return { say: (line) => console.error(`${((performance.now() - begin) / 1000).toFixed(0).padStart(5)} s  ${line}`), signal: abort.signal };
}

/** The machine, for a report. */
export function machineNow(): Report['machine'] {
  return { kernel: release(), cpus: cpus().length, memoryMb: Math.round(totalmem() / (1 << 20)), load: loadavg(), date: new Date().toISOString() };
}

/** A program of ours, in a session of its own: Ctrl-C at the terminal is for us alone. */
function ours(program: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'], detached: true });
    child.on('error', reject);
    child.on('exit', (code, signal) => (code === 0 ? resolve() : reject(new Error(`${program} ended with ${code ?? signal}`))));
  });
}

/**
 * Open the contestants, have them measured, and remove everything, however it ends; an error is said, and sets the exit status.
 * @returns the titles of those that were opened
 */
export async function together(only: readonly ContestantName[], deploys: Deploys, { say, signal }: Run, work: (measured: readonly Contestant[], veld: VeldContestant) => Promise<void>): Promise<Report['titles']> {
  const contestants: Contestant[] = [];
  const guard = writeGuard();
  process.env.VELD_TEST_OK = guard;
  const peers = only.some((name) => name !== 'veld');
  try {
    say('building the release bundle');
    await ours(process.execPath, [join(ROOT, 'node_modules/rolldown/bin/cli.mjs'), '-c', 'rolldown.config.ts']);
    await sweepAll();
    await buildCache(() => startInstance({ noTemplate: true }), say);
    // Also where Veld itself is not measured: the root file system is its template's.
    const veld = await openVeld(deploys);
    contestants.push(veld);
    if (peers) {
      say('starting the peers');
      await ours(join(ROOT, 'bench/peers'), []);
      signal.throwIfAborted();
      if (only.includes('incus')) contestants.push(openIncus(PEERS_DIR, BRIDGE, veld.rootfs));
      if (only.includes('lxc')) contestants.push(openLxc(PEERS_DIR, BRIDGE, veld.rootfs));
    }
    await work(contestants.filter(({ name }) => only.includes(name)), veld);
  } catch (error) {
    process.exitCode = 1;
    if (signal.aborted) say((signal.reason as Error).message);
    else console.error(error);
  } finally {
    say('cleaning up');
    for (const contestant of contestants) await contestant.close().catch((error: unknown) => console.error(error));
    await sweepAll(identity());
    removeGuard(guard);
    if (peers) await ours(join(ROOT, 'bench/peers'), ['--stop']).catch((error: unknown) => console.error(error));
  }
  return Object.fromEntries(contestants.filter(({ name }) => only.includes(name)).map(({ name, title }) => [name, title]));
}
