/**
 * Disk quotas of the kernel: what a user, a group or a project may use of a file system, and uses. Sources: quotactl(2), linux/quota.h.
 *
 * The file system is named by a descriptor of anything on it (quotactl_fd, Linux 5.14), so that no path leads to another one meanwhile. XFS
 * answers the same calls as ext4.
 */
import { closeSync, openSync } from 'node:fs';
import { checked, native } from './native.ts';

/** What an account belongs to. */
export type QuotaKind = 'user' | 'group' | 'project';

const KINDS: Record<QuotaKind, number> = { user: 0, group: 1, project: 2 };

/** Commands of linux/quota.h. */
const Q = { getInfo: 0x800005, setInfo: 0x800006, getQuota: 0x800007, setQuota: 0x800008, getNextQuota: 0x800009 } as const;

/** QIF_* of linux/quota.h: which fields are meant. */
const VALID = { spaceLimits: 1, space: 2, inodeLimits: 4, inodes: 8, spaceTime: 16, inodeTime: 32 } as const;

/** Limits on space are kept in blocks of this size, in bytes (QIF_DQBLKSIZE). */
export const QUOTA_BLOCK = 1024;

/** Q_XGETQSTATV of linux/dqblk_xfs.h, struct fs_quota_statv: version 1, flags at 2. */
const Q_STATE = 0x5808, STATE_SIZE = 256, STATE_VERSION = 1, STATE_FLAGS = 2;
/** FS_QUOTA_*_ACCT and FS_QUOTA_*_ENFD: whether accounts of a kind are kept, and their limits held. */
const KEPT: Record<QuotaKind, number> = { user: 1, group: 4, project: 16 };
const HELD: Record<QuotaKind, number> = { user: 2, group: 8, project: 32 };

/** Whether a file system keeps accounts of a kind, and holds their limits, too. */
export type QuotaState = 'none' | 'counted' | 'held';

/** Limits of an account; null: none. */
export interface QuotaLimits {
  /** Bytes. What lies between two blocks of 1 KiB is rounded up. */
  spaceSoft: number | null;
  spaceHard: number | null;
  inodesSoft: number | null;
  inodesHard: number | null;
}

export interface QuotaAccount extends QuotaLimits {
  /** Of the user, group or project. */
  id: number;
  /** Bytes in use. */
  space: number;
  /** Files, folders and all else that has an inode. */
  inodes: number;
  /** Until when more than the soft limit may be in use, seconds since 1970; null where it is not exceeded. */
  spaceUntil: number | null;
  inodesUntil: number | null;
}

/** A file system whose quotas are asked for. */
export interface QuotaFileSystem {
  /** @throws ENOSYS where the file system, or the kernel, knows no quotas */
  state(kind: QuotaKind): QuotaState;
  /** An account; one that was never used has nothing. @throws ESRCH where such quotas are not kept, ENOSYS where the kernel has none */
  get(kind: QuotaKind, id: number): QuotaAccount;
  /**
   * Change limits, all four of them or none.
   * @param until end the times of grace otherwise, seconds since 1970: the kernel keeps them only where the soft limit is exceeded
   */
  set(kind: QuotaKind, id: number, limits: QuotaLimits | undefined, until?: { space?: number; inodes?: number }): void;
  /** Accounts that have limits or use anything, with ids from `first` to `last`. */
  list(kind: QuotaKind, first: number, last: number): QuotaAccount[];
  /** How long more than a soft limit may be in use, in seconds, for all accounts of a kind that have no time of their own. */
  grace(kind: QuotaKind): { space: number; inodes: number };
  close(): void;
}

/** Open the quotas of the file system that holds `path`. Close them again. */
export function openQuotas(path: string): QuotaFileSystem {
  const fd = openSync(path, 'r');
  const call = (command: number, kind: QuotaKind, id: number, buffer: Buffer): void => {
    // Safe: three integers, and a structure that `buffer` has room for (72 bytes; 256 for the state, whose version is 1), and which stays referenced until the call has returned.
    checked('quotactl_fd', native().c.quotactlFd(NR_QUOTACTL_FD, fd, (command << 8 | KINDS[kind]) >>> 0, id, buffer));
  };
  const get = (kind: QuotaKind, id: number): QuotaAccount => {
    const block = Buffer.alloc(SIZE);
    try {
      call(Q.getQuota, kind, id, block);
    } catch (error) {
      // XFS knows nothing of an account that nobody has used. (ESRCH of ext4 is: no such quotas.)
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    return accountOf(id, block);
  };
  return {
    get,
    state(kind) {
      const state = Buffer.alloc(STATE_SIZE);
      state.writeInt8(STATE_VERSION, 0);
      call(Q_STATE, kind, 0, state);
      const flags = state.readUInt16LE(STATE_FLAGS);
      return (flags & KEPT[kind]) === 0 ? 'none' : (flags & HELD[kind]) === 0 ? 'counted' : 'held';
    },
    set(kind, id, limits, until = {}) {
      if (limits !== undefined) call(Q.setQuota, kind, id, blockOf(limits));
      const { space, inodes } = until;
      if (space === undefined && inodes === undefined) return;
      const times = Buffer.alloc(SIZE);
      times.writeBigUInt64LE(BigInt(space ?? 0), 48);
      times.writeBigUInt64LE(BigInt(inodes ?? 0), 56);
      times.writeUInt32LE((space === undefined ? 0 : VALID.spaceTime) | (inodes === undefined ? 0 : VALID.inodeTime), 64);
      call(Q.setQuota, kind, id, times);
    },
    list(kind, first, last) {
      const found: QuotaAccount[] = [];
      for (let id = first; id <= last;) {
        const block = Buffer.alloc(SIZE);
        try {
          call(Q.getNextQuota, kind, id, block);
        } catch (error) {
          if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) break; // that was the last one
          throw error;
        }
        const next = block.readUInt32LE(68);
        if (next > last || next < id) break;
        found.push(accountOf(next, block));
        id = next + 1;
      }
      return found;
    },
    grace(kind) {
      const info = Buffer.alloc(24); // struct if_dqinfo
      call(Q.getInfo, kind, 0, info);
      return { space: Number(info.readBigUInt64LE(0)), inodes: Number(info.readBigUInt64LE(8)) };
    },
    close: () => closeSync(fd),
  };
}

/** asm-generic/unistd.h: the same on x86_64 and arm64. */
const NR_QUOTACTL_FD = 443;

/** struct if_nextdqblk, of which struct if_dqblk is the beginning. */
const SIZE = 72;

function accountOf(id: number, block: Buffer): QuotaAccount {
  const at = (offset: number): number => Number(block.readBigUInt64LE(offset));
  const limit = (offset: number, unit: number): number | null => (at(offset) === 0 ? null : at(offset) * unit);
  return {
    id, space: at(16), inodes: at(40),
    spaceHard: limit(0, QUOTA_BLOCK), spaceSoft: limit(8, QUOTA_BLOCK), inodesHard: limit(24, 1), inodesSoft: limit(32, 1),
    spaceUntil: limit(48, 1), inodesUntil: limit(56, 1),
  };
}

function blockOf(limits: QuotaLimits): Buffer {
  const block = Buffer.alloc(SIZE);
  const put = (offset: number, value: number | null, unit: number): void => void block.writeBigUInt64LE(BigInt(value === null ? 0 : Math.max(1, Math.ceil(value / unit))), offset);
  put(0, limits.spaceHard, QUOTA_BLOCK);
  put(8, limits.spaceSoft, QUOTA_BLOCK);
  put(24, limits.inodesHard, 1);
  put(32, limits.inodesSoft, 1);
  block.writeUInt32LE(VALID.spaceLimits | VALID.inodeLimits, 64);
  return block;
}
