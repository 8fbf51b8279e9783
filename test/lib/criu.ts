/** criu while it works. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
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
