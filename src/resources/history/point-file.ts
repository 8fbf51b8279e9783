/**
 * A VE's history on the disk: one file of fixed size with a ring of minutes for a day and one of quarters of an hour for 30 days.
 *
 * A point has a place of its own by its time, so writing one is one write to one page, and a write that a power cut has torn costs one point. Nothing waits for the
 * disk: what is lost with the power are the last points.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { COUNTERS, GAUGES, SPANS, type Point } from './fields.ts';

/** Rings of the file, one after the other. */
export type FileSpan = '1d' | '30d';
const SPANS_IN_FILE: readonly FileSpan[] = ['1d', '30d'];

/** time, seconds, min mean max of each gauge, counters: 4 bytes each. 128 in all, so none crosses the border of a page. */
const RECORD = 4 * (2 + 3 * GAUGES.length + COUNTERS.length);
/** Tells what the records are made of: a file that says something else is begun anew. */
const HEADER = 4096;
const TITLE = `${JSON.stringify({ veld: 'history', version: 1, gauges: GAUGES, counters: COUNTERS, rings: SPANS_IN_FILE.map((span) => SPANS[span]) })}\n`;

/** Bytes of each file. Those of points that were never written take no space. */
export const FILE_SIZE = HEADER + RECORD * SPANS_IN_FILE.reduce((sum, span) => sum + SPANS[span].points, 0);

function offsetOf(span: FileSpan, time: number): number {
  const { resolution, points } = SPANS[span];
  return HEADER + RECORD * ((span === '1d' ? 0 : SPANS['1d'].points) + Math.floor(time / resolution) % points);
}

export interface PointFile {
  /** Puts a point in the place of what was there a round before. */
  write(span: FileSpan, point: Point): void;
  /** The points with `since` <= time < `until`, oldest first. A range within one round. */
  read(span: FileSpan, since: number, until: number): Point[];
  close(): void;
}

/** Open a VE's file, or make it. @throws the system error as it is */
export function openPointFile(path: string): PointFile {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  const title = Buffer.alloc(TITLE.length);
  if (readSync(fd, title, 0, title.length, 0) !== title.length || title.toString('latin1') !== TITLE) {
    ftruncateSync(fd, 0);
    writeSync(fd, TITLE, 0, 'latin1');
  }
  if (fstatSync(fd).size !== FILE_SIZE) ftruncateSync(fd, FILE_SIZE);
  return {
    write(span, point) {
      const record = encode(point);
      writeSync(fd, record, 0, record.length, offsetOf(span, point.time));
    },
    read(span, since, until) {
      const { resolution, points } = SPANS[span];
      const first = Math.ceil(since / resolution);
      const count = Math.min(points, Math.ceil(until / resolution) - first);
      if (count <= 0) return [];
      const found: Point[] = [];
      // At most two pieces: to the end of the ring, and from its beginning.
      for (let done = 0; done < count;) {
        const part = Math.min(count - done, points - (first + done) % points);
        const bytes = Buffer.alloc(part * RECORD);
        readSync(fd, bytes, 0, bytes.length, offsetOf(span, (first + done) * resolution));
        for (let i = 0; i < part; i += 1) {
          const point = decode(bytes.subarray(i * RECORD, (i + 1) * RECORD));
          if (point.time === (first + done + i) * resolution && point.seconds > 0) found.push(point);
        }
        done += part;
      }
      return found;
    },
    close: () => closeSync(fd),
  };
}

/** The VE is gone: so is its history. */
export function removePointFile(path: string): void {
  rmSync(path, { force: true });
}

function encode(point: Point): Buffer {
  const record = Buffer.alloc(RECORD);
  record.writeUInt32LE(point.time, 0);
  let at = record.writeFloatLE(point.seconds, 4);
  for (const name of GAUGES) {
    const { min, mean, max } = point.gauges[name];
    for (const value of [min, mean, max]) at = record.writeFloatLE(value, at);
  }
  for (const name of COUNTERS) at = record.writeFloatLE(point.counters[name], at);
  return record;
}

function decode(record: Buffer): Point {
  const point: Point = { time: record.readUInt32LE(0), seconds: record.readFloatLE(4), gauges: {} as Point['gauges'], counters: {} as Point['counters'] };
  let at = 4;
  const next = (): number => record.readFloatLE(at += 4);
  for (const name of GAUGES) point.gauges[name] = { min: next(), mean: next(), max: next() };
  for (const name of COUNTERS) point.counters[name] = next();
  return point;
}
