/** What one VE has used: the last samples in memory, minutes and quarters of an hour in its file. */
import { existsSync } from 'node:fs';
import { growth, merge, SPANS, type Counter, type Point, type Reading, type Span } from './fields.ts';
import { openPointFile, type PointFile } from './point-file.ts';
import { sampleRing } from './ring.ts';

const MINUTE = SPANS['1d'].resolution;
const QUARTER = SPANS['30d'].resolution;

/** What came between two samples. */
export interface Step {
  seconds: number;
  grown: Record<Counter, number>;
}

/** The last sample of a VE that runs. */
export interface LastSample {
  /** Seconds since 1970. */
  time: number;
  reading: Reading;
  /** What came since the sample before; undefined for the first. */
  step: Step | undefined;
}

/** Samples and history of all VEs of a node, by UUID. */
export interface SampleReader {
  /** Undefined while the VE does not run. */
  last(uuid: string): LastSample | undefined;
  /** Oldest first; also of a VE that does not run any more. */
  history(uuid: string, span: Span): Point[];
}

export interface VeHistory {
  /**
   * Take a sample.
   * @param at seconds since 1970 @param clock seconds of a clock that nobody sets
   * @param age seconds since its groups were made, so that its counters began with zero; undefined: that was long ago, or nobody saw it
   * @returns what came since the sample before; undefined for the first one of groups of unknown age
   */
  add(at: number, clock: number, reading: Reading, age: number | undefined): Step | undefined;
  /** Nothing came for a while: the next sample has none before it. */
  pause(): void;
  /**
   * Write the minute of the last sample, if it is over, and the quarter of an hour to which it belongs.
   * @param even also when it is not over: the daemon ends @returns the minute, once @throws the system error as it is
   */
  flush(at: number, even?: boolean): Point | undefined;
  /** Oldest first; the last one of the longer spans is still growing. @param at now, seconds since 1970 */
  points(span: Span, at: number): Point[];
  /** Seconds since 1970; 0 before the first. */
  readonly lastSample: number;
  /** Whether there are samples that no file has. */
  readonly unwritten: boolean;
}

/**
 * Go on with a VE's history.
 * @param path of its file, made with the first minute
 * @param at now, seconds since 1970
 */
export function createHistory(path: string, at: number): VeHistory {
  const ring = sampleRing(SPANS['10m'].points);
  const file = <T>(work: (file: PointFile) => T): T => {
    const open = openPointFile(path);
    try {
      return work(open);
    } finally {
      open.close();
    }
  };
  const read = (span: '1d' | '30d', since: number, until: number): Point[] => (existsSync(path) ? file((points) => points.read(span, since, until)) : []);
  const first = floor(at, MINUTE);
  /** What an earlier daemon has of the minute in which this one began. */
  const carried = read('1d', first, first + 1);
  let before: { clock: number; reading: Reading } | undefined;
  let last = 0;
  /** The first of the minutes below. */
  let unwritten: number | undefined;

  /** What there is of a minute that has samples here. */
  const minuteOf = (minute: number): Point => {
    const samples = ring.points(minute).filter(({ time }) => time < minute + MINUTE);
    return merge(minute, minute === first ? [...carried, ...samples] : samples);
  };

  const write = (minute: Point): void => file((points) => {
    points.write('1d', minute);
    const quarter = floor(minute.time, QUARTER);
    points.write('30d', merge(quarter, points.read('1d', quarter, quarter + QUARTER)));
  });
  /** Minutes of which no file has everything: at most one that is over, and the one that grows. */
  const pending = (): number[] => (unwritten === undefined ? [] : [...new Set([unwritten, floor(last, MINUTE)])]);

  return {
    add(now, clock, reading, age) {
      const seconds = before ? clock - before.clock : age;
      const grown = growth(before?.reading, reading);
      before = { clock, reading };
      if (seconds === undefined) return undefined;
      last = Math.floor(now);
      ring.push(last, seconds, reading, grown);
      unwritten ??= floor(last, MINUTE);
      return { seconds, grown };
    },
    pause() {
      before = undefined;
    },
    flush(now, even = false) {
      let finished: Point | undefined;
      for (const minute of pending()) {
        if (!even && floor(now, MINUTE) === minute) break;
        finished = minuteOf(minute);
        write(finished);
        unwritten = floor(last, MINUTE) > minute ? floor(last, MINUTE) : undefined;
      }
      return finished;
    },
    points(span, now) {
      const since = now - SPANS[span].resolution * SPANS[span].points;
      if (span === '10m') return ring.points(since);
      const growing = pending().map(minuteOf);
      const without = (minutes: Point[]): Point[] => minutes.filter(({ time }) => !growing.some((minute) => minute.time === time));
      if (span === '1d') return [...without(read(span, since, now + 1)), ...growing];
      const quarters = [...new Set(growing.map(({ time }) => floor(time, QUARTER)))];
      return [
        ...read(span, since, now + 1).filter(({ time }) => !quarters.includes(time)),
        ...quarters.map((quarter) => merge(quarter, [...without(read('1d', quarter, quarter + QUARTER)), ...growing.filter(({ time }) => floor(time, QUARTER) === quarter)])),
      ];
    },
    get lastSample() {
      return last;
    },
    get unwritten() {
      return unwritten !== undefined;
    },
  };
}

function floor(time: number, step: number): number {
  return Math.floor(time / step) * step;
}
