/** What of a host is promised to VEs by their limits, and what they use: what OpenVZ's vzcpucheck and vzmemcheck told. Arithmetic only. */

/** A VE, as far as it counts. */
export interface CapacityVe {
  name: string;
  running: boolean;
  cpuWeight: number;
  /** Percent of one CPU; null, here and below: no limit. */
  cpuPercent: number | null;
  memoryBytes: number | null;
  swapBytes: number | null;
  /** What it uses now; null: it does not run, or nobody has looked yet. Page cache apart. */
  used: { cpuPercent: number | null; memoryBytes: number | null; cacheBytes: number | null; swapBytes: number | null } | null;
}

export interface HostSize {
  cpus: number;
  memoryBytes: number;
  /** As MemAvailable of /proc/meminfo. */
  availableBytes: number;
  swapBytes: number;
  /** Of the file system that holds the VEs. */
  diskBytes: number;
  diskFreeBytes: number;
}

/** A resource of which limits promise something. */
export interface Promised {
  /** Of the host. */
  total: number;
  /** Sum of the limits of VEs that run. */
  promised: number;
  /** And of all that there are. */
  promisedToAll: number;
  /** `promised` of `total`: 1 is all of it. */
  ratio: number;
  /** VEs that run without a limit, which count for nothing above: each may take all that there is. */
  unlimited: number;
  /** By VEs, together; null: nobody has looked yet. */
  used: number | null;
}

export interface Capacity {
  /** Percent of one CPU. */
  cpu: Promised & { cpus: number };
  /** Bytes. `used`: without `cache`, which goes when there is need. */
  memory: Promised & { cache: number | null; available: number };
  /** Bytes of memory and swap together. */
  memoryAndSwap: Promised;
  /** Bytes. Nothing is promised of it: what VEs may take is not limited yet. */
  disk: { total: number; free: number };
  ves: (CapacityVe & {
    /** Of all weights of VEs that run: what it gets of the CPUs when all want everything; null when it does not run. */
    cpuShare: number | null;
  })[];
}

/** Add up. */
export function capacityOf(host: HostSize, ves: readonly CapacityVe[]): Capacity {
  const running = ves.filter((ve) => ve.running);
  const weights = running.reduce((sum, { cpuWeight }) => sum + cpuWeight, 0);
  const promised = (total: number, limit: (ve: CapacityVe) => number | null, used: (of: NonNullable<CapacityVe['used']>) => number | null): Promised => {
    const sum = (of: readonly CapacityVe[]): number => of.reduce((all, ve) => all + (limit(ve) ?? 0), 0);
    return {
      total, promised: sum(running), promisedToAll: sum(ves), ratio: total > 0 ? sum(running) / total : 0, unlimited: running.filter((ve) => limit(ve) === null).length, used: known(running, used),
    };
  };
  return {
    cpu: { cpus: host.cpus, ...promised(host.cpus * 100, ({ cpuPercent }) => cpuPercent, ({ cpuPercent }) => cpuPercent) },
    memory: { ...promised(host.memoryBytes, ({ memoryBytes }) => memoryBytes, ({ memoryBytes }) => memoryBytes), cache: known(running, ({ cacheBytes }) => cacheBytes), available: host.availableBytes },
    // Where the host has no swap, nobody can take any.
    memoryAndSwap: promised(host.memoryBytes + host.swapBytes, ({ memoryBytes, swapBytes }) => (memoryBytes === null || (swapBytes === null && host.swapBytes > 0) ? null : memoryBytes + (host.swapBytes > 0 ? swapBytes! : 0)),
      ({ memoryBytes, swapBytes }) => (memoryBytes === null || swapBytes === null ? null : memoryBytes + swapBytes)),
    disk: { total: host.diskBytes, free: host.diskFreeBytes },
    ves: ves.map((ve) => ({ ...ve, cpuShare: ve.running && weights > 0 ? ve.cpuWeight / weights : null })),
  };
}

/** A sum over those of which it is known; null when it is known of none, though there are some. */
function known(ves: readonly CapacityVe[], of: (used: NonNullable<CapacityVe['used']>) => number | null): number | null {
  const values = ves.map(({ used }) => (used === null ? null : of(used))).filter((value) => value !== null);
  return values.length === 0 && ves.length > 0 ? null : values.reduce((sum, value) => sum + value, 0);
}

/** Of a host's memory what may not be guaranteed to VEs: its kernel and its own programs live of it. */
const HOST_SHARE = 0.1;

/** What is to be done with promises of more than the host has. */
export interface Overcommit {
  /** How much of the host's memory may be promised: 1 is all of it. */
  ratio: number;
  action: 'refuse' | 'warn' | 'allow';
}

/** Whether a limit would promise more memory than shall be promised. */
export interface Verdict {
  exceeded: boolean;
  /** With it, bytes. */
  promised: number;
  /** At most, bytes. */
  allowed: number;
}

/**
 * Judge a VE's memory limit. One that has none promises nothing that could be counted.
 * @param total memory of the host, bytes @param others limits of the other VEs that run
 * @param before its limit until now, where it ran: whoever takes less than before is never in the way
 */
export function judgeMemory(total: number, others: readonly (number | null)[], wanted: number | null, { ratio }: Pick<Overcommit, 'ratio'>, before?: number | null): Verdict {
  const promised = others.reduce<number>((sum, limit) => sum + (limit ?? 0), 0) + (wanted ?? 0);
  const allowed = Math.floor(total * ratio);
  const grows = wanted !== null && (before === undefined || before === null || wanted > before);
  return { exceeded: grows && promised > allowed, promised, allowed };
}

/**
 * Judge a VE's guaranteed memory (`memory.guarantee`). The kernel takes nothing of what is guaranteed, so a host that guarantees all it has would end processes instead.
 * @param total memory of the host, bytes @param others guarantees of the other VEs that run @param before its guarantee until now, where it ran
 */
export function judgeGuarantee(total: number, others: readonly number[], wanted: number, before = 0): Verdict {
  const promised = others.reduce((sum, guarantee) => sum + guarantee, 0) + wanted;
  const allowed = Math.floor(total * (1 - HOST_SHARE));
  return { exceeded: wanted > before && promised > allowed, promised, allowed };
}
