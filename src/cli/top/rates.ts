/** Rates, of two samples of counters. The daemon keeps nothing for its readers: each makes rates over the interval it likes. */
import type { UsageSample, VeProcesses, VeUsage, VeProcess } from '../../ve/types.ts';

/** A VE as `veld top` shows it. Rates are null where there is nothing to compare with: a first sample, a VE that was started meanwhile. */
export interface VeRow {
  name: string;
  number: number;
  uuid: string;
  status: string;
  uptimeSeconds: number | null;
  /** Of one CPU: 200 is two whole CPUs. */
  cpuPercent: number | null;
  cpuLimitPercent: number | null;
  memoryBytes: number | null;
  memoryLimitBytes: number | null;
  tasks: number | null;
  tasksLimit: number | null;
  rxBytesPerSecond: number | null;
  txBytesPerSecond: number | null;
}

/** A process as `veld top VE` shows it. */
export interface ProcessRow extends Omit<VeProcess, 'cpuSeconds'> {
  cpuPercent: number | null;
  cpuSeconds: number;
}

/** Rows of all VEs, in the order of the sample. @param before an earlier sample, or none */
export function veRows(before: UsageSample | undefined, now: UsageSample): VeRow[] {
  const earlier = new Map(before?.ves.map((ve) => [ve.uuid, ve]));
  return now.ves.map((ve) => {
    const was = earlier.get(ve.uuid);
    // Another init, other counters.
    const old: VeUsage | undefined = was?.pid === ve.pid ? was : undefined;
    const seconds = ve.clock - (old?.clock ?? Number.NaN);
    const { name, number, uuid, status } = ve;
    return {
      name, number, uuid, status,
      uptimeSeconds: ve.startedAt === null ? null : Math.max(0, (Date.parse(now.time) - Date.parse(ve.startedAt)) / 1000),
      cpuPercent: percent(old?.usage?.cpuSeconds, ve.usage?.cpuSeconds, seconds),
      cpuLimitPercent: ve.limits.cpuPercent,
      memoryBytes: ve.usage?.memoryBytes ?? null,
      memoryLimitBytes: ve.limits.memoryBytes,
      tasks: ve.usage?.tasks ?? null,
      tasksLimit: ve.limits.tasks,
      rxBytesPerSecond: rate(old?.traffic?.rxBytes, ve.traffic?.rxBytes, seconds),
      txBytesPerSecond: rate(old?.traffic?.txBytes, ve.traffic?.txBytes, seconds),
    };
  });
}

/** Rows of all processes, in the order of the sample. @param before an earlier sample, or none */
export function processRows(before: VeProcesses | undefined, now: VeProcesses): ProcessRow[] {
  // A pid alone may by now belong to another; the pid inside goes up one by one, so both together do not come again so soon.
  const key = (process: VeProcess): string => `${process.pid} ${process.insidePid}`;
  const earlier = new Map(before?.processes.map((process) => [key(process), process]));
  const seconds = now.clock - (before?.clock ?? Number.NaN);
  return now.processes.map((process) => ({ ...process, cpuPercent: percent(earlier.get(key(process))?.cpuSeconds, process.cpuSeconds, seconds) }));
}

function percent(before: number | undefined, now: number | undefined, seconds: number): number | null {
  const value = rate(before, now, seconds);
  return value === null ? null : Math.round(value * 1000) / 10;
}

/** Growth per second; null when one of both is missing, or the counter began anew. */
function rate(before: number | undefined, now: number | undefined, seconds: number): number | null {
  if (before === undefined || now === undefined || !(seconds > 0) || now < before) return null;
  return (now - before) / seconds;
}
