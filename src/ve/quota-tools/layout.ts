/** How the quota tools write figures: blocks of 1 KiB, times of grace, marks. The formats are those of quota(1) and repquota(8), which scripts read. */
import type { DiskUser } from '../../storage/types.ts';
import { QUOTA_BLOCK } from '../../kernel/quota.ts';
import type { Quota } from '../../spec/types.ts';
import { ToolFailure } from './types.ts';

/** What df(1) calls the VE's disk; it is the only one that has quotas. */
export const DEVICE = 'overlay';

/** The eight figures of an account, as text. */
export interface Figures {
  used: string;
  soft: string;
  hard: string;
  grace: string;
  files: string;
  filesSoft: string;
  filesHard: string;
  filesGrace: string;
  /** More than the soft limit is in use, or all of the hard one. */
  over: boolean;
  filesOver: boolean;
}

/** Soft and hard limit; 0: none. Veld writes a soft limit that is the hard one, too, where there is none of its own. */
export function pairOf(limits: Quota | null): { soft: number; hard: number } {
  return limits === null ? { soft: 0, hard: 0 } : { soft: limits.soft === limits.hard ? 0 : limits.soft ?? 0, hard: limits.hard ?? 0 };
}

/** @param now seconds since 1970 @param human units of their own (-s) @param raw times of grace in seconds since 1970 (-p) */
export function figuresOf({ limits, used }: DiskUser, now: number, human = false, raw = false): Figures {
  const space = pairOf(limits.space);
  const inodes = pairOf(limits.inodes);
  const files = used.inodes ?? 0;
  const over = isOver(used.space, space);
  const filesOver = isOver(files, inodes);
  const blocks = (bytes: number): string => (human ? humanBlocks(bytes) : String(Math.ceil(bytes / QUOTA_BLOCK)));
  const count = (value: number): string => (human ? humanCount(value) : String(value));
  const grace = (until: number | null, is: boolean): string => {
    if (raw) return String(until ?? 0);
    return until === null || !is ? '' : timeLeft(until - now);
  };
  return {
    used: blocks(used.space), soft: blocks(space.soft), hard: blocks(space.hard), grace: grace(used.spaceUntil, over), over,
    files: count(files), filesSoft: count(inodes.soft), filesHard: count(inodes.hard), filesGrace: grace(used.inodesUntil, filesOver), filesOver,
  };
}

function isOver(used: number, { soft, hard }: { soft: number; hard: number }): boolean {
  return (soft > 0 && used > soft) || (hard > 0 && used >= hard);
}

/** Time left, or all of a time: days from two on, else hours and minutes. @param seconds none left: `none` */
export function timeLeft(seconds: number): string {
  if (seconds <= 0) return 'none';
  const minutes = Math.floor((seconds + 30) / 60);
  if (minutes >= 2 * 24 * 60) return `${Math.round(minutes / (24 * 60))}days`;
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

/** As `-s` shows space: rounded up, so that what is in use is never shown as less. */
function humanBlocks(bytes: number): string {
  let value = Math.ceil(bytes / QUOTA_BLOCK);
  if (value === 0) return '0K';
  let unit = 0;
  while (value >= 10 * 1024 && unit < 3) {
    value = Math.ceil(value / 1024);
    unit += 1;
  }
  return `${value}${'KMGT'[unit]}`;
}

/** As `-s` shows numbers of files. */
function humanCount(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 10_000 && unit < 4) {
    value = Math.ceil(value / 1000);
    unit += 1;
  }
  return `${value}${['', 'k', 'm', 'g', 't'][unit]}`;
}

/** Bytes of a limit as the tools are told: blocks of 1 KiB, or with a unit of 1024 times the last (K, M, G, T). 0: none. */
export function readBlocks(text: string): number {
  const [, digits, unit = 'K'] = /^(\d{1,15})([KMGT]?)$/i.exec(text) ?? [];
  if (digits === undefined) throw new ToolFailure(`${JSON.stringify(text.slice(0, 40))} is no number of blocks; give KiB, or a number with K, M, G or T.`);
  return within(Number(digits) * 1024 ** ('KMGT'.indexOf(unit.toUpperCase() || 'K') + 1), text);
}

/** A number of files, or with a unit of 1000 times the last (k, m, g, t). 0: none. */
export function readCount(text: string): number {
  const [, digits, unit = ''] = /^(\d{1,15})([kmgt]?)$/i.exec(text) ?? [];
  if (digits === undefined) throw new ToolFailure(`${JSON.stringify(text.slice(0, 40))} is no number of files.`);
  return within(Number(digits) * 1000 ** (unit === '' ? 0 : 'kmgt'.indexOf(unit.toLowerCase()) + 1), text);
}

function within(value: number, text: string): number {
  if (!Number.isSafeInteger(value)) throw new ToolFailure(`${text} is more than can be counted.`);
  return value;
}

/** Limits as Veld keeps them. @param soft, hard 0: none @throws ToolFailure */
export function limitOf(soft: number, hard: number): Quota | null {
  if (soft > 0 && hard > 0 && soft > hard) throw new ToolFailure('a soft limit is above the hard one; nothing is changed.');
  if (soft === 0 && hard === 0) return null;
  return { soft: soft === 0 ? hard : soft, hard: hard === 0 ? null : hard };
}
