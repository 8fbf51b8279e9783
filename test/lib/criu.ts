/** criu while it works. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { flockNow } from '../../src/kernel/syscalls.ts';
import { until } from './wait.ts';

/** Pid of the criu that works for an instance, as soon as there is one. @param instance its name, which is in the paths that criu is told @throws Error after 20 s without one */
export function criuAtWork(instance: string): Promise<number> {
  return until('criu', () => readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).find((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/exe`).endsWith('/criu') && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(instance);
    } catch {
      return false; // it has ended
    }
  }), 20_000, 1);
}

/**
 * Wait until all of a VE that is being brought back is there, and keep whoever would say that it runs from doing so: for that one has to have the lock that this takes.
 * @param folder the VE's run folder @returns what gives the lock back
 */
export async function keepUnsaid(folder: string): Promise<() => void> {
  await until('all of it to be there', () => existsSync(join(folder, 'restored')), 20_000, 1);
  const fd = openSync(join(folder, 'saving'), 'r+');
  await until('the lock', () => {
    try {
      flockNow(fd);
      return true;
    } catch {
      return false; // the script that has written the file is ending
    }
  }, 20_000, 1);
  return () => closeSync(fd);
}
