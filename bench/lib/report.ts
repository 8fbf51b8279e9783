/** Prints what was measured: a table of all rows with ratios, the aims, and the crowd. */
import type { Contestant, ContestantName } from '../contestants/types.ts';
import type { CrowdStep } from '../phases.ts';
import type { Verdict } from './aims.ts';
import type { Figure, Samples } from './samples.ts';

export interface Report {
  machine: { kernel: string; cpus: number; memoryMb: number; load: number[]; date: string };
  titles: Partial<Record<ContestantName, string>>;
  units: { units: Record<string, string[]>; differences: string[] } | null;
  rows: Record<string, Partial<Record<ContestantName, Figure>>>;
  aims: Verdict[];
  crowd: CrowdStep[];
}

export const digits = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2));

function cell(figure: Figure | undefined): string {
  if (!figure) return '';
  return figure.n === 1 ? digits(figure.median) : `${digits(figure.median)} (${digits(figure.min)}-${digits(figure.max)})`;
}

/** Lines of a table; the first column to the left, the others to the right. */
export function table(lines: readonly (readonly string[])[]): string {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines.map((line) => line.map((text, column) => (column === 0 ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0))).join('  ').trimEnd()).join('\n');
}

/** All rows with the ratios of Veld's medians to those of its peers. */
export function figures(samples: Samples, names: readonly ContestantName[], heading: string): string {
  const peers = names.includes('veld') ? names.filter((name) => name !== 'veld') : [];
  return table([[heading, ...names, ...peers.map((peer) => `veld/${peer}`)], ...[...samples.rows()].map(([row, of]) => [
    row, ...names.map((name) => cell(of[name])),
    ...peers.map((peer) => (of.veld && of[peer] ? digits(of.veld.median / of[peer].median) : '')),
  ])]);
}

/** The machine, and what is measured on it. */
export function setting({ kernel, cpus, memoryMb, load, date }: Report['machine'], titles: Report['titles']): string[] {
  return [`${date}: ${cpus} CPUs, ${memoryMb} MB, kernel ${kernel}, load ${load.map((value) => value.toFixed(1)).join(' ')}`, ...Object.entries(titles).map(([name, title]) => `${name}: ${title}`)];
}

/** The report for people. Times are milliseconds: median (least-greatest). */
export function printed(report: Report, samples: Samples, contestants: readonly Contestant[]): string {
  const names = contestants.map(({ name }) => name);
  const parts = setting(report.machine, Object.fromEntries(names.map((name) => [name, report.titles[name]])));
  if (report.units) {
    const counts = Object.entries(report.units.units).map(([name, units]) => `${name} ${units.length}`).join(', ');
    parts.push(`active units: ${counts}; ${report.units.differences.length === 0 ? 'the same in all' : report.units.differences.join('; ')}`);
  }
  if (samples.rows().size > 0) parts.push('', figures(samples, names, 'ms unless said: median (min-max)'));
  if (report.crowd.length > 0) {
    parts.push('', table([
      ['VEs of Veld running', 'mounts', 'nft rules', 'nft elements', 'routes', 'PSS MB', 'groups MB', 'host MB less available'],
      ...report.crowd.map(({ running, tables, memory }) => [String(running), ...[tables.mounts, tables.nftRules, tables.nftElements, tables.routes].map(String),
        digits(memory.pss), digits(memory.groups), digits(memory.available)]),
    ]));
  }
  if (report.aims.length > 0) {
    parts.push('', table([['aim', 'veld', 'peer', 'ratio', ''], ...report.aims.map(({ aim, veld, peers: peer, ratio, verdict }) => [aim, digits(veld), digits(peer), digits(ratio), verdict])]));
  }
  return parts.join('\n');
}
