/** Which test files belong to which suite, and in which order they run. */
import { globSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

export type SuiteName = 'lint' | 'unit' | 'system' | 'vm';

const PATTERNS: Record<SuiteName, string[]> = {
  lint: ['test/lint/*.test.ts'],
  unit: ['src/**/*.test.ts', 'bench/**/*.test.ts', 'test/unit/**/*.test.ts', 'scripts/**/*.test.ts'],
  system: ['test/system/*.test.ts'],
  vm: ['test/vm/**/*.test.ts'],
};

/** These run after all others, in this order: what they look for is what the others left. */
const LAST = ['test/system/crash.test.ts', 'test/system/leaks.test.ts'];

/** Paths of a suite's files, relative to the repository. @param wanted only those whose path contains one of these */
export function filesOf(suite: SuiteName, wanted: readonly string[] = []): string[] {
  const files = PATTERNS[suite].flatMap((pattern) => globSync(pattern, { cwd: ROOT })).sort();
  const ordered = [...files.filter((file) => !LAST.includes(file)), ...LAST.filter((file) => files.includes(file))];
  return wanted.length === 0 ? ordered : ordered.filter((file) => wanted.some((word) => file.includes(word.replace(/^\.\//, ''))));
}
