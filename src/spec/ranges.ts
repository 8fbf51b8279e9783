/** Lists of numbers as the kernel writes CPUs and NUMA nodes: `0-3,8`. Source: Documentation/core-api/kernel-api.rst, bitmap_parselist. */

/** @returns ascending, each once; undefined for what is no such list, or has a number above `max` */
export function parseRanges(text: string, max = 8191): number[] | undefined {
  const numbers = new Set<number>();
  if (text.trim() === '') return [];
  for (const part of text.split(',')) {
    const found = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part);
    if (found === null) return undefined;
    const [first, last] = [Number(found[1]), Number(found[2] ?? found[1])];
    if (first > last || last > max) return undefined;
    for (let number = first; number <= last; number++) numbers.add(number);
  }
  return [...numbers].sort((a, b) => a - b);
}

/** The shortest text of a list. @param numbers in any order */
export function formatRanges(numbers: readonly number[]): string {
  const ranges: [first: number, last: number][] = [];
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) {
    const range = ranges.at(-1);
    if (range?.[1] === number - 1) range[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
}
