/** Aims that are a number by themselves, whatever the peers have: who keeps them, and who does not. */
import type { ContestantName } from '../contestants/types.ts';
import { digits, table } from './report.ts';
import type { Samples } from './samples.ts';

export interface Bound {
  what: string;
  /** What its rows begin with. */
  rows: string;
  /** Greatest figure that is good enough. */
  most: number;
}

export interface Kept {
  what: string;
  /** The worst median of its rows, by contestant. */
  worst: Partial<Record<ContestantName, { figure: number; verdict: 'PASS' | 'miss' }>>;
}

/** Bounds of which this run has measured rows. */
export function judgeBounds(samples: Samples, bounds: readonly Bound[]): Kept[] {
  return bounds.flatMap(({ what, rows, most }) => {
    const worst: Kept['worst'] = {};
    for (const [row, of] of samples.rows()) {
      if (!row.startsWith(rows)) continue;
      for (const [name, { median }] of Object.entries(of) as [ContestantName, { median: number }][]) {
        const figure = Math.max(worst[name]?.figure ?? -Infinity, median);
        worst[name] = { figure, verdict: figure <= most ? 'PASS' : 'miss' };
      }
    }
    return Object.keys(worst).length > 0 ? [{ what, worst }] : [];
  });
}

export function boundsTable(kept: readonly Kept[], names: readonly ContestantName[]): string {
  return table([['aim: worst median of its rows', ...names], ...kept.map(({ what, worst }) => [what, ...names.map((name) => (worst[name] ? `${digits(worst[name].figure)} ${worst[name].verdict}` : ''))])]);
}
