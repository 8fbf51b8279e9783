/** The resource capability on control groups of either version: see layout.ts for where, limits.ts for what is written. */
import { chownSync, existsSync, readdirSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { findHierarchies, freezeGroup, groupPids, hastenMoves, killGroup, makeGroup, readControl, readKey, removeGroup, thawGroup, writeControl } from '../kernel/cgroup.ts';
import type { CgroupHierarchies } from '../kernel/cgroup.ts';
import { VeldError } from '../lib/errors.ts';
import { MONITORS, chooseLayout, directoriesOf, groupsOf, makeGroups, setupBase } from './layout.ts';
import { LIMITS, limitFile, planLimits, writeLimits } from './limits.ts';
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

  const apply = (number: number, properties: Properties): void => {
    const found = existing(number);
    writeLimits(planLimits(found, properties));
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
    for (const directory of directoriesOf(groups(number))) await removeGroup(directory);
  };

  return {
    setup: () => { refusedControllers = setupBase(layout); },
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

    create(number, uidBase, properties) {
      // systemd removes a delegated group when its unit is stopped while nothing is in it; a start of the unit makes it anew, and bare. On a hybrid host
      // groups of v1 that the daemon had just made were seen to be gone a moment after the host's boot.
      if (!directoriesOf(groupsOf(layout, MONITORS)).every((directory) => existsSync(directory))) refusedControllers = setupBase(layout);
      const made = groups(number);
      makeGroups(made);
      if (readControl(made.unified, 'cgroup.freeze') === '1') writeControl(made.unified, 'cgroup.freeze', 0);
      writeControl(made.unified, 'cgroup.max.depth', MAX_DEPTH);
      writeControl(made.unified, 'cgroup.max.descendants', MAX_DESCENDANTS);
      delegate(made.unified, uidBase);
      apply(number, properties);
      hastenMoves(layout.hierarchies.unified as string, BOOT);
    },

    apply,

    support() {
      const answer: Record<string, true | string> = {};
      const monitors = groupsOf(layout, MONITORS); // has what a VE's group has
      for (const name of LIMITS) {
        const place = limitFile(monitors, name);
        const controller = name.split('.')[0] as string;
        answer[name] = typeof place !== 'string' ? true : refusedControllers[controller] ?? place;
      }
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
      // A delegated group and what is left in it go with its unit.
      if (layout.delegated) return;
      for (const directory of directoriesOf(groupsOf(layout, MONITORS))) await removeGroup(directory);
      for (const directory of directoriesOf(base)) await removeGroup(directory);
    },

    list,
  };
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
