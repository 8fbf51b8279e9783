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

/**
 * These take long, and what they show changes with few parts: `./check full`, or `VELD_TEST_FULL=1 ./check vm`, runs them, and whoever names them. For each of
 * them another file of the everyday run goes the same way once.
 */
const IN_FULL = [
  ...['baseline', 'beancounters-inside', 'checkpoint-faults', 'dying-network', 'interfaces', 'io-priority', 'lxcfs', 'migrate-copy', 'migrate-hostile-snapshots', 'migrate-hostile-state', 'migrate-lying-target',
    'migrate-rate', 'migrate-snapshots', 'migrate-three', 'nodes-strangers', 'oom-order', 'planning', 'recipes-shipped', 'rounds', 'template-incus', 'traffic', 'xfs'].map((name) => `test/system/${name}.test.ts`),
  ...['debian-12-limits', 'debian-12-quota', 'debian-13-limits', 'debian-13-quota', 'pair-power'].map((name) => `test/vm/${name}.test.ts`),
];

/** Of these the first ones are begun first, where there is time for some only. */
const FIRST = ['test/vm/pair.test.ts', 'test/vm/debian-13.test.ts', 'test/vm/debian-12.test.ts'];

/** Paths of a suite's files, relative to the repository. @param wanted only those whose path contains one of these @param full with those that take long */
export function filesOf(suite: SuiteName, wanted: readonly string[] = [], full = process.env.VELD_TEST_FULL !== undefined): string[] {
  const files = PATTERNS[suite].flatMap((pattern) => globSync(pattern, { cwd: ROOT })).sort();
  const ordered = [...FIRST.filter((file) => files.includes(file)), ...files.filter((file) => !FIRST.includes(file) && !LAST.includes(file)), ...LAST.filter((file) => files.includes(file))];
  if (wanted.length > 0) return ordered.filter((file) => wanted.some((word) => file.includes(word.replace(/^\.\//, ''))));
  return full ? ordered : ordered.filter((file) => !IN_FULL.includes(file));
}

/** Those of a suite that run in `./check full` only. */
export function leftToFull(suite: SuiteName): string[] {
  const now = new Set(filesOf(suite, [], false));
  return filesOf(suite, [], true).filter((file) => !now.has(file));
}
