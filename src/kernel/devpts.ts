/** Pseudo-terminals of a VE: how many its /dev/pts has, and how many it may have (`max=` of devpts, Documentation/filesystems/devpts.rst). */
import { closeSync, readdirSync } from 'node:fs';
import { openGuestRoot } from './guest-tree.ts';
import { readProcessFile, type ProcessId } from './process.ts';
import { reconfigure } from './syscalls.ts';

export interface Ptys {
  held: number;
  /** Null: only as many as the kernel gives to all (NR_UNIX98_PTY_MAX). */
  limit: number | null;
}

const FOLDER = '/dev/pts';
/** NR_UNIX98_PTY_MAX of linux/tty.h: devpts does not show this as a limit. */
const MOST = 2 ** 20;

/** @returns undefined when there is no devpts */
export async function readPtys(init: ProcessId): Promise<Ptys | undefined> {
  return withDevpts(init, (fd, options) => ({
    held: readdirSync(`/proc/self/fd/${fd}`).filter((name) => /^\d+$/.test(name)).length,
    limit: limitOf(options),
  }));
}

/**
 * Set how many there may be. Those that there are stay.
 * @param limit null: as many as the kernel gives
 * @returns whether there is a devpts
 */
export async function limitPtys(init: ProcessId, limit: number | null): Promise<boolean> {
  const done = await withDevpts(init, (fd, options) => {
    if (limitOf(options) === limit) return true;
    // The others are told again, or they would become what they are by default. Ids are the host's, as the table shows them.
    reconfigure(fd, [...options.filter(([name]) => name !== 'max'), ['max', String(Math.min(MOST, limit ?? MOST))]]);
    return true;
  });
  return done === true;
}

function limitOf(options: readonly (readonly [string, string])[]): number | null {
  const max = options.find(([name]) => name === 'max')?.[1];
  return max === undefined ? null : Number(max);
}

async function withDevpts<T>(init: ProcessId, work: (fd: number, options: [string, string][]) => T): Promise<T | undefined> {
  const table = readProcessFile(init.pid, 'mountinfo') ?? '';
  // The last one at a place covers the others.
  const line = table.split('\n').findLast((line) => line.split(' ')[4] === FOLDER);
  const [head = '', tail = ''] = line?.split(' - ') ?? [];
  const [type, , options = ''] = tail.split(' ');
  if (type !== 'devpts') return undefined;
  const root = await openGuestRoot(init);
  try {
    const fd = root.openMount(FOLDER, Number(head.split(' ')[0]));
    if (fd === undefined) return undefined;
    try {
      return work(fd, options.split(',').filter((option) => option.includes('=')).map((option) => option.split('=') as [string, string]));
    } finally {
      closeSync(fd);
    }
  } finally {
    root.close();
  }
}
