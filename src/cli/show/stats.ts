/** Tables of what VEs use and have used. */
import type { StatsPoint, VeStats } from '../../ve/stats.ts';
import { layoutTable, type Column, type TableStyle } from './table.ts';
import { formatBytes, formatClock } from './text.ts';

const DASH = '-';
/** Length of a period of the CPU limit, in seconds. */
const PERIOD = 0.1;

const orDash = (value: number | null | undefined, format: (value: number) => string): string => (value === null || value === undefined ? DASH : format(value));
const percent = (value: number): string => (100 * value).toFixed(1);
const bytes = (value: number): string => formatBytes(Math.round(value));
const perSecond = (value: number): string => `${bytes(value)}/s`;

/** Figures per second. */
type Rates = StatsPoint['counters'];

const RATES: readonly Column[] = [
  { title: 'CPU %', right: true }, { title: 'HELD %', right: true }, { title: 'MEMORY', right: true }, { title: 'CACHE', right: true }, { title: 'SWAP', right: true }, { title: 'TASKS', right: true },
  { title: 'READ', right: true }, { title: 'WRITTEN', right: true }, { title: 'RX', right: true }, { title: 'TX', right: true },
  { title: 'CPU WAIT %', right: true }, { title: 'MEM WAIT %', right: true }, { title: 'IO WAIT %', right: true }, { title: 'OOM', right: true },
];

function cells(gauges: { memoryBytes: number | null; cacheBytes: number | null; swapBytes: number | null; tasks: number | null }, rates: Rates | null, oomKills: number | null): string[] {
  return [
    orDash(rates?.cpuSeconds, percent), orDash(rates?.throttledPeriods, (value) => percent(value * PERIOD)), orDash(gauges.memoryBytes, bytes), orDash(gauges.cacheBytes, bytes), orDash(gauges.swapBytes, bytes),
    orDash(gauges.tasks, (value) => String(Math.round(value))), orDash(rates?.diskReadBytes, perSecond), orDash(rates?.diskWriteBytes, perSecond), orDash(rates?.rxBytes, perSecond), orDash(rates?.txBytes, perSecond),
    orDash(rates?.cpuPressureSeconds, percent), orDash(rates?.memoryPressureSeconds, percent), orDash(rates?.ioPressureSeconds, percent), orDash(oomKills, String),
  ];
}

/** A line a VE: its last sample. */
export function nowTable(all: readonly VeStats[], style: TableStyle): string {
  return layoutTable([{ title: 'NAME', shrink: true }, ...RATES], all.map(({ name, sample }) => [
    name, ...sample === null ? RATES.map(() => DASH) : cells(sample.gauges, sample.rates, sample.counters.oomKills),
  ]), style);
}

/** A line a point of one VE: rates and means over it. */
export function historyTable(points: readonly StatsPoint[], style: TableStyle): string {
  return layoutTable([{ title: 'TIME' }, ...RATES], points.map(({ time, seconds, gauges, counters }) => {
    const rates = Object.fromEntries(Object.entries(counters).map(([name, value]) => [name, value === null || seconds === 0 ? null : value / seconds])) as Rates;
    const means = { memoryBytes: gauges.memoryBytes.mean, cacheBytes: gauges.cacheBytes.mean, swapBytes: gauges.swapBytes.mean, tasks: gauges.tasks.mean };
    return [formatClock(new Date(time)), ...cells(means, rates, counters.oomKills)];
  }), style);
}
