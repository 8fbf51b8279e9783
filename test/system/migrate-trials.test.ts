/**
 * Whatever is done to two nodes in whatever phase of a migration: the VE runs on one of them, goes on where it was, and nothing is left. Many trials, one after the other, of all phases and
 * faults in random order, judged by those who know nothing of Veld (sequence.ts) and by what is on the host (leftovers.ts).
 *
 *   VELD_TEST_TRIALS=200 VELD_TEST_FULL=1 ./check system migrate-trials     all of them, for an hour; VELD_TEST_SEED repeats the order,
 *                                                                         VELD_TEST_FAULTS='kill,grant cut' names some, VELD_TEST_TRIALS_LOG a file that tells how it goes
 */
import assert from 'node:assert/strict';
import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError } from '../lib/http.ts';
import { processesOf } from '../lib/leftovers.ts';
import { poolsOf } from '../lib/names.ts';
import { randomFrom, SEED } from '../lib/random.ts';
import { countIn, type Sequence } from '../lib/sequence.ts';
import { makeTwoNodes, startNode, type RelayedNode, type TwoNodes } from '../lib/two-nodes.ts';
import { until } from '../lib/wait.ts';
import { stopped } from '../lib/wire.ts';

/** Points at the source (s) or the target (t) at which a phase is hit. */
const PHASES = {
  offer: ['s:migrate.offer', 't:phase:migrate-in.arrive'],
  disk: ['s:migrate.disk', 't:migrate-in.disk'],
  pause: ['s:phase:migrate.suspend'],
  'last round': ['s:migrate.paused'],
  state: ['s:migrate.state', 't:migrate-in.state', 't:resume.folder'],
  prepared: ['t:migrate-in.prepared'],
  grant: ['s:migrate.granted', 't:migrate-in.grant'],
  owned: ['t:migrate-in.owned', 's:migrate.answered'],
  arrived: ['t:migrate-in.arrived'],
  departed: ['s:migrate.departed'],
} as const satisfies Record<string, readonly string[]>;
type Phase = keyof typeof PHASES;
const ALL = Object.keys(PHASES) as Phase[];

interface Trial {
  from: RelayedNode;
  to: RelayedNode;
  random: () => number;
  /** Settles when the migration has ended, as far as the source can tell. */
  moving: Promise<string>;
  /** Set when the fault came too late to do anything. */
  missed?: boolean;
}

interface Fault {
  phases: readonly Phase[];
  /** Do it. @returns what undoes it when the migration has ended */
  strike(trial: Trial): Promise<(() => unknown) | void>;
  /** Whether the VE may be left suspended, for somebody to resume it: it was its processes that were hit. */
  suspends?: boolean;
}

/** criu at work on a VE of a node, and not those that it makes: they are the VE's. */
const criuOf = (node: RelayedNode): number[] => processesOf(node.veld.name).flatMap(({ pid }) => (pid !== undefined && nameOf(pid) === 'criu' && nameOf(parentOf(pid)) !== 'criu' ? [pid] : []));
const statusOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return '';
  }
};
const nameOf = (pid: number): string | undefined => /^Name:\t(.*)$/m.exec(statusOf(pid))?.[1];
const parentOf = (pid: number): number => Number(/^PPid:\t(\d+)$/m.exec(statusOf(pid))?.[1] ?? 0);
const killCriu = async (node: RelayedNode, trial: Trial): Promise<void> => {
  const { moving, random } = trial;
  let ended = false;
  void moving.then(() => { ended = true; });
  const found = await until('criu', () => {
    const pids = criuOf(node);
    return pids.length > 0 ? pids : ended ? [] : undefined;
  }, 60_000, 5);
  await sleep(random() * 60);
  const pids = found.length > 0 ? criuOf(node) : [];
  trial.missed = pids.length === 0;
  for (const pid of pids) process.kill(pid, 'SIGKILL');
};
const cutFor = async ({ from, to }: Trial, time: number): Promise<() => unknown> => {
  const mend = (): void => { for (const { relay } of [from, to]) relay.mend(); };
  for (const { relay } of [from, to]) relay.cut();
  if (time === Infinity) return mend;
  const mended = sleep(time).then(mend);
  return () => mended;
};
const kill = async (node: RelayedNode, back: () => Promise<unknown>): Promise<() => unknown> => {
  await node.veld.kill9();
  const again = back().then(() => startNode(node));
  again.catch(() => {}); // whoever waits hears of it
  return () => again;
};

const FAULTS: Record<string, Fault> = {
  'kill source': { phases: ALL, strike: ({ from, random }) => kill(from, () => sleep(random() * 2000)) },
  'kill target': { phases: ALL, strike: ({ to, random }) => kill(to, () => sleep(random() * 2000)) },
  'target gone': { phases: ALL, strike: ({ to, moving }) => kill(to, () => moving) },
  'kill criu here': { phases: ['disk', 'pause'], strike: async (trial) => { await killCriu(trial.from, trial); } },
  'kill criu there': { phases: ['last round', 'state', 'prepared', 'grant', 'owned'], strike: async (trial) => { await killCriu(trial.to, trial); }, suspends: true },
  'cut 1 s': { phases: ALL, strike: (trial) => cutFor(trial, 1000) },
  'cut 30 s': { phases: ALL, strike: (trial) => cutFor(trial, 30_000) },
  'cut for good': { phases: ALL, strike: (trial) => cutFor(trial, Infinity) },
  'disk full there': { phases: ALL, strike: async ({ to }) => {
    await to.fillDisk();
    return () => to.freeDisk();
  }, suspends: true },
  // Those that are back cannot be made to have less by all kernels, and what they do without memory is not the protocol's.
  'no memory there': { phases: ['offer', 'disk', 'pause', 'last round', 'state'], strike: async ({ to }) => {
    to.starve();
    return () => to.feed();
  }, suspends: true },
  'a byte changed': { phases: ALL, strike: async (trial) => {
    trial.to.relay.flip(trial.random());
    return () => { trial.missed = trial.to.relay.flip(); };
  } },
};
const WANTED = process.env.VELD_TEST_FAULTS?.split(',');

/** All pairs in random order, again and again. */
function* deck(random: () => number, ownDisks: boolean): Generator<[Phase, string]> {
  for (;;) {
    const pairs = Object.entries(FAULTS).filter(([fault]) => ownDisks || fault !== 'disk full there')
      .flatMap(([fault, { phases }]) => phases.map((phase): [Phase, string] => [phase, fault])).filter((pair) => WANTED?.some((word) => pair.join(' ').includes(word)) ?? true);
    if (pairs.length === 0) throw new Error('no such faults');
    while (pairs.length > 0) yield pairs.splice(Math.floor(random() * pairs.length), 1)[0]!;
  }
}

/** Everything of a node that is on the host, the same whatever number the VE has. (Sums of traffic are written every few minutes: the node that has the VE may have them.) */
function remains({ veld }: RelayedNode, role: 'home' | 'other'): string[] {
  const folder = (path: string): string[] => (existsSync(path) ? readdirSync(path).map((entry) => `${path.slice(veld.dir.length + 1)}/${entry}`) : []);
  const { stateDir, runDir } = veld.settings;
  const files = ['', 'ves', 'layers', 'volumes', 'incoming', 'states', 'trash', ...(role === 'other' ? ['traffic'] : [])].flatMap((each) => folder(join(stateDir, each))).filter((path) => !/filler$|\/(incoming|trash|states|traffic)$/.test(path));
  return [...veld.outline(), ...files, ...folder(runDir), ...folder(join(runDir, 'ves'))].map((line) => line.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'UUID').replaceAll(/\d+/g, '#')).sort();
}

const LOG = process.env.VELD_TEST_TRIALS_LOG;
const TRIALS = Number(process.env.VELD_TEST_TRIALS ?? 40);

test(`${TRIALS} trials of migrations to which something happens`, { skip: process.env.VELD_TEST_FULL === undefined && 'in ./check full' }, async (t) => {
  const say = (line: string): void => {
    t.diagnostic(`| ${line}`);
    if (LOG !== undefined) appendFileSync(LOG, `${line}\n`);
  };
  say(`VELD_TEST_SEED=${SEED}`);
  const nodes = await makeTwoNodes();
  after(() => nodes.destroy());
  const { a, b, ownDisks } = nodes;
  if (!ownDisks) say('disks are not filled: no XFS can be mounted here');
  // Of neither node's pool: a daemon that begins anew does not want to see an address of its own behind a link of another's.
  const [, second, third] = poolsOf(a.veld.name)[0].split('.');
  await a.veld.createRunning('web', { 'network.addresses': `198.18.${third}.${second}` });
  const sequence = await countIn(a.veld, 'web');
  after(() => sequence.end());
  await sequence.goesOn(30_000);
  const baseline: Baseline = new Map();
  for (const [from, to] of [[a, b], [b, a]] as const) {
    assert.equal(await wordOf(from.veld.api.operate('POST', '/v1/ves/web/migrate', { node: to.name })), 'moved');
    await sequence.goesOn(30_000);
    await sleep(3000); // what was its group goes a little later
    baseline.set(from, { ...baseline.get(from)!, other: remains(from, 'other') });
    baseline.set(to, { ...baseline.get(to)!, home: remains(to, 'home') });
  }
  const random = randomFrom(SEED);
  const table = new Map<string, number>();
  const violations: string[] = [];
  const pairs = deck(random, ownDisks);
  let number = 0;
  for (const [phase, fault] of pairs) {
    const began = performance.now();
    const points = PHASES[phase];
    const point = points[Math.floor(random() * points.length)]!;
    let outcome: string;
    try {
      outcome = await tryOne(nodes, sequence, baseline, { fault: FAULTS[fault]!, point, random });
    } catch (error) {
      const { message, cause } = error as Error;
      outcome = 'VIOLATION';
      violations.push([`${number} ${phase} (${point}) x ${fault}: ${message}`, (cause as Error | undefined)?.message, sequence.wrong()].filter((part) => part !== undefined).join(' / '));
    }
    const row = `${phase} | ${fault} | ${outcome}`;
    table.set(row, (table.get(row) ?? 0) + 1);
    say(`${number}: ${point} | ${row} | ${((performance.now() - began) / 1000).toFixed(1)} s, longest silence ${Math.round(sequence.longest())} ms, at ${sequence.last()}`);
    if (outcome === 'VIOLATION') {
      say(`${violations.at(-1)}`);
      await heal(nodes);
      if (sequence.wrong() !== undefined) break; // it will say so for ever
    }
    number += 1;
    if (number >= TRIALS) break;
  }
  say(`${sequence.datagrams()} datagrams for ${sequence.last()} numbers`);
  const order = [...table].sort(([one], [other]) => ALL.indexOf(one.split(' | ')[0] as Phase) - ALL.indexOf(other.split(' | ')[0] as Phase) || one.localeCompare(other));
  for (const [row, count] of order) say(`${row} | ${count}`);
  assert.ok(sequence.datagrams() > sequence.last() / 2, 'those who look for two VEs have heard of one');
  assert.deepEqual(violations, []);
});

/** What of a node is on the host: when the VE is there, and when it is not. */
type Baseline = Map<RelayedNode, { home: string[]; other: string[] }>;

/** How a migration ends, said in a word. */
const wordOf = (moving: Promise<unknown>): Promise<string> => moving.then(() => 'moved', (error: Error) => (error instanceof ApiError ? error.code : 'its daemon died'));

/** One migration with one fault. @returns how it has ended @throws Error for what must never be */
async function tryOne(nodes: TwoNodes, sequence: Sequence, baseline: Baseline, { fault, point, random }: { fault: Fault; point: string; random: () => number }): Promise<string> {
  const { a, b } = nodes;
  const at = (node: RelayedNode): boolean => sequence.processes().some(({ group }) => group.includes(node.veld.name));
  const [from, to] = at(a) ? [a, b] : [b, a];
  const struck = point.startsWith('s:') ? from : to;
  struck.stopAt(point.slice(2));
  const moving = wordOf(from.veld.api.operate('POST', '/v1/ves/web/migrate', { node: to.name }));
  const early = moving.then((word) => { throw new Error(`the migration ended (${word}) before ${point}`); });
  early.catch(() => {}); // it will end some time
  const pid = struck.veld.pid!;
  await Promise.race([stopped(pid), early]);
  const goOn = (): void => { if (struck.veld.pid === pid) process.kill(pid, 'SIGCONT'); };
  // In the very moment, or some time after it.
  const jitter = random() < 0.5 ? 0 : random() * 80;
  if (jitter > 0) {
    goOn();
    await sleep(jitter);
  }
  const trial: Trial = { from, to, random, moving };
  const striking = fault.strike(trial);
  if (jitter === 0) await Promise.race([striking, sleep(20)]);
  goOn();
  const undo = await striking;
  let word = await moving;
  let state = '';
  if (word === 'migration.undecided') {
    const { status } = await from.veld.show('web');
    if (status !== 'suspended' || at(from)) throw new Error(`undecided, and ${status}`);
    state = ', undecided first';
    word = '';
  }
  await undo?.();
  if (trial.missed === true) state += ', and the fault came too late';
  for (const { relay } of [from, to]) relay.mend();
  state += await settle(nodes, fault);
  const home = at(a) ? a : b;
  const other = home === a ? b : a;
  await sequence.goesOn(120_000);
  await until('nothing to be left of it', () => {
    for (const [node, role] of [[other, 'other'], [home, 'home']] as const) {
      const [found, expected] = [remains(node, role), baseline.get(node)![role]];
      const differs = [...found.filter((line) => !expected.includes(line)).map((line) => `+${line}`), ...expected.filter((line) => !found.includes(line)).map((line) => `-${line}`)];
      if (differs.length > 0 || found.length !== expected.length) throw new Error(`${node.name}, which is ${role}: ${differs.join(' ') || 'other numbers of the same'}`);
    }
    return true;
  }, 60_000, 500);
  if (word === 'moved' && home === from) throw new Error('it was said to have moved, and is where it was');
  return `${home === to ? 'has moved' : 'stays'}${state}${word === 'moved' || word === '' ? '' : ` (${word})`}`;
}

/** Wait until one node alone has it, and it runs there. */
async function settle({ a, b }: TwoNodes, { suspends = false }: Fault): Promise<string> {
  let since: number | undefined;
  let state = '';
  await until('the VE to run on one node', async () => {
    const found = (await Promise.all([a, b].map(async (node) => (await node.veld.list()).map(({ status }) => ({ node, status }))))).flat();
    const [one, ...more] = found;
    if (!one || more.length > 0) return false;
    if (one.status === 'running') return true;
    since = one.status === 'suspended' ? since ?? performance.now() : undefined;
    // For long, and nobody is at it.
    if (since !== undefined && performance.now() - since > 20_000) {
      if (!suspends) throw new Error(`it stays suspended at ${one.node.name}`);
      await one.node.veld.api.operate('POST', '/v1/ves/web/resume');
      state = ', suspended and resumed by hand';
    }
    return false;
  }, 120_000, 100);
  return state;
}

/** After what must never be: go on with what can be had. */
async function heal({ a, b }: TwoNodes): Promise<void> {
  for (const node of [a, b]) {
    node.relay.mend();
    node.stopAt();
    node.freeDisk();
    node.feed();
    if (node.veld.pid !== undefined) process.kill(node.veld.pid, 'SIGCONT');
    await node.veld.stop();
    await startNode(node);
  }
  await settle({ a, b } as TwoNodes, { phases: [], strike: async () => {}, suspends: true }).catch(() => {});
}
