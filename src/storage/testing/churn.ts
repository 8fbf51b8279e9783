/** Test helper: changes a tree in every way, as fast as it can, as a user of its own, until its standard input ends. Arguments: folder, uid. */
import { linkSync, lstatSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [, , folder = '', uid = ''] = process.argv;
process.chdir(folder);
process.setgroups?.([]);
process.setgid?.(Number(uid));
process.setuid?.(Number(uid));

let over = false;
process.stdin.on('end', () => { over = true; }).resume();

const pick = <T>(of: readonly T[]): T => of[Math.floor(Math.random() * of.length)]!;
const path = (): string => join(...Array.from({ length: pick([1, 2, 2, 3]) }, () => pick(['a', 'b', 'c', 'd'])));

const CHANGES: ((a: string, b: string) => void)[] = [
  (a) => mkdirSync(a), (a) => mkdirSync(a, { recursive: true }),
  (a) => writeFileSync(a, a.repeat(pick([0, 1, 100, 100_000]))), (a, b) => { writeFileSync(a, b); },
  (a) => { if (lstatSync(a).isFile()) writeFileSync(a, 'more', { flag: 'a' }); },
  (a) => { if (Math.random() < 0.3) rmSync(a, { recursive: true }); },
  (a, b) => renameSync(a, b), (a, b) => linkSync(a, b),
  (a) => symlinkSync(pick(['/etc', '..', 'b', '/usr/bin']), a),
  (a) => { renameSync(a, 'aside'); try { symlinkSync('b', a); rmSync(a); } finally { renameSync('aside', a); } },
];

function step(): void {
  for (let i = 0; i < 50; i += 1) {
    try {
      pick(CHANGES)(path(), path());
    } catch {
      // Taken, or not there.
    }
  }
  if (!over) setTimeout(step, 1);
}
step();
