/** Compares what was with what is, and tells the difference only: host listings are long. */
import assert from 'node:assert/strict';

/** Assert that two lists of lines hold the same. @param what said when they do not */
export function assertSame(actual: readonly string[], expected: readonly string[], what: string): void {
  const more = actual.filter((line) => !expected.includes(line)).map((line) => `  + ${line}`);
  const less = expected.filter((line) => !actual.includes(line)).map((line) => `  - ${line}`);
  if (more.length + less.length > 0) assert.fail(`${what}:\n${[...more, ...less].slice(0, 60).join('\n')}`);
}
