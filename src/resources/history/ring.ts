/** The last samples of a VE, one a second, in memory. */
import { COUNTERS, GAUGES, pointOf, type Counter, type Gauge, type Point, type Reading } from './fields.ts';

/** Numbers of a sample: the seconds, gauges, growth of counters. */
const WIDTH = 1 + GAUGES.length + COUNTERS.length;

export interface SampleRing {
  /** @param time seconds since 1970 @param seconds since the sample before */
  push(time: number, seconds: number, gauges: Record<Gauge, number>, grown: Record<Counter, number>): void;
  /** Those that began at `since` or later, oldest first. */
  points(since?: number): Point[];
  clear(): void;
}

/**
 * Make a ring. Numbers are kept with 24 bits: memory below 64 GiB to the page, counters of a second to sixteen millions.
 * @param capacity samples that it holds
 */
export function sampleRing(capacity: number): SampleRing {
  const values = new Float32Array(capacity * WIDTH);
  const times = new Float64Array(capacity);
  let [next, count] = [0, 0];
  const at = (index: number): Point => {
    const row = values.subarray(index * WIDTH, (index + 1) * WIDTH);
    const read = {} as Reading;
    for (const [i, name] of GAUGES.entries()) read[name] = row[1 + i]!;
    const counters = {} as Record<Counter, number>;
    for (const [i, name] of COUNTERS.entries()) counters[name] = row[1 + GAUGES.length + i]!;
    return pointOf(times[index]!, row[0]!, read, counters);
  };
  return {
    push(time, seconds, gauges, grown) {
      const start = next * WIDTH;
      times[next] = time;
      values[start] = seconds;
      for (let i = 0; i < GAUGES.length; i += 1) values[start + 1 + i] = gauges[GAUGES[i]!];
      for (let i = 0; i < COUNTERS.length; i += 1) values[start + 1 + GAUGES.length + i] = grown[COUNTERS[i]!];
      next = (next + 1) % capacity;
      count = Math.min(capacity, count + 1);
    },
    points(since = 0) {
      const found: Point[] = [];
      for (let i = 0; i < count; i += 1) {
        const index = (next - count + i + capacity) % capacity;
        if (times[index]! >= since) found.push(at(index));
      }
      return found;
    },
    clear() {
      [next, count] = [0, 0];
    },
  };
}
