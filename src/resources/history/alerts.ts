/** When to say that a VE meets its limits: once when it begins, and again only after it has been clearly better. */
import type { Point, Reading } from './fields.ts';
import type { Step } from './history.ts';

/** Periods of the CPU limit in a minute: each is 100 ms (see limits.ts). */
const PERIODS = 600;
/** Memory must stand near its limit for so long, in seconds. */
const PATIENCE = 10;
/** After kills were told of, further ones are gathered for so many seconds: a VE that is killed in again and again does not fill the ring of events. */
const GATHER = 60;
/** It has been clearly better below this part of the threshold. */
const BETTER = { throttled: 0.5, memory: 0.9 };

export interface Thresholds {
  /** Percent of a minute in which the CPU limit has held the VE back; 0: never said. */
  throttled: number;
  /** Percent of memory.limit that is in use, page cache apart; 0: never said. */
  memory: number;
}

export type Alert =
  | { type: 've.throttled'; data: { percent: number; seconds: number } }
  | { type: 've.oom_killed'; data: { count: number } }
  | { type: 've.memory_near_limit'; data: { usedBytes: number; limitBytes: number } };

export interface Alerts {
  /** After each sample. @param limit of its memory, bytes; null: none */
  sample(step: Step | undefined, reading: Reading, limit: number | null): Alert[];
  /** After each minute. */
  minute(point: Point): Alert[];
  /** It has ended: what was still gathered. */
  end(): Alert[];
}

/** Watch one VE. */
export function createAlerts(thresholds: Thresholds): Alerts {
  let [throttled, near, nearFor] = [false, false, 0];
  let [kills, quiet] = [0, 0];
  return {
    sample(step, reading, limit) {
      const alerts: Alert[] = [];
      quiet -= step?.seconds ?? 0;
      if (step && step.grown.oomKills > 0) kills += step.grown.oomKills;
      if (kills > 0 && quiet <= 0) {
        alerts.push({ type: 've.oom_killed', data: { count: kills } });
        [kills, quiet] = [0, GATHER];
      }
      const used = reading.memoryBytes - reading.cacheBytes;
      const percent = limit === null || thresholds.memory === 0 ? 0 : (100 * used) / limit;
      nearFor = percent >= thresholds.memory && percent > 0 ? nearFor + (step?.seconds ?? 1) : 0;
      if (nearFor >= PATIENCE && !near) alerts.push({ type: 've.memory_near_limit', data: { usedBytes: used, limitBytes: limit! } });
      near = nearFor >= PATIENCE || (near && percent >= thresholds.memory * BETTER.memory);
      return alerts;
    },
    end() {
      const alerts: Alert[] = kills > 0 ? [{ type: 've.oom_killed', data: { count: kills } }] : [];
      kills = 0;
      return alerts;
    },
    minute({ counters }) {
      const percent = (100 * counters.throttledPeriods) / PERIODS;
      const above = thresholds.throttled > 0 && percent >= thresholds.throttled;
      const begins = above && !throttled;
      throttled = above || (throttled && percent >= thresholds.throttled * BETTER.throttled);
      return begins ? [{ type: 've.throttled', data: { percent: Math.round(percent), seconds: counters.throttledSeconds } }] : [];
    },
  };
}
