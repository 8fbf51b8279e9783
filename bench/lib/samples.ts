/** Measurements by row and contestant, and what is said of them. */
import type { ContestantName } from '../contestants/types.ts';

export interface Figure {
  median: number;
  min: number;
  max: number;
  n: number;
}

export interface Samples {
  /** Add a measurement. Rows are shown in the order in which they first came. */
  add(row: string, who: ContestantName, value: number): void;
  /** Time some work, in milliseconds. */
  timed<T>(row: string, who: ContestantName, work: () => Promise<T>): Promise<T>;
  rows(): Map<string, Partial<Record<ContestantName, Figure>>>;
  /** Median, or undefined when it was not measured. */
  median(row: string, who: ContestantName): number | undefined;
}

export function makeSamples(): Samples {
  const all = new Map<string, Partial<Record<ContestantName, number[]>>>();
  const samples: Samples = {
    add(row, who, value) {
      const of = all.get(row) ?? {};
      all.set(row, of);
      (of[who] ??= []).push(value);
    },
    async timed(row, who, work) {
      const begin = performance.now();
      const result = await work();
      samples.add(row, who, performance.now() - begin);
      return result;
    },
    rows: () => new Map([...all].map(([row, of]) => [row, Object.fromEntries(Object.entries(of).map(([who, values]) => [who, figureOf(values)]))])),
    median: (row, who) => {
      const values = all.get(row)?.[who];
      return values && figureOf(values).median;
    },
  };
  return samples;
}

/** Median (the mean of the two middle values of an even number), least and greatest. @param values at least one */
export function figureOf(values: readonly number[]): Figure {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number): number => sorted[index] as number;
  const half = sorted.length >> 1;
  return { median: sorted.length % 2 === 1 ? at(half) : (at(half - 1) + at(half)) / 2, min: at(0), max: at(sorted.length - 1), n: sorted.length };
}
