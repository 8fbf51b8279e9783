/**
 * Sockets of VEs, counted and limited by BPF programs that stand at each VE's cgroup2 directory (sockets.bpf.c).
 *
 * Nothing is kept here that the kernel does not have: a new daemon finds the programs at the group, and by them their maps, of whatever version they
 * are. With the group all of it goes, also when nobody is there to take it away.
 */
import { closeSync, constants, openSync, statSync } from 'node:fs';
import { attachProgram, closeAll, detachProgram, lookup, mapIdsOf, mapOf, openById, programName, programsAt, remove, update } from '../../kernel/bpf.ts';
import type { BpfHook, BpfMap } from '../../kernel/bpf.ts';
import { VeldError } from '../../lib/errors.ts';
import { withoutFaults } from '../../lib/faults.ts';
import { FILTERS, loadPrograms, type Filters, type Programs } from './load.ts';

export interface Count {
  held: number;
  maxheld: number;
  failcnt: number;
}

export interface SocketCounts {
  tcp: Count;
  other: Count;
  /** What is held now, as the kernel has it. */
  limits: SocketLimits;
}

/** Null: unlimited. */
export interface SocketLimits {
  tcp: number | null;
  other: number | null;
}

export interface Sockets {
  /** Load the programs. Afterwards `support` knows. */
  load(): Promise<void>;
  /** Whether sockets are counted and limited on this host, or why not. */
  support(): true | string;
  /**
   * Count the sockets of a group from now on, where that can be done, and hold its limits.
   * @param group an absolute directory of cgroup2
   * @param restoring nothing is refused, and peaks stay what they are: processes come back that had their sockets before
   * @throws VeldError `property.unsupported` for a limit where nobody counts
   */
  apply(group: string, limits: SocketLimits, restoring?: boolean): void;
  /** Undefined where nobody counts. */
  read(group: string): SocketCounts | undefined;
  /** The group is about to go. */
  forget(group: string): void;
  /** Close what is open; groups keep their programs. */
  close(): void;
}

/** Offsets in `struct counters` and `struct limits`, in 64-bit words. */
const COUNTERS = { key: 0, tcp: 1, other: 4 } as const;
const HOOKS = Object.keys(FILTERS) as (keyof Filters)[];
const NO_LIMIT = 2n ** 64n - 1n;

/** What stands at a group. */
interface Standing {
  counters: BpfMap;
  limits: BpfMap;
  filters: Filters | undefined;
}

/** @param runDir the daemon's */
export function createSockets(runDir: string): Sockets {
  let programs: Programs | undefined;
  let reason = 'its programs have not been loaded';
  /** By the kernel's id of the group. */
  const known = new Map<bigint, Standing>();
  /** Programs and maps of other versions, which some VE was begun with: open for as long as this daemon lives. */
  const others = new Map<string, number>();

  const openOnce = (what: 'programById' | 'mapById', id: number): number => {
    const name = `${what} ${id}`;
    const fd = others.get(name) ?? openById(what, id);
    others.set(name, fd);
    return fd;
  };

  const findFilters = (groupFd: number): Filters | undefined => {
    const found = HOOKS.map((hook) => [hook, programsAt(groupFd, hook).map((one) => openOnce('programById', one)).find((fd) => programName(fd) === FILTERS[hook])] as const);
    return found.every(([, fd]) => fd !== undefined) ? Object.fromEntries(found) as Filters : undefined;
  };

  const find = (groupFd: number, id: bigint): Standing | undefined => {
    const found = known.get(id);
    if (found) return found;
    for (const programId of programsAt(groupFd, 'socketCreate')) {
      const program = openOnce('programById', programId);
      if (programName(program) !== 'veld_create') continue;
      const maps = mapIdsOf(program).map((mapId) => mapOf(openOnce('mapById', mapId)));
      const [counters, limits] = ['veld_counters', 'veld_limits'].map((name) => maps.find((map) => map.name === name));
      if (!counters || !limits) continue;
      // The programs of a version are found together, or, for one that holds nothing yet, are this daemon's own.
      const own = programs?.counters.id === counters.id ? programs.filters : undefined;
      const standing = { counters, limits, filters: own ?? findFilters(groupFd) };
      known.set(id, standing);
      return standing;
    }
    return undefined;
  };

  /** A kernel without BPF has nothing to be found. */
  const findWhere = (groupFd: number, id: bigint): Standing | undefined => {
    try {
      return find(groupFd, id);
    } catch {
      return undefined;
    }
  };

  /** @param asked whether a limit is to be held: only then does it matter that the kernel, or who else has programs there, refuses */
  const beginWhere = (groupFd: number, id: bigint, asked: boolean): Standing | undefined => {
    try {
      return begin(groupFd, id);
    } catch (error) {
      if (!asked) return undefined;
      throw new VeldError('property.unsupported', `Sockets cannot be limited in this control group: ${(error as Error).message}.`, { cause: error });
    }
  };

  const begin = (groupFd: number, id: bigint): Standing | undefined => {
    const there = find(groupFd, id);
    if (there || !programs) return there;
    attachOnce(groupFd, programs.release, 'socketRelease');
    attachOnce(groupFd, programs.connections, 'socketOps');
    // The last one: where it stands, the others do.
    attachOnce(groupFd, programs.create, 'socketCreate');
    const standing = { counters: programs.counters, limits: programs.limits, filters: programs.filters };
    known.set(id, standing);
    return standing;
  };

  const within = <T>(group: string, work: (fd: number, id: bigint) => T): T => {
    const fd = openSync(group, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      return work(fd, statSync(group, { bigint: true }).ino);
    } finally {
      closeSync(fd);
    }
  };

  return {
    async load() {
      try {
        programs ??= await withoutFaults(() => loadPrograms(runDir));
      } catch (error) {
        reason = (error as Error).message;
      }
    },

    support: () => (programs ? true : reason),

    apply(group, limits, restoring = false) {
      within(group, (fd, id) => {
        const asked = limits.tcp !== null || limits.other !== null;
        const standing = beginWhere(fd, id, asked);
        if (!standing) {
          if (asked) throw new VeldError('property.unsupported', `Sockets cannot be limited on this host: ${reason}.`);
          return;
        }
        const key = keyOf(id);
        const hold = (limit: number | null): bigint => (restoring || limit === null ? NO_LIMIT : BigInt(limit));
        update(standing.limits, key, wordsOf([hold(limits.tcp), hold(limits.other), restoring ? 1n : 0n]));
        setKey(standing.counters, key);
        const filter = limits.tcp !== null && !restoring;
        if (standing.filters === undefined) {
          if (filter) throw new VeldError('property.unsupported', 'This VE was begun by another version of Veld, whose programs cannot be limited.', { hint: 'Restart the VE.' });
          return;
        }
        for (const hook of HOOKS) {
          if (filter) attachOnce(fd, standing.filters[hook], hook);
          else detachAny(fd, standing.filters[hook], hook);
        }
      });
    },

    read: (group) => within(group, (fd, id) => {
      const standing = findWhere(fd, id);
      const value = standing && lookup(standing.counters, keyOf(id));
      if (!standing || !value) return undefined;
      const limits = lookup(standing.limits, keyOf(id));
      return { tcp: countAt(value, COUNTERS.tcp), other: countAt(value, COUNTERS.other), limits: { tcp: limitAt(limits, 0), other: limitAt(limits, 1) } };
    }),

    forget: (group) => within(group, (fd, id) => {
      const standing = findWhere(fd, id);
      if (standing) remove(standing.limits, keyOf(id));
      known.delete(id);
    }),

    close() {
      closeAll(others.values());
      if (programs) closeAll([programs.create, programs.release, programs.connections, ...Object.values(programs.filters), programs.counters.fd, programs.limits.fd]);
      others.clear();
      known.clear();
      programs = undefined;
    },
  };
}

/** The group's own key is where its programs find its limits. Written once, before anything is in the group: what is counted is not lost by it. */
function setKey(counters: BpfMap, key: Uint8Array): void {
  const value = lookup(counters, key);
  if (!value) throw new VeldError('internal', 'The kernel has no place for the counters of a control group.');
  const id = Buffer.from(key).readBigUInt64LE();
  if (value.getBigUint64(COUNTERS.key, true) === id) return;
  value.setBigUint64(COUNTERS.key, id, true);
  update(counters, key, new Uint8Array(value.buffer));
}

function countAt(value: DataView, word: number): Count {
  const [held, maxheld, failcnt] = [0, 1, 2].map((i) => Number(value.getBigInt64((word + i) * 8, true))) as [number, number, number];
  // What came back with a restore has not been a peak then, and is one now.
  return { held: Math.max(0, held), maxheld: Math.max(held, maxheld), failcnt };
}

function limitAt(value: DataView | undefined, word: number): number | null {
  const limit = value?.getBigUint64(word * 8, true) ?? NO_LIMIT;
  return limit === NO_LIMIT ? null : Number(limit);
}

function keyOf(id: bigint): Uint8Array {
  return wordsOf([id]);
}

function wordsOf(values: readonly bigint[]): Uint8Array {
  const bytes = Buffer.alloc(values.length * 8);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(value, i * 8);
  return bytes;
}

function attachOnce(groupFd: number, program: number, hook: BpfHook): void {
  try {
    attachProgram(groupFd, program, hook);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error; // it stands there already
  }
}

function detachAny(groupFd: number, program: number, hook: BpfHook): void {
  try {
    detachProgram(groupFd, program, hook);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
