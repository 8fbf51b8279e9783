/** Lists the fault points that an operation reaches, so that a test can hit each of them. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Instance } from './instance.ts';

/** A point, and the how-manieth time since the daemon's start. */
export interface FaultPoint {
  name: string;
  /** Counted from the start of the daemon, as VELD_FAULT does. */
  nth: number;
}

/** `VELD_FAULT` for a point. */
export function faultOf(action: 'kill' | 'fail', { name, nth }: FaultPoint): string {
  return `${action}:${name}#${nth}`;
}

/**
 * Start the daemon anew, do the work, and list the points that the work reached; of a `ran:` point each time counts, since each is
 * another command.
 */
export async function pointsOf(veld: Instance, work: () => Promise<unknown>): Promise<FaultPoint[]> {
  const log = join(veld.dir, `faults.${Date.now()}`);
  const lines = (): string[] => (existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter((line) => line !== '') : []);
  await veld.restart({ VELD_FAULT_LOG: log });
  const before = lines();
  await work();
  const points = lines().slice(before.length).map((name, i, all) => ({
    name, nth: [...before, ...all.slice(0, i + 1)].filter((other) => other === name).length,
  }));
  await veld.restart();
  return points;
}
