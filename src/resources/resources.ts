/** The resource capability on control groups of either version: see layout.ts for where, limits.ts for what is written. */
import { chownSync, existsSync, readdirSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { findHierarchies, freezeGroup, groupPids, hastenMoves, killGroup, makeGroup, readControl, readKey, removeGroup, thawGroup, writeControl } from '../kernel/cgroup.ts';
import type { CgroupHierarchies } from '../kernel/cgroup.ts';
import { diskOf, numaNodes, onlineCpus } from '../kernel/topology.ts';
import { VeldError } from '../lib/errors.ts';
import { readBeancounters } from './beancounters/read.ts';
import { createOwned, removeOwned, type OwnedCount } from './beancounters/owned.ts';
import { createSockets } from './beancounters/sockets.ts';
import { promiseUpwards } from './guarantee.ts';
import { weighUpwards } from './host-share.ts';
import { MONITORS, chooseLayout, directoriesOf, groupsOf, makeGroups, setupBase } from './layout.ts';
import { LIMITS, PROGRAM_LIMITS, type Host } from './control.ts';
import { cpu } from './cpu.ts';
import { limitFile, planLimits, writeLimits } from './limits.ts';
import { parseRanges } from '../spec/ranges.ts';
import type { Properties } from '../spec/types.ts';
import type { ResourceManager, Usage, VeGroups } from './types.ts';

/** What a VE may make below its group: bounds the kernel memory that it costs, and keeps the way down walkable for us. */
const MAX_DEPTH = 64;
const MAX_DESCENDANTS = 4096;

/** For how long after its groups were made a VE's processes go into them and their own ones quickly, in milliseconds: most of a boot. */
const BOOT = 1000;

/** How long processes may take to die, in milliseconds. */
const KILL_TIMEOUT = 10_000;

export interface ResourcesOptions {
  instance: string;
  /** Default `/run/veld`, or `/run/veld-INSTANCE`. */
  runDir?: string;
  /** Folder with the disks of the VEs: what lies there is what io limits speak of. */
  disks?: string;
  /** `host.cpuWeight` of the settings; default 1000. */
  hostWeight?: number;
  /** Replaced in tests. */
  hierarchies?: CgroupHierarchies;
}

/**
 * Make the manager. Looks at the mounts once; changes nothing before `setup`.
 * @throws VeldError `kernel.unsupported` when cgroup2 is not mounted
 */
export function createResources(options: ResourcesOptions): ResourceManager {
  const { instance } = options;
  const runDir = options.runDir ?? (instance === 'main' ? '/run/veld' : `/run/veld-${instance}`);
  const layout = chooseLayout(options.hierarchies ?? findHierarchies(), instance, runDir);
  const base = groupsOf(layout, '');
  let refusedControllers: Record<string, string> = {};

  const groups = (number: number): VeGroups => {
    if (!Number.isSafeInteger(number) || number < 1) throw new VeldError('internal', `${number} is not the number of a VE.`);
    return groupsOf(layout, String(number));
  };

  const existing = (number: number): VeGroups => {
    const found = groups(number);
    if (!existsSync(found.unified)) throw new VeldError('ve.not_running', `VE ${number} has no control group.`);
    return found;
  };

  const disk = options.disks === undefined ? 'nobody has said where the disks of VEs lie' : diskOf(options.disks);

  /** What cpuset files say of the CPUs of the VEs' groups, which may be less than the host has. */
  const cpusOf = (found: VeGroups): number[] => {
    const text = found.v1.cpuset === undefined ? readControl(found.unified, 'cpuset.cpus.effective') : readControl(found.v1.cpuset, 'cpuset.cpus');
    return parseRanges(text ?? '') ?? [];
  };

  /** @param number of the VE whose limits are planned */
  const hostFor = (number: number): Host => {
    const own = cpusOf(base);
    const cpus = own.length > 0 ? own : parseRanges(onlineCpus()) ?? [];
    const near = (text: string): number[] => (parseRanges(text) ?? []).filter((cpu) => cpus.includes(cpu));
    const nodes = new Map([...numaNodes()].map(([node, text]) => [node, near(text)]));
    let bound: Map<number, number> | undefined;
    return {
      cpus, nodes: nodes.size > 0 ? nodes : new Map([[0, cpus]]), disk,
      bound(cpu) {
        bound ??= countBound(list().filter((one) => one !== number).map((one) => cpusOf(groups(one))).filter((set) => set.length < cpus.length));
        return bound.get(cpu) ?? 0;
      },
    };
  };

  /** @param some whether a VE has a guarantee; else there may be one that it had, of which groups above still tell */
  const promise = (some: boolean): void => {
    if (some || (readControl(base.unified, 'memory.min') ?? '0') !== '0') promiseUpwards(base.unified, layout.hierarchies.unified as string);
  };

  /** `cpu.weight` of each VE that has groups. */
  const weights = new Map<number, number>();
  const weigh = (number: number, weight?: number): void => {
    if (weights.get(number) === weight) return;
    if (weight === undefined) weights.delete(number);
    else weights.set(number, weight);
    weighUpwards(base, Object.values(layout.hierarchies.v1).concat(layout.hierarchies.unified ?? []), weights.values(), options.hostWeight ?? 1000);
  };

  const sockets = createSockets(runDir);
  const files = createOwned('files', runDir);
  const locks = createOwned('locks', runDir);
  const counters = { sockets, files, locks };

  const apply = (number: number, properties: Properties, changed?: readonly string[], restoring = false): void => {
    const found = existing(number);
    writeLimits(planLimits(found, properties, hostFor(number), readControl, changed));
    promise(properties['memory.guarantee'] > 0);
    if (changed?.some((name) => (cpu.names as readonly string[]).includes(name)) !== false) weigh(number, properties['cpu.weight']);
    const meant = (what: keyof typeof counters): boolean => changed?.some((name) => (PROGRAM_LIMITS[what] as readonly string[]).includes(name)) !== false;
    if (meant('sockets')) sockets.apply(found.unified, { tcp: properties['ubc.numtcpsock']?.limit ?? null, other: properties['ubc.numothersock']?.limit ?? null }, restoring);
    if (meant('files')) files.apply(found.unified, properties['ubc.numfile'], restoring);
    if (meant('locks')) locks.apply(found.unified, properties['ubc.numflock'], restoring);
  };

  const list = (): number[] => {
    const numbers = new Set<number>();
    for (const directory of directoriesOf(base)) {
      if (!existsSync(directory)) continue;
      for (const name of readdirSync(directory)) if (/^[1-9]\d*$/.test(name)) numbers.add(Number(name));
    }
    return [...numbers].sort((a, b) => a - b);
  };

  const remove = async (number: number): Promise<void> => {
    const found = groups(number);
    if (existsSync(found.unified)) for (const counter of Object.values(counters)) counter.forget(found.unified);
    for (const directory of directoriesOf(found)) await removeGroup(directory);
    promise(false);
    weigh(number);
  };

  return {
    setup: () => { refusedControllers = setupBase(layout); },
    async loadPrograms() {
      const running = list().map((number) => groups(number).unified).filter((group) => existsSync(group));
      await Promise.all([sockets.load(), files.load(running).then(() => locks.load(running))]);
    },
    groups,
    monitorGroups: () => groupsOf(layout, MONITORS),

    expectMoves: (milliseconds) => hastenMoves(layout.hierarchies.unified as string, milliseconds),

    execGroups(number) {
      const { unified, v1 } = existing(number);
      const uid = statSync(unified).uid;
      // The VE's root may have made a tree of groups of our child; then the next name is tried.
      for (const name of ['veld-exec', 'veld-exec-2', 'veld-exec-3']) {
        const child = `${unified}/${name}`;
        if (!existsSync(child)) {
          makeGroup(child);
          delegate(child, uid);
        }
        if (readControl(child, 'cgroup.type') === 'domain' && !readControl(child, 'cgroup.subtree_control')) return [child, ...new Set(Object.values(v1))];
      }
      throw new VeldError('exec.failed', `VE ${number} lets no process into its control group.`,
        { hint: 'Remove its groups veld-exec* from inside, and any threaded group at the top.' });
    },

    create(number, uidBase, properties, restoring) {
      // systemd removes a delegated group when its unit is stopped while nothing is in it; a start of the unit makes it anew, and bare. On a hybrid host
      // groups of v1 that the daemon had just made were seen to be gone a moment after the host's boot.
      if (!directoriesOf(groupsOf(layout, MONITORS)).every((directory) => existsSync(directory))) refusedControllers = setupBase(layout);
      const made = groups(number);
      makeGroups(made);
      if (readControl(made.unified, 'cgroup.freeze') === '1') writeControl(made.unified, 'cgroup.freeze', 0);
      writeControl(made.unified, 'cgroup.max.depth', MAX_DEPTH);
      writeControl(made.unified, 'cgroup.max.descendants', MAX_DESCENDANTS);
      delegate(made.unified, uidBase);
      apply(number, properties, undefined, restoring);
      hastenMoves(layout.hierarchies.unified as string, BOOT);
    },

    apply,

    check(properties, changed) {
      const monitors = groupsOf(layout, MONITORS); // has what a VE's group has
      if (existsSync(monitors.unified)) planLimits(monitors, properties, hostFor(0), readControl, changed);
      for (const [what, names] of entriesOf(PROGRAM_LIMITS)) {
        const held = counters[what].support();
        const asked = names.find((name) => (changed?.includes(name) ?? true) && properties[name] !== null);
        if (asked !== undefined && held !== true) throw new VeldError('property.unsupported', `${asked} cannot be held on this host: ${held}.`, { details: { property: asked } });
      }
    },

    support() {
      const answer: Record<string, true | string> = {};
      const monitors = groupsOf(layout, MONITORS); // has what a VE's group has
      for (const name of LIMITS) {
        const place = limitFile(monitors, name, { disk });
        answer[name] = typeof place !== 'string' ? true : refusedControllers[CONTROLLER_OF[name] ?? name.split('.')[0]!] ?? place;
      }
      for (const [what, names] of entriesOf(PROGRAM_LIMITS)) for (const name of names) answer[name] = counters[what].support();
      return answer;
    },

    usage(number): Usage | undefined {
      const { unified, v1 } = groups(number);
      const nanoseconds = v1.cpuacct === undefined ? undefined : readControl(v1.cpuacct, 'cpuacct.usage');
      const cpuSeconds = nanoseconds === undefined ? (readKey(unified, 'cpu.stat', 'usage_usec') ?? Number.NaN) / 1e6 : Number(nanoseconds) / 1e9;
      if (Number.isNaN(cpuSeconds)) return undefined;
      const memory = v1.memory === undefined ? readControl(unified, 'memory.current') : readControl(v1.memory, 'memory.usage_in_bytes');
      const tasks = readControl(v1.pids ?? unified, 'pids.current');
      return { cpuSeconds, memoryBytes: Number(memory ?? 0), tasks: tasks === undefined ? groupPids(unified).length : Number(tasks) };
    },

    beancounters(number, elsewhere) {
      const found = existing(number);
      const owned = (counter: typeof files): OwnedCount | string => counter.read(found.unified) ?? (typeof counter.support() === 'string' ? counter.support() as string : STARTED_BEFORE);
      return readBeancounters(found, { ...elsewhere, sockets: sockets.read(found.unified), files: owned(files), flocks: owned(locks) });
    },

    freeze: async (number) => freezeGroup(existing(number).unified),
    thaw: async (number) => thawGroup(existing(number).unified),
    isFrozen: (number) => readKey(groups(number).unified, 'cgroup.events', 'frozen') === 1,
    pids: (number) => allPids(groups(number)),

    async kill(number) {
      const found = groups(number);
      // A v1 freezer, unlike cgroup2's, holds back even SIGKILL; a dump that broke off may have left it frozen.
      const freezer = found.v1.freezer;
      if (freezer !== undefined && (readControl(freezer, 'freezer.state') ?? 'THAWED') !== 'THAWED') writeControl(freezer, 'freezer.state', 'THAWED');
      const end = performance.now() + KILL_TIMEOUT;
      for (let pids: number[] = []; ; ) {
        if (existsSync(found.unified)) await killGroup(found.unified, Math.max(1, end - performance.now()));
        pids = allPids(found);
        if (pids.length === 0) return;
        // These stand in a v1 group only: the wrapper that was to enter all groups has been cut short.
        if (performance.now() > end) throw new VeldError('timeout', `Processes of VE ${number} do not end: ${pids.slice(0, 5).join(', ')}.`, { details: { pids } });
        for (const pid of pids) killProcess(pid);
        await sleep(2);
      }
    },

    remove,

    async teardown() {
      for (const number of list()) await remove(number);
      for (const counter of Object.values(counters)) counter.close();
      removeOwned(runDir);
      // A delegated group and what is left in it go with its unit.
      if (layout.delegated) return;
      for (const directory of directoriesOf(groupsOf(layout, MONITORS))) await removeGroup(directory);
      for (const directory of directoriesOf(base)) await removeGroup(directory);
    },

    list,
  };
}

/** Controllers whose name is not the first word of the property's. */
const CONTROLLER_OF: Readonly<Record<string, string>> = { 'cpu.count': 'cpuset', 'cpu.mask': 'cpuset', 'cpu.nodes': 'cpuset' };

/** Why something is not counted that could be. */
const STARTED_BEFORE = 'this VE ran already when counting began';

function entriesOf<T extends object>(object: T): [keyof T, T[keyof T]][] {
  return Object.entries(object) as [keyof T, T[keyof T]][];
}

/** @returns how many of these sets have each CPU */
function countBound(sets: readonly (readonly number[])[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const cpu of sets.flat()) counts.set(cpu, (counts.get(cpu) ?? 0) + 1);
  return counts;
}

/** Give a group to the VE's root: these four and never more, or the VE could edit its limits. */
function delegate(group: string, uid: number): void {
  for (const name of ['', '/cgroup.procs', '/cgroup.subtree_control', '/cgroup.threads']) chownSync(group + name, uid, uid);
}

function allPids(groups: VeGroups): number[] {
  return [...new Set(directoriesOf(groups).flatMap((directory) => groupPids(directory)))].sort((a, b) => a - b);
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
