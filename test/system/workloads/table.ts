/** The matrix as people read it. */
import type { RowResult } from './row.ts';

/** Lines of a table in Markdown; times in milliseconds. @param times what the two of each round are */
export function table(results: readonly RowResult[], times: readonly [string, string] = ['suspend ms', 'resume ms']): string[] {
  const rows = results.map(({ name, outcome, rounds, suspends, resumes, rate, longestGap }) => [
    name, outcome.slice(0, 200), String(rounds), rate === null ? '-' : rate.toFixed(0), span(suspends), span(resumes), longestGap === null ? '-' : longestGap.toFixed(0),
  ]);
  const head = ['workload', 'outcome', 'rounds', 'answers/s', ...times, 'longest gap ms'];
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
}

/** Median and worst. */
function span(times: readonly number[]): string {
  if (times.length === 0) return '-';
  const sorted = times.toSorted((a, b) => a - b);
  return `${sorted[Math.floor(sorted.length / 2)]!.toFixed(0)} (max ${sorted.at(-1)!.toFixed(0)})`;
}
