/** Interface of the resource capability: the control groups of a VE and the limits in them. */
import type { Beancounter } from '../spec/beancounters/table.ts';
import type { Properties } from '../spec/types.ts';
import type { Elsewhere } from './beancounters/elsewhere.ts';

/** Where a VE's processes live, one directory per hierarchy. */
export interface VeGroups {
  /** The cgroup2 directory (on a hybrid host: in its unified hierarchy, without controllers). */
  unified: string;
  /** v1 directories by controller name (cpu, cpuset, memory, ...); empty on a pure v2 host. */
  v1: Record<string, string>;
  /** Path of the unified directory as processes of the host see it in /proc/PID/cgroup. */
  path: string;
}

export interface Usage {
  /** CPU time used, in seconds. */
  cpuSeconds: number;
  /** Bytes charged to the VE's memory group. */
  memoryBytes: number;
  /** Processes and threads. */
  tasks: number;
}

export interface ResourceManager {
  /** Make the instance's parent groups in every hierarchy (and the `monitors` group). Idempotent. */
  setup(): void;
  /** Make ready the programs that count and limit sockets, open files and file locks; why they cannot be had is told by `support`. */
  loadPrograms(): Promise<void>;
  groups(number: number): VeGroups;
  /** Group for conmon and its like, outside of every VE and of the daemon's own group. */
  monitorGroups(): VeGroups;
  /**
   * Directories into whose cgroup.procs a process that enters the VE from outside writes its pid, in this order. Makes the VE's group
   * `veld-exec` when it is missing: a group that hands controllers down takes no processes itself. Throws `ve.not_running`.
   */
  execGroups(number: number): string[];
  /**
   * Processes will soon enter groups of VEs: begin now what they would have to wait for. Costs next to nothing, promises nothing.
   * @param milliseconds for which they come; 0: one, soon
   */
  expectMoves(milliseconds?: number): void;
  /**
   * Make the VE's groups, apply the limits, delegate the cgroup2 directory to the VE's root (the four delegation files only). Idempotent.
   * @param restoring processes come back with sockets, files and locks that they had: none is refused before this is called once more without it, or `apply`
   */
  create(number: number, uidBase: number, properties: Properties, restoring?: boolean): void;
  /**
   * Apply limits to existing groups: all of them or none.
   * @param changed only the limits that belong together with these properties; default all
   * @param restoring as for {@link create}
   * @throws VeldError `property.unsupported` when the kernel cannot hold one, `property.invalid` for what the host has not, `property.not_live` when the VE holds more
   */
  apply(number: number, properties: Properties, changed?: readonly string[], restoring?: boolean): void;
  /**
   * See whether this host could hold such limits, those of sockets among them.
   * @param changed only the limits that belong together with these properties; default all
   * @throws VeldError `property.unsupported`, `property.invalid` for what it has not
   */
  check(properties: Properties, changed?: readonly string[]): void;
  /** Which properties this host can hold, and why not. */
  support(): Record<string, true | string>;
  usage(number: number): Usage | undefined;
  /** All rows. @param elsewhere what is known of the VE that its groups do not tell */
  beancounters(number: number, elsewhere: Omit<Elsewhere, 'sockets' | 'files' | 'flocks'>): Beancounter[];
  freeze(number: number): Promise<void>;
  thaw(number: number): Promise<void>;
  isFrozen(number: number): boolean;
  /** Pids (host's) in the VE's groups, nested ones included. */
  pids(number: number): number[];
  /** Kill every process of the VE (cgroup.kill) and wait until the group is empty. */
  kill(number: number): Promise<void>;
  /** Remove the VE's groups with all nested ones. The VE must be empty of processes. */
  remove(number: number): Promise<void>;
  /** Remove the instance's parent groups (tests, `--remove`). */
  teardown(): Promise<void>;
  /** Numbers of VEs that have groups. */
  list(): number[];
}
