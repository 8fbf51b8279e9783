/** Two VEs in a group that runs out of memory: whose processes are ended. The same on every kind of host. */
import assert from 'node:assert/strict';
import { PAGE, type Beancounters } from '../../src/spec/beancounters/table.ts';
import { until } from './wait.ts';

export interface OomBench {
  exec(ve: string, ...command: string[]): Promise<{ exitCode: number; stdout: string; stderr: string }>;
  set(ve: string, changes: Record<string, unknown>): Promise<void>;
  /** Limit the memory of the group above all VEs; null: no longer. Bytes. */
  limitAll(bytes: number | null): Promise<void>;
  /** All beancounters of a VE. */
  beancounters(ve: string): Promise<Beancounters>;
  /** `oom_score_adj` of the processes of a VE, of all of them. */
  scores(ve: string): Promise<number[]>;
  patience: number;
}

const MIB = 2 ** 20;
/** What one process of the first VE holds, and each of many of the second, in MiB: the former is by far the largest of all. */
const LARGE = 120, SMALL = 6;
/** Processes of the second: more than there is room for, and not when the large one is gone; in memory each has a MiB more than it holds. */
const COUNT = 35;
/** Besides what both use, in MiB. */
const ROOM = 170;

/** Holds so much, and says when it does. */
const HOLD = `open my $f, ">", "/run/held.new"; $m = "x" x (${LARGE} << 20); rename "/run/held.new", "/run/held"; sleep 6000`;
/** Begins so many that hold as much each, one after the other, and writes down which of them have been ended. */
const CROWD = `use POSIX ":sys_wait_h"; for (1 .. ${COUNT}) { if (!fork) { $m = "x" x (${SMALL} << 20); sleep 6000; exit } select undef, undef, undef, 0.02; lost() } sleep 1, lost() while 1;
sub lost { while ((my $p = waitpid(-1, WNOHANG)) > 0) { open my $f, ">>", "/run/lost"; print $f "$p $?\\n"; close $f } }`;

/**
 * The first VE has one large process, the second fills what is left with small ones.
 * @param how `within`: the large one is guaranteed to its VE; `less`: less is guaranteed to it than it has, and to the second one more than that has; `bare`: nothing is to anybody
 * @returns which VE has lost processes, and how many are left of the small ones
 */
export async function fill(bench: OomBench, first: string, second: string, how: 'within' | 'less' | 'bare'): Promise<{ first: boolean; second: boolean }> {
  const { exec, set, patience } = bench;
  const said = async (ve: string, script: string): Promise<string> => (await exec(ve, 'sh', '-c', script)).stdout.trim();
  await set(first, { 'memory.oom_guarantee': how === 'within' ? '300M' : how === 'less' ? '30M' : null });
  await set(second, { 'memory.oom_guarantee': how === 'less' ? '2G' : null });
  await said(first, `rm -f /run/held; systemctl reset-failed hold 2>/dev/null; systemd-run --quiet --unit=hold perl -e '${HOLD}'`);
  await until('the large process', async () => await said(first, '[ -e /run/held ] && echo yes') === 'yes', patience, 250);
  const over = (scores: readonly number[]): string => (scores.every((score) => score >= 898) ? 'over' : scores.every((score) => score >= 0 && score <= (how === 'bare' ? 800 : 101)) ? 'within' : scores.join(' '));
  const expected = { within: ['within', 'over'], less: ['over', 'within'], bare: ['within', 'within'] }[how].join();
  await until(`the order: ${expected}`, async () => [over(await bench.scores(first)), over(await bench.scores(second))].join() === expected, patience, 250);
  const used = async (ve: string): Promise<number> => (await bench.beancounters(ve)).rows.find(({ name }) => name === 'oomguarpages')!.held * PAGE;
  await bench.limitAll(await used(first) + await used(second) + ROOM * MIB);
  try {
    await said(second, `rm -f /run/lost; systemctl reset-failed crowd 2>/dev/null; systemd-run --quiet --unit=crowd perl -e '${CROWD}'`);
    // (On cgroup v2 systemd ends a unit of which the kernel has ended a process.)
    const is = (ve: string, unit: string): Promise<string> => said(ve, `systemctl is-active ${unit} || true`);
    const left = async (): Promise<{ first: boolean; second: boolean }> => ({
      first: ['failed', 'inactive'].includes(await is(first, 'hold')), second: ['failed', 'inactive'].includes(await is(second, 'crowd')) || await said(second, '[ ! -s /run/lost ] || echo yes') === 'yes',
    });
    return await until('somebody to be ended', async () => {
      const lost = await left();
      return lost.first || lost.second ? lost : undefined;
    }, patience, 500);
  } finally {
    await bench.limitAll(null);
    await said(second, 'systemctl stop crowd; systemctl reset-failed');
    await said(first, 'systemctl stop hold; systemctl reset-failed');
  }
}

/** Whoever uses more than is guaranteed to it is the one that loses processes, however small they are. */
export async function oomOrder(bench: OomBench, first: string, second: string): Promise<void> {
  assert.deepEqual(await fill(bench, first, second, 'within'), { first: false, second: true }, 'the large process is guaranteed to its VE');
  assert.equal((await fill(bench, first, second, 'less')).first, true, 'it has more than is guaranteed, and the other one has not');
  assert.equal((await fill(bench, first, second, 'bare')).first, true, 'where nothing is guaranteed the largest process goes');
}
