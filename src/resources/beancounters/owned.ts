/**
 * What VEs have of something that the kernel knows by its owner: open files (files.bpf.c) and file locks (locks.bpf.c), counted and limited by BPF programs that
 * stand at the kernel's own functions.
 *
 * The owner is the VE's range of user ids, which the group's own owner tells. A VE is counted from the beginning of a life, when nobody is in its group; one
 * that runs already when programs come is not, for nobody knows what it has.
 */
import { statSync } from 'node:fs';
import { missedBy } from '../../kernel/bpf.ts';
import { readKey } from '../../kernel/cgroup.ts';
import { VeldError } from '../../lib/errors.ts';
import { withoutFaults } from '../../lib/faults.ts';
import type { Pair } from '../../spec/beancounters/pairs.ts';
import { SOURCES } from './compile.ts';
import type { Count } from './sockets.ts';
import { closeStanding, NO_LIMIT, order, removePlace, stand, valueOf, wordAt, type Standing, type Traced } from './traced.ts';

export interface OwnedCount extends Count, Pair {
  /** How often the kernel did not call the programs, of all VEs: as many may be counted wrong. */
  missed: number;
}

export interface Owned {
  /** Find the programs, or load them. Afterwards `support` knows. @param groups of VEs that run, absolute directories of cgroup2 */
  load(groups: readonly string[]): Promise<void>;
  /** Whether this is counted and limited on this host, or why not. */
  support(): true | string;
  /**
   * Count what a VE has from now on, where that can be done, and hold its limit.
   * @param restoring nothing is refused, and peaks stay what they are: processes come back with what they had
   * @throws VeldError `property.unsupported` for a limit where nobody counts
   */
  apply(group: string, limit: Pair | null, restoring?: boolean): void;
  /** Undefined where nobody counts. */
  read(group: string): OwnedCount | undefined;
  /** The group is about to go. */
  forget(group: string): void;
  /** Close what is open; the programs stay. */
  close(): void;
}

/** @param runDir the daemon's */
export function createOwned(what: Traced, runDir: string): Owned {
  let versions: Standing[] = [];
  let reason = 'its programs have not been loaded';

  const idsOf = (group: string): { key: bigint; group: bigint } => {
    const { uid, ino } = statSync(group, { bigint: true });
    return { key: uid >> 16n, group: ino };
  };

  /** The value of the VE by the version that counts it in this group. */
  const find = (group: string, among = versions): { version: Standing; value: DataView } | undefined => {
    const ids = idsOf(group);
    for (const version of among) {
      const value = valueOf(version, ids.key);
      if (value && wordAt(value, 'group') === ids.group) return { version, value };
    }
    return undefined;
  };

  return {
    async load(groups) {
      if (versions.length > 0) return;
      try {
        versions = await withoutFaults(() => stand(what, runDir, (version) => groups.some((group) => find(group, [version]) !== undefined)));
      } catch (error) {
        reason = (error as Error).message.replace(/\.$/, '');
      }
    },

    support: () => (versions.length > 0 ? true : reason),

    apply(group, limit, restoring = false) {
      const [own] = versions;
      if (!own) {
        if (limit) throw new VeldError('property.unsupported', `The ${SOURCES[what]} of a VE cannot be limited on this host: ${reason}.`);
        return;
      }
      const found = find(group);
      const version = found?.version ?? (readKey(group, 'cgroup.events', 'populated') === 0 ? own : undefined);
      if (version) {
        order(version, { what: found ? 'limit' : 'begin', ...idsOf(group), barrier: wordOf(limit?.barrier), limit: wordOf(limit?.limit), quiet: restoring });
      } else if (limit) {
        throw new VeldError('property.unsupported', `The ${SOURCES[what]} of this VE are not counted: it ran already when that began.`, { hint: 'Restart the VE.' });
      }
    },

    read(group) {
      const found = find(group);
      if (!found) return undefined;
      const [held, maxheld, failcnt] = (['held', 'maxheld', 'failcnt'] as const).map((word) => Number(wordAt(found.value, word))) as [number, number, number];
      const [barrier, limit] = (['barrier', 'limit'] as const).map((word) => numberOf(wordAt(found.value, word))) as [number | null, number | null];
      // What came back with a restore has not been a peak then, and is one now.
      return { held, maxheld: Math.max(held, maxheld), failcnt, barrier, limit, missed: found.version.programs.reduce((sum, fd) => sum + missedBy(fd), 0) };
    },

    forget(group) {
      const found = find(group);
      if (found) order(found.version, { what: 'end', ...idsOf(group) });
    },

    close() {
      for (const version of versions) closeStanding(version);
      versions = [];
    },
  };
}

/** Take the programs away from the kernel. Idempotent. */
export function removeOwned(runDir: string): void {
  removePlace(runDir);
}

function wordOf(amount: number | null | undefined): bigint {
  return amount == null ? NO_LIMIT : BigInt(amount);
}

function numberOf(word: bigint): number | null {
  return word === NO_LIMIT ? null : Number(word);
}
