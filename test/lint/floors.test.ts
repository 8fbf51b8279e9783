/**
 * The floors are held by lint: for every pair of folders this writes one importing file into a tree that mirrors src/, lints it with
 * the real configuration, and compares what oxlint refuses with the table below (written apart from the configuration).
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';

const ROOT = join(import.meta.dirname, '../..');

/** Folder -> floor. */
const FLOORS: Record<string, number> = {
  lib: 0, kernel: 0, store: 0,
  spec: 1, ops: 1, client: 1,
  storage: 2, templates: 2, network: 2, resources: 2, checkpoint: 2,
  ve: 3,
  cluster: 4, migration: 4.1, servers: 4.2,
  api: 5, jobs: 5,
  cli: 6, vz: 6,
};
const FOLDERS = Object.keys(FLOORS);
/** What a door may import besides types. */
const DOOR_KNOWS = ['lib', 'kernel', 'spec', 'client', 'cluster', 'migration', 'servers'];

function mayImport(from: string, to: string, typeOnly: boolean): boolean {
  if (from === to) return true;
  if (from === 'lib') return false;
  if (to === 'lib') return true;
  const a = FLOORS[from]!;
  const b = FLOORS[to]!;
  if (from === 'client') return b === 0 || (b > 1 && typeOnly);
  if (a === 6) return b < 6 && (typeOnly || DOOR_KNOWS.includes(to));
  return b < a || (typeOnly && a === 2 && b === 2);
}

let tree: string;
let refused: Set<string>;

/** Lint the tree. @returns rule names per file, `FILE RULE` */
function lint(): Set<string> {
  const result = spawnSync(process.execPath, [join(ROOT, 'node_modules/oxlint/bin/oxlint'), '-c', '.oxlintrc.json', '-f', 'json', 'src'],
    { cwd: tree, encoding: 'utf8', maxBuffer: 64 << 20 });
  assert.equal(result.stderr, '');
  const report = JSON.parse(result.stdout) as { diagnostics: { filename: string; code: string }[] };
  return new Set(report.diagnostics.map((d) => `${d.filename} ${d.code}`));
}

function write(path: string, text: string): void {
  mkdirSync(dirname(join(tree, path)), { recursive: true });
  writeFileSync(join(tree, path), text);
}

before(() => {
  tree = mkdtempSync(join(tmpdir(), 'veld-floors-'));
  cpSync(join(ROOT, '.oxlintrc.json'), join(tree, '.oxlintrc.json'));
  cpSync(join(ROOT, 'test/lint'), join(tree, 'test/lint'), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
  write('src/daemon.ts', "import { run } from './cli/face.ts';\nexport const go = run;\n");
  for (const folder of FOLDERS) write(`src/${folder}/face.ts`, 'export const run = 1;\nexport type Shape = number;\n');
  for (const from of FOLDERS) {
    write(`src/${from}/to-daemon.ts`, "import { go } from '../daemon.ts';\nexport const x = go;\n");
    for (const to of FOLDERS) {
      if (from === to) continue;
      write(`src/${from}/value-of-${to}.ts`, `import { run } from '../${to}/face.ts';\nexport const x = run;\n`);
      write(`src/${from}/type-of-${to}.ts`, `import type { Shape } from '../${to}/face.ts';\nexport const x: Shape = 1;\n`);
      write(`src/${from}/deep/again-${to}.ts`, `export { run } from '../../${to}/face.ts';\n`);
    }
  }
  write('src/ve/ring-a.ts', "import { b } from './ring-b.ts';\nexport const a = (): number => b();\n");
  write('src/ve/ring-b.ts', "import { a } from './ring-a.ts';\nexport const b = (): number => a();\n");
  write('src/ve/dynamic.ts', "export const load = () => import('../cli/face.ts');\n");
  write('src/ve/dynamic-own.ts', "export const own = () => import('./face.ts');\n");
  write('src/cli/deep/lazy.ts', "export const load = () => import('../../client/face.ts');\n");
  write('src/cli/deep/sneaky.ts', "export const load = () => import('../../api/face.ts');\n");
  write('src/ve/any.ts', 'export const f = (x: any): number => x.y;\n');
  write('src/ve/guest.ts', "import { readFileSync } from 'node:fs';\nexport const f = (pid: number): string => readFileSync(`/proc/${pid}/root/etc/hosts`, 'utf8');\n");
  write('src/ve/host.ts', "import { readFileSync } from 'node:fs';\nexport const f = (pid: number): string => readFileSync(`/proc/${pid}/stat`, 'utf8');\n");
  write('src/kernel/guest-tree.ts', "import { rmdirSync } from 'node:fs';\nexport const f = (upper: string): void => rmdirSync(upper);\n");
  write('src/ve/shell.ts', "import { execSync } from 'node:child_process';\nexport const f = (): Buffer => execSync('ls');\n");
  refused = lint();
});
after(() => rmSync(tree, { recursive: true, force: true }));

const floors = (file: string): boolean => refused.has(`${file} eslint(no-restricted-imports)`);

for (const from of FOLDERS) {
  test(`imports of src/${from}: what the table of floors allows passes, all else is refused`, () => {
    assert.ok(floors(`src/${from}/to-daemon.ts`), 'daemon.ts');
    let forbidden = 0;
    for (const to of FOLDERS) {
      if (from === to) continue;
      assert.equal(floors(`src/${from}/value-of-${to}.ts`), !mayImport(from, to, false), `value of src/${to}`);
      assert.equal(floors(`src/${from}/type-of-${to}.ts`), !mayImport(from, to, true), `type of src/${to}`);
      assert.equal(floors(`src/${from}/deep/again-${to}.ts`), !mayImport(from, to, false), `export from src/${to}`);
      if (!mayImport(from, to, false)) forbidden += 1;
    }
    assert.ok(forbidden > 0);
  });
}

test('the daemon is below the doors', () => assert.ok(floors('src/daemon.ts')));
test('a ring of imports is refused', () => assert.ok(refused.has('src/ve/ring-a.ts import(no-cycle)')));
test('import() of another folder is refused; of the same folder, or by a door of the client, it passes', () => {
  const rule = 'veld(own-folder-dynamic-import)';
  assert.ok(refused.has(`src/ve/dynamic.ts ${rule}`));
  assert.ok(refused.has(`src/cli/deep/sneaky.ts ${rule}`));
  assert.ok(!refused.has(`src/ve/dynamic-own.ts ${rule}`));
  assert.ok(!refused.has(`src/cli/deep/lazy.ts ${rule}`));
});
test('any is refused', () => assert.ok(refused.has('src/ve/any.ts typescript(no-explicit-any)')));
test('fs on a path inside a VE is refused outside kernel/guest-tree.ts', () => {
  assert.ok(refused.has('src/ve/guest.ts veld(guest-paths)'));
  assert.ok(!refused.has('src/ve/host.ts veld(guest-paths)'));
  assert.ok(!refused.has('src/kernel/guest-tree.ts veld(guest-paths)'));
});
test('a shell is refused', () => assert.ok(refused.has('src/ve/shell.ts veld(no-shell)')));
