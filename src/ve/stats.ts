/** What the API tells of samples and history. */
import { COUNTERS, GAUGES, SPANS, type Counter, type Gauge, type Point, type Span } from '../resources/history/fields.ts';
import type { SampleReader } from '../resources/history/history.ts';
import type { VeDetail } from './types.ts';

/** Null: the host does not count it. */
type Figures<Name extends string> = Record<Name, number | null>;

export interface StatsPoint {
  /** When it began, ISO 8601. */
  time: string;
  /** For how many of its seconds there are samples. */
  seconds: number;
  gauges: Record<Gauge, { min: number | null; mean: number | null; max: number | null }>;
  /** By how much each grew. */
  counters: Figures<Counter>;
}

export interface VeStats {
  uuid: string;
  number: number;
  name: string;
  status: VeDetail['status'];
  limits: { cpuPercent: number | null; memoryBytes: number | null; swapBytes: number | null; tasks: number | null };
  /** Null while it does not run. */
  sample: {
    /** ISO 8601. */
    time: string;
    gauges: Figures<Gauge>;
    /** Since the VE was started. */
    counters: Figures<Counter>;
    /** Growth per second since the sample before; null for the first. */
    rates: Figures<Counter> | null;
  } | null;
  history: {
    /** Seconds from one point to the next. */
    resolution: number;
    /** Oldest first; the last is still growing. */
    points: StatsPoint[];
  } | null;
}

/** A VE's last sample, and its history where a span is asked for. */
export function viewStats(ve: VeDetail, sampler: SampleReader, span?: Span): VeStats {
  const last = sampler.last(ve.uuid);
  const { uuid, number, name, status, properties } = ve;
  return {
    uuid, number, name, status,
    limits: { cpuPercent: properties['cpu.limit'], memoryBytes: properties['memory.limit'], swapBytes: properties['memory.swap'], tasks: properties['pids.limit'] },
    sample: last === undefined ? null : {
      time: isoOf(last.time),
      gauges: figures(GAUGES, (key) => last.reading[key]),
      counters: figures(COUNTERS, (key) => last.reading[key]),
      rates: last.step === undefined ? null : figures(COUNTERS, (key) => last.step!.grown[key] / last.step!.seconds),
    },
    history: span === undefined ? null : { resolution: SPANS[span].resolution, points: sampler.history(uuid, span).map(viewPoint) },
  };
}

function viewPoint({ time, seconds, gauges, counters }: Point): StatsPoint {
  const spread = {} as StatsPoint['gauges'];
  for (const name of GAUGES) spread[name] = { min: known(gauges[name].min), mean: known(gauges[name].mean), max: known(gauges[name].max) };
  return { time: isoOf(time), seconds: known(seconds) ?? 0, gauges: spread, counters: figures(COUNTERS, (key) => counters[key]) };
}

function figures<Name extends string>(names: readonly Name[], of: (name: Name) => number): Figures<Name> {
  const all = {} as Figures<Name>;
  for (const name of names) all[name] = known(of(name));
  return all;
}

/** At most six digits behind the point: kept are 24 bits. */
function known(value: number): number | null {
  return Number.isNaN(value) ? null : Math.round(value * 1e6) / 1e6;
}

function isoOf(time: number): string {
  return new Date(time * 1000).toISOString();
}
