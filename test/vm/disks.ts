/**
 * The disk with the program (label `veld`, at /opt/veld) that machines get beside their image: what is committed, Node's packages, and the bundle. Made
 * anew for each run, for all machines of it.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CACHE } from '../lib/cache.ts';
import { must } from './build.ts';
import { makeDisk } from './image.ts';

const ROOT = join(import.meta.dirname, '../..');

/** Where Veld is in machines. */
export const PROGRAM = '/opt/veld';

/** Of node_modules, what the program does not need to run. */
const DEVELOPMENT = new Set(['oxlint', '@oxlint', 'oxlint-tsgolint', '@oxlint-tsgolint', 'typescript', '@typescript', '@types', 'fast-check', '.bin', '.cache']);

/** Of a folder that is no repository, what is made there. */
const NOT_SOURCE = new Set(['node_modules', 'dist', '.cache']);

/** The program's disk of this run, made by `./check vm` for all files. */
export function programDisk(): string {
  const disk = process.env.VELD_TEST_VM_PROGRAM;
  if (disk === undefined || !existsSync(disk)) throw new Error('The program\'s disk is missing: run the test by `./check vm FILE`.');
  return disk;
}

/**
 * Make the program's disk: HEAD as it is committed (all that is there where there is no repository), or the working tree with VELD_TEST_VM_TREE=work.
 * @returns path of a raw image, alone in a folder that the caller removes
 */
export function makeProgramDisk(): string {
  mkdirSync(join(CACHE, 'vm'), { recursive: true, mode: 0o700 });
  const work = mkdtempSync(join(CACHE, 'vm', `.program-${process.pid}-`));
  const tree = join(work, 'tree');
  mkdirSync(tree);
  // The repository may belong to another user than the one who tests.
  const git = (...args: string[]): string => must('/usr/bin/git', ['-c', 'safe.directory=*', ...args], { cwd: ROOT });
  if (!existsSync(join(ROOT, '.git'))) {
    for (const name of readdirSync(ROOT)) if (!NOT_SOURCE.has(name)) cpSync(join(ROOT, name), join(tree, name), { recursive: true, preserveTimestamps: true });
  } else if (process.env.VELD_TEST_VM_TREE === 'work') {
    for (const file of git('ls-files', '-z', '--cached', '--others', '--exclude-standard').split('\0')) {
      if (file !== '' && existsSync(join(ROOT, file))) cpSync(join(ROOT, file), join(tree, file), { preserveTimestamps: true });
    }
  } else {
    git('archive', '--output', join(work, 'tree.tar'), 'HEAD');
    must('/usr/bin/tar', ['-C', tree, '-xf', join(work, 'tree.tar')]);
    rmSync(join(work, 'tree.tar'));
  }
  mkdirSync(join(tree, 'node_modules'));
  for (const name of readdirSync(join(ROOT, 'node_modules'))) {
    // Hard links do not reach across file systems, and a copy of 200 MB costs little more.
    if (!DEVELOPMENT.has(name)) must('/usr/bin/cp', ['-a', '--', join(ROOT, 'node_modules', name), join(tree, 'node_modules', name)]);
  }
  must(process.execPath, [join(tree, 'node_modules/rolldown/bin/cli.mjs'), '-c', 'rolldown.config.ts'], { cwd: tree });
  // Newer than the lockfile, whatever the order of copying was: nothing is to be installed inside.
  must('/usr/bin/touch', [join(tree, 'node_modules/.package-lock.json'), join(tree, 'dist/veld.cjs'), join(tree, 'dist/veldd.cjs')]);
  const disk = join(work, 'program.img');
  makeDisk(disk, 640 * 2 ** 20, tree, 'veld');
  rmSync(tree, { recursive: true, force: true });
  return disk;
}
