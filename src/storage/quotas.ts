/**
 * Both levels of disk quota by the kernel's own accounts: a project for each VE, and the accounts of its users and groups, whose ids on the disk are in
 * the range of the VE. Sources: quota(7) of the kernel (Documentation/filesystems/quota.rst), xfs_quota(8).
 */
import { join } from 'node:path';
import { setProject } from '../kernel/project.ts';
import { openQuotas, type QuotaAccount, type QuotaFileSystem, type QuotaKind, type QuotaLimits } from '../kernel/quota.ts';
import { VeldError } from '../lib/errors.ts';
import { run } from '../lib/run.ts';
import { RANGE } from './folders.ts';
import type { DiskAccount, DiskLimits, DiskSupport, DiskUser } from './types.ts';

/** Quotas of the volumes in a folder. */
export interface Quotas {
  support(): DiskSupport;
  /** The project of new volumes; 0 where there are none. */
  projectFor(uidBase: number, number: number): number;
  limit(volume: string, project: number, limits: DiskLimits, atRest: boolean): Promise<void>;
  account(volume: string): DiskAccount | undefined;
  /** @param kind those of VEs, or of users or groups */
  kernelGrace(kind?: QuotaKind): { space: number; inodes: number };
  extend(volume: string, until: { space?: number; inodes?: number }): void;
  users(uidBase: number): { users: DiskUser[]; groups: DiskUser[] };
  limitUser(uidBase: number, kind: 'user' | 'group', id: number, limits: DiskLimits): void;
  extendUser(uidBase: number, kind: 'user' | 'group', id: number, until: { space?: number; inodes?: number }): void;
  /** Have something written for a VE that does not run, whatever its limit: where the host's root is held, too. */
  unheld<T>(volume: string, work: () => Promise<T>): Promise<T>;
  /** Take away the limits of a VE and of its users: another one may get its range. */
  forget(volume: string): void;
}

const NONE: QuotaLimits = { spaceSoft: null, spaceHard: null, inodesSoft: null, inodesHard: null };

/** Folders of a volume in which files are made. */
const MADE_IN = ['upper', 'work'];

/**
 * The quotas of the file system that holds a folder.
 * @param ownersFromZero users of all VEs have the same ids there: they cannot be told apart
 * @param projectOfVolume 0: none
 */
export function createQuotas(folder: string, ownersFromZero: boolean, projectOfVolume: (volume: string) => number): Quotas {
  const using = <T>(work: (quotas: QuotaFileSystem) => T): T => {
    const quotas = openQuotas(folder);
    try {
      return work(quotas);
    } finally {
      quotas.close();
    }
  };
  /** Whether accounts of a kind are kept and held; in words why not. */
  const held = (kind: QuotaKind): true | string => {
    try {
      const state = using((quotas) => quotas.state(kind));
      if (state === 'held') return true;
      const option = { user: 'usrquota', group: 'grpquota', project: 'prjquota' }[kind];
      return state === 'none' ? `the file system of ${folder} keeps no ${kind} quotas (on ext4 \`tune2fs -O quota,project -Q usrquota,grpquota,prjquota\` while it is not mounted, then the mount option ${option}; or make a pool that has them: \`veld pool create NAME --image-size 50G\`)`
        : `${kind} quotas of the file system of ${folder} are counted, but not held: it is mounted without the option ${option}`;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOSYS' || code === 'ENOTSUP' || code === 'EINVAL') return `this kernel has no quotas for the file system of ${folder}`;
      throw error;
    }
  };
  const require = (kind: QuotaKind, property: string): void => {
    const found = held(kind);
    if (found !== true) throw new VeldError('property.unsupported', `${property} cannot be held: ${found}.`);
  };
  const users = (): true | string => {
    if (ownersFromZero) return 'XFS keeps the users of all VEs under the same ids (see docs/explanation/storage.md); on ext4 each VE\'s are apart';
    const user = held('user');
    return user === true ? held('group') : user;
  };

  return {
    support() {
      const project = held('project');
      return { 'disk.space': project, 'disk.inodes': project, 'disk.users': users(), 'soft': project };
    },

    // Numbers are given once, ranges are one VE's at a time: together no two VEs, also of other installations on this file system, ever have the same.
    projectFor: (uidBase, number) => uidBase + number % RANGE,

    async limit(volume, project, limits, atRest) {
      const wanted = writtenOf(limits);
      const none = Object.values(wanted).every((value) => value === null);
      if (none && held('project') !== true) return;
      require('project', limits.space === null ? 'disk.inodes' : 'disk.space');
      if (projectOfVolume(volume) !== project) {
        if (none) return;
        if (!atRest) throw new VeldError('property.not_live', 'Its disk was made where nothing was counted: what is on it is counted when it starts.', { hint: 'Stop the VE first, or use --config-only and restart it.' });
        await adopt(volume, project);
      }
      using((quotas) => {
        // Written again, the kernel would begin the time of grace anew.
        if (!same(quotas.get('project', project), wanted)) quotas.set('project', project, wanted);
      });
    },

    account(volume) {
      const project = projectOfVolume(volume);
      if (project === 0) return undefined;
      try {
        return accountOf(using((quotas) => quotas.get('project', project)));
      } catch (error) {
        if (['ENOSYS', 'ESRCH', 'ENOTSUP'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
        throw error;
      }
    },

    kernelGrace: (kind = 'project') => using((quotas) => quotas.grace(kind)),

    extend(volume, until) {
      const project = projectOfVolume(volume);
      using((quotas) => quotas.set('project', project, undefined, until));
    },

    users(uidBase) {
      const found = users();
      if (found !== true) throw new VeldError('property.unsupported', `disk.users cannot be held: ${found}.`);
      const of = (kind: QuotaKind): DiskUser[] => using((quotas) => quotas.list(kind, uidBase, uidBase + RANGE - 1)).map((account) => ({ id: account.id - uidBase, limits: limitsOf(account), used: accountOf(account) }));
      return { users: of('user'), groups: of('group') };
    },

    limitUser(uidBase, kind, id, limits) {
      const found = users();
      if (found !== true) throw new VeldError('property.unsupported', `disk.users cannot be held: ${found}.`);
      using((quotas) => quotas.set(kind, uidBase + id, writtenOf(limits)));
    },

    extendUser(uidBase, kind, id, until) {
      using((quotas) => quotas.set(kind, uidBase + id, undefined, until));
    },

    async unheld(volume, work) {
      const project = projectOfVolume(volume);
      // Elsewhere the daemon's CAP_SYS_RESOURCE passes over a limit; XFS holds everybody.
      const before = ownersFromZero && project !== 0 && held('project') === true ? using((quotas) => quotas.get('project', project)) : undefined;
      if (before === undefined || same(before, NONE)) return work();
      using((quotas) => quotas.set('project', project, NONE));
      try {
        return await work();
      } finally {
        using((quotas) => {
          quotas.set('project', project, before);
          const until = { ...before.spaceUntil !== null && { space: before.spaceUntil }, ...before.inodesUntil !== null && { inodes: before.inodesUntil } };
          if (Object.keys(until).length > 0) quotas.set('project', project, undefined, until);
        });
      }
    },

    forget(volume) {
      const project = projectOfVolume(volume);
      if (project !== 0 && held('project') === true) using((quotas) => quotas.set('project', project, NONE));
      // A volume without a project is older than limits of users.
      const uidBase = project - project % RANGE;
      if (project === 0 || users() !== true) return;
      for (const kind of ['user', 'group'] as const) {
        using((quotas) => {
          for (const account of quotas.list(kind, uidBase, uidBase + RANGE - 1)) if (!same(account, NONE)) quotas.set(kind, account.id, NONE);
        });
      }
    },
  };
}

/** Give a volume that was made without a project to one, with all that is in it. The VE must not run: chattr(1) goes by paths (and follows no link). */
async function adopt(volume: string, project: number): Promise<void> {
  for (const name of MADE_IN) {
    await run('/usr/bin/chattr', ['-R', '-f', '-p', String(project), '--', join(volume, name)], { allow: true });
    setProject(join(volume, name), project);
    await run('/usr/bin/find', [join(volume, name), '-xdev', '-type', 'd', '-exec', '/usr/bin/chattr', '-f', '+P', '--', '{}', '+'], { allow: true });
  }
}

/** As the kernel is told. A soft limit that is the hard one, too, is none. */
function writtenOf({ space, inodes }: DiskLimits): QuotaLimits {
  const soft = (limits: DiskLimits['space']): number | null => (limits === null || limits.soft === limits.hard ? null : limits.soft);
  return { spaceSoft: soft(space), spaceHard: space?.hard ?? null, inodesSoft: soft(inodes), inodesHard: inodes?.hard ?? null };
}

function limitsOf({ spaceSoft, spaceHard, inodesSoft, inodesHard }: QuotaLimits): DiskLimits {
  const pair = (soft: number | null, hard: number | null): DiskLimits['space'] => (soft === null && hard === null ? null : { soft: soft ?? hard, hard });
  return { space: pair(spaceSoft, spaceHard), inodes: pair(inodesSoft, inodesHard) };
}

function accountOf({ space, inodes, spaceUntil, inodesUntil }: QuotaAccount): DiskAccount {
  return { space, inodes, spaceUntil, inodesUntil };
}

function same(one: QuotaLimits, other: QuotaLimits): boolean {
  const blocks = (bytes: number | null): number => (bytes === null ? 0 : Math.ceil(bytes / 1024));
  return blocks(one.spaceSoft) === blocks(other.spaceSoft) && blocks(one.spaceHard) === blocks(other.spaceHard) && (one.inodesSoft ?? 0) === (other.inodesSoft ?? 0) && (one.inodesHard ?? 0) === (other.inodesHard ?? 0);
}
