/** What is measured: the verbs on one VE, many idle VEs beside each other, and a crowd of Veld's. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Contestant } from './contestants/types.ts';
import type { VeldContestant } from './contestants/veld.ts';
import { ROWS } from './lib/aims.ts';
import { runCommands } from './lib/commands.ts';
import { cpuTime, groupMemory, hostMemory, initOf, pidsOf, pss, rss } from './lib/processes.ts';
import { insideOf, untilRunning } from './lib/ready.ts';
import type { Samples } from './lib/samples.ts';

export interface PhaseContext {
  samples: Samples;
  contestants: readonly Contestant[];
  say: (line: string) => void;
  signal: AbortSignal;
  /** When a phase should come to its end, by performance.now(). */
  deadline: number;
}

const MB = 1 << 20;

/** Incus and LXC name their groups alike: names must differ. */
const nameOf = ({ name }: Contestant, ve: string): string => `${name}-${ve}`;

/** How often the short verbs are measured in each round. */
const SHORT = 5;

/** The life of one VE after the other, all contestants in turn; who begins changes with the round. */
export async function measureVerbs(context: PhaseContext, rounds: number): Promise<void> {
  const { contestants, say, signal } = context;
  for (let round = 0; round < rounds && performance.now() < context.deadline; round++) {
    for (let turn = 0; turn < contestants.length; turn++) {
      signal.throwIfAborted();
      const contestant = contestants[(round + turn) % contestants.length] as Contestant;
      await oneLife(context, contestant, nameOf(contestant, `r${round}`));
    }
    say(`round ${round + 1} of ${rounds}`);
  }
}

async function oneLife({ samples, signal }: PhaseContext, contestant: Contestant, ve: string): Promise<void> {
  const { name, commands, requests, env } = contestant;
  const command = async (row: string, list: Parameters<typeof runCommands>[0]): Promise<void> => {
    signal.throwIfAborted();
    samples.add(row, name, await runCommands(list, env));
  };
  const untilUp = async (row: string, work: () => Promise<unknown>): Promise<void> => {
    signal.throwIfAborted();
    await samples.timed(row, name, async () => {
      await work();
      await untilRunning(contestant, ve);
    });
  };
  await untilUp(ROWS.deploy, () => runCommands(commands.deploy(ve), env));
  for (let i = 0; i < SHORT; i++) {
    await command(ROWS.exec, commands.execTrue(ve));
    if (requests) await samples.timed(ROWS.execApi, name, () => requests.execTrue(ve));
  }
  await command(ROWS.limit, commands.limitMemory(ve));
  if (requests) await samples.timed(ROWS.limitApi, name, () => requests.limitMemory(ve));
  await command(ROWS.stop, commands.stop(ve));
  await untilUp(ROWS.start, () => runCommands(commands.start(ve), env));
  await command(ROWS.kill, commands.kill(ve));
  await command(ROWS.destroy, commands.destroy(ve));
  if (contestant.warm) await deployReady(samples, contestant.warm, `${ve}-warm`, ROWS.deployWarm, ROWS.deployWarmApi);
  if (contestant.spare) await deployReady(samples, contestant.spare, `${ve}-spare`, ROWS.deploySpare, ROWS.deploySpareApi);
  if (!requests) return;
  const other = `${ve}-api`;
  await samples.timed(ROWS.deployApi, name, async () => {
    await requests.deploy(other);
    await untilRunning(contestant, other);
  });
  await runCommands([...commands.kill(other), ...commands.destroy(other)], env);
}

/** A deploy without a boot has ended when all services run; that they do is looked at all the same. */
async function deployReady(samples: Samples, contestant: Contestant, ve: string, byCommand: string, byApi: string): Promise<void> {
  const { name, commands, requests, env } = contestant;
  const both: [string, () => Promise<unknown>][] = [[byCommand, () => runCommands(commands.deploy(ve), env)], [byApi, () => requests!.deploy(ve)]];
  for (const [row, work] of both) {
    await contestant.settle?.();
    await samples.timed(row, name, async () => {
      await work();
      await untilRunning(contestant, ve);
    });
    await runCommands([...commands.kill(ve), ...commands.destroy(ve)], env);
  }
}

/** Kinds of units that a root file system decides on; mounts and devices are the manager's. */
const UNITS = ['systemctl', 'list-units', '--plain', '--no-legend', '--state=active', '--type=service,socket,timer,path,target,slice'];

/** Active units of a fresh VE of each contestant, and what not all of them have. */
export async function compareUnits({ contestants }: PhaseContext): Promise<{ units: Record<string, string[]>; differences: string[] }> {
  const units: Record<string, string[]> = {};
  for (const contestant of contestants) {
    const ve = nameOf(contestant, 'units');
    await runCommands(contestant.commands.deploy(ve), contestant.env);
    await untilRunning(contestant, ve);
    const init = initOf(await contestant.group(ve));
    const lines = (await insideOf(init as number, UNITS)).trim().split('\n');
    units[contestant.name] = lines.map((line) => line.split(/\s+/)[0] as string).sort();
    await runCommands([...contestant.commands.kill(ve), ...contestant.commands.destroy(ve)], contestant.env);
  }
  const all = [...new Set(Object.values(units).flat())].sort();
  const differences = all.flatMap((unit) => {
    const without = Object.keys(units).filter((name) => !units[name]?.includes(unit));
    return without.length === 0 ? [] : [`${unit}: not in ${without.join(', ')}`];
  });
  return { units, differences };
}

/** Many idle VEs of each contestant at the same time: memory, lists, requests, and what the daemons do meanwhile. */
export async function measureMany(context: PhaseContext, count: number, seconds: number): Promise<void> {
  const { samples, contestants, say, signal, deadline } = context;
  const namesOf = (contestant: Contestant): string[] => Array.from({ length: count }, (_, i) => nameOf(contestant, `m${i}`));
  for (const contestant of contestants) {
    const names = namesOf(contestant);
    for (const ve of names) {
      signal.throwIfAborted();
      await runCommands(contestant.commands.deploy(ve), contestant.env);
    }
    for (const ve of names) await untilRunning(contestant, ve);
    say(`${count} of ${contestant.name} run`);
  }
  await sleep(5000, undefined, { signal }); // what systemd does after its boot
  for (const contestant of contestants) await measureMemory(context, contestant, namesOf(contestant));
  const throughput = async (contestant: Contestant): Promise<void> => {
    const { name, requests } = contestant;
    if (!requests) return;
    const begin = performance.now();
    let done = 0;
    while (performance.now() - begin < seconds * 1000) {
      samples.add(ROWS.statesBytes, name, await requests.states());
      done += 1;
    }
    samples.add(ROWS.statesApi, name, (done * 1000) / (performance.now() - begin));
  };
  for (let round = 0; round < 7 && performance.now() < deadline; round++) {
    for (const contestant of contestants) {
      signal.throwIfAborted();
      const { name, commands, requests, env } = contestant;
      for (let i = 0; i < 3; i++) samples.add(ROWS.list, name, await runCommands(commands.list(), env));
      samples.add(ROWS.execMany, name, await runCommands(commands.execTrue(nameOf(contestant, 'm0')), env));
      if (requests) for (const ve of namesOf(contestant)) await samples.timed(ROWS.stateApi, name, () => requests.state(ve));
      await throughput(contestant);
    }
  }
  for (const { name, daemon } of contestants) if (daemon) samples.add(ROWS.daemonRss, name, rss(daemon()) / MB);
  await measureIdle(context, contestants, ROWS.daemonCpu, seconds * 10);
  for (const contestant of contestants) {
    for (const ve of namesOf(contestant)) {
      await runCommands([...contestant.commands.kill(ve), ...contestant.commands.destroy(ve)], contestant.env);
    }
  }
}

async function measureMemory({ samples }: PhaseContext, contestant: Contestant, ves: readonly string[]): Promise<void> {
  const { name } = contestant;
  const groups = await Promise.all(ves.map((ve) => contestant.group(ve)));
  const processes = groups.map((group) => pidsOf(group));
  const monitors = contestant.monitors(ves);
  const monitor = pss(monitors) / ves.length;
  samples.add(ROWS.pssMonitor, name, monitor / MB);
  samples.add(ROWS.processes, name, (processes.flat().length + monitors.length) / ves.length);
  for (const [i, group] of groups.entries()) {
    samples.add(ROWS.pss, name, (pss(processes[i] as number[]) + monitor) / MB);
    samples.add(ROWS.groupMemory, name, groupMemory(group) / MB);
  }
}

/** CPU that daemons take while nobody asks them anything. */
async function measureIdle({ samples, signal }: PhaseContext, contestants: readonly Contestant[], row: string, seconds: number): Promise<void> {
  await sleep(2000, undefined, { signal });
  const daemons = contestants.flatMap(({ name, daemon }) => (daemon ? [{ name, pid: daemon() }] : []));
  const before = daemons.map(({ pid }) => cpuTime(pid));
  const begin = performance.now();
  await sleep(seconds * 1000, undefined, { signal });
  const elapsed = performance.now() - begin;
  for (const [i, { name, pid }] of daemons.entries()) samples.add(row, name, ((cpuTime(pid) - (before[i] as number)) / 1e6 / elapsed) * 100);
}

/** Rows of the crowd name how many VEs of Veld run beside. */
export const crowdRows = {
  create: (n: number): string => `create with ${n} running, API`,
  start: (n: number): string => `start with ${n} running, API`,
  running: (n: number): string => `start to running with ${n} running, API`,
  list: (n: number): string => `list with ${n} running, command`,
  states: (n: number): string => `state of all with ${n} running, API`,
  cpu: (n: number): string => `daemon with ${n} idle: % of one CPU`,
  rss: (n: number): string => `daemon with ${n} running: RSS, MB`,
};

export interface CrowdStep {
  running: number;
  tables: ReturnType<VeldContestant['tables']>;
  /** All of Veld on the host, in MB: VEs, monitors, daemon. */
  memory: { pss: number; groups: number; available: number };
}

/** Idle VEs of Veld up to `steps.at(-1)`: at each step what one more costs, and what the host's tables hold. */
export async function measureCrowd(context: PhaseContext, veld: VeldContestant, steps: readonly number[], repeat: number, seconds: number): Promise<CrowdStep[]> {
  const { samples, say, signal, deadline } = context;
  const running: string[] = [];
  const found: CrowdStep[] = [];
  const before = hostMemory('MemAvailable');
  for (const step of steps) {
    const more = Array.from({ length: step - running.length }, (_, i) => `c${running.length + i}`);
    for (let i = 0; i < more.length; i += 2) {
      signal.throwIfAborted();
      if (performance.now() > deadline) throw new Error(`no time left to have ${step} VEs`);
      await Promise.all(more.slice(i, i + 2).map((ve) => veld.requests.deploy(ve)));
    }
    for (const ve of more) await untilRunning(veld, ve);
    running.push(...more);
    await sleep(3000, undefined, { signal });
    for (let i = 0; i < repeat; i++) {
      signal.throwIfAborted();
      await samples.timed(crowdRows.create(step), 'veld', () => veld.create('one-more'));
      await samples.timed(crowdRows.running(step), 'veld', async () => {
        await samples.timed(crowdRows.start(step), 'veld', () => veld.start('one-more'));
        await untilRunning(veld, 'one-more');
      });
      await veld.destroy('one-more');
      samples.add(crowdRows.list(step), 'veld', await runCommands(veld.commands.list(), veld.env));
      await samples.timed(crowdRows.states(step), 'veld', () => veld.requests.states());
    }
    const groups = await Promise.all(running.map((ve) => veld.group(ve)));
    samples.add(crowdRows.rss(step), 'veld', rss(veld.daemon()) / MB);
    if (step === steps.at(-1)) await measureIdle(context, [veld], crowdRows.cpu(step), seconds * 10);
    found.push({
      running: step,
      tables: veld.tables(),
      memory: {
        pss: pss([...groups.flatMap((group) => pidsOf(group)), ...veld.monitors(running), veld.daemon()]) / MB,
        groups: groups.reduce((sum, group) => sum + groupMemory(group), 0) / MB,
        available: (before - hostMemory('MemAvailable')) / MB,
      },
    });
    say(`${step} of veld run`);
  }
  for (const ve of running) await veld.destroy(ve);
  return found;
}
