/** What is sampled of a VE, and the shapes in which it is kept. NaN: this host does not count it. */

/** What is at a moment. */
export const GAUGES = ['memoryBytes', 'cacheBytes', 'swapBytes', 'tasks'] as const;
export type Gauge = (typeof GAUGES)[number];

/** What only grows while a VE runs. Seconds of pressure: for how long some, or all (`Full`), of its tasks waited. */
export const COUNTERS = [
  'cpuSeconds', 'throttledSeconds', 'periods', 'throttledPeriods', 'diskReadBytes', 'diskWriteBytes', 'diskReads', 'diskWrites', 'rxBytes', 'txBytes', 'rxPackets', 'txPackets',
  'cpuPressureSeconds', 'memoryPressureSeconds', 'memoryFullSeconds', 'ioPressureSeconds', 'ioFullSeconds', 'oomKills',
] as const;
export type Counter = (typeof COUNTERS)[number];

/** What was read at once: counters since the VE's groups were made. */
export type Reading = Record<Gauge | Counter, number>;

/** A stretch of time. */
export interface Point {
  /** When it began: seconds since 1970. */
  time: number;
  /** For how many of its seconds there are samples. */
  seconds: number;
  gauges: Record<Gauge, { min: number; mean: number; max: number }>;
  /** By how much each grew. */
  counters: Record<Counter, number>;
}

/** Spans of history by what they are called: seconds between points, and how many there are. */
export const SPANS = {
  '10m': { resolution: 1, points: 600 },
  '1d': { resolution: 60, points: 1440 },
  '30d': { resolution: 900, points: 2880 },
} as const;
export type Span = keyof typeof SPANS;

/**
 * Growth of each counter from one reading to the next. One that has become less began anew: the VE was booted in between.
 * @param before undefined: it began with zero
 */
export function growth(before: Reading | undefined, now: Reading): Record<Counter, number> {
  const grown = {} as Record<Counter, number>;
  for (const name of COUNTERS) {
    const [from, to] = [before?.[name] ?? 0, now[name]];
    // Per-processor counts are brought together late: a little less than before is no new beginning. NaN stays NaN.
    grown[name] = to < from / 2 ? to : Math.max(0, to - from);
  }
  return grown;
}

/** A moment as a stretch. */
export function pointOf(time: number, seconds: number, gauges: Record<Gauge, number>, counters: Record<Counter, number>): Point {
  const spread = {} as Point['gauges'];
  for (const name of GAUGES) spread[name] = { min: gauges[name], mean: gauges[name], max: gauges[name] };
  return { time, seconds, gauges: spread, counters };
}

/**
 * One point of several, in any order: means weighed by the seconds for which there are samples. What is unknown in one of them is taken from the others.
 * @param time of the new point
 */
export function merge(time: number, points: readonly Point[]): Point {
  const merged: Point = { time, seconds: 0, gauges: {} as Point['gauges'], counters: {} as Point['counters'] };
  for (const { seconds } of points) merged.seconds += seconds;
  for (const name of GAUGES) {
    let [min, max, sum, weight] = [Number.NaN, Number.NaN, 0, 0];
    for (const { seconds, gauges } of points) {
      const gauge = gauges[name];
      if (Number.isNaN(gauge.mean)) continue;
      if (!(min <= gauge.min)) min = gauge.min;
      if (!(max >= gauge.max)) max = gauge.max;
      sum += gauge.mean * seconds;
      weight += seconds;
    }
    merged.gauges[name] = { min, mean: weight > 0 ? Math.min(max, Math.max(min, sum / weight)) : min, max };
  }
  for (const name of COUNTERS) {
    let sum = Number.NaN;
    for (const { counters } of points) if (!Number.isNaN(counters[name])) sum = (Number.isNaN(sum) ? 0 : sum) + counters[name];
    merged.counters[name] = sum;
  }
  return merged;
}
