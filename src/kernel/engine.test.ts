import { test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fingerprintTree } from './engine-build.ts';
import { currentEngine, ENGINE_PROGRAMS, listEngines, pruneEngines, setCurrentEngine } from './engine.ts';

const [A, B, C] = ['a', 'b', 'c'].map((digit) => digit.repeat(64)) as [string, string, string];

function state(t: { after: (f: () => void) => void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'veld-engine-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

function put(stateDir: string, fingerprint: string): void {
  mkdirSync(join(stateDir, 'engine', fingerprint, 'bin'), { recursive: true });
  writeFileSync(join(stateDir, 'engine', fingerprint, 'manifest.json'), JSON.stringify({ fingerprint }));
  for (const name of ENGINE_PROGRAMS) writeFileSync(join(stateDir, 'engine', fingerprint, 'bin', name), '');
}

test('without an engine, or with a link to one that is gone, engine.missing', (t) => {
  const stateDir = state(t);
  const missing = { code: 'engine.missing' };
  assert.throws(() => currentEngine(stateDir), missing);
  mkdirSync(join(stateDir, 'engine'));
  symlinkSync('../../etc', join(stateDir, 'engine', 'current'));
  assert.throws(() => currentEngine(stateDir), missing);
  assert.throws(() => setCurrentEngine(stateDir, A), missing);
});

test('several lie side by side; one is current; prune keeps it and those in use, and takes half built ones', (t) => {
  const stateDir = state(t);
  for (const fingerprint of [A, B, C]) put(stateDir, fingerprint);
  setCurrentEngine(stateDir, A);
  setCurrentEngine(stateDir, B);
  assert.equal(currentEngine(stateDir).criu, join(stateDir, 'engine', B, 'bin/criu'));
  rmSync(join(stateDir, 'engine', B, 'bin/tini'));
  assert.throws(() => currentEngine(stateDir), { code: 'engine.missing', message: /lacks tini/ });
  mkdirSync(join(stateDir, 'engine', 'd'.repeat(64), 'bin'), { recursive: true });
  mkdirSync(join(stateDir, 'engine', `.build-${2 ** 30}`));
  mkdirSync(join(stateDir, 'engine', `.build-${process.pid}`));
  assert.deepEqual(pruneEngines(stateDir, new Set([C])), [A]);
  assert.deepEqual(listEngines(stateDir).toSorted(), [B, C]);
  assert.ok(!existsSync(join(stateDir, 'engine', 'd'.repeat(64))));
  assert.ok(!existsSync(join(stateDir, 'engine', `.build-${2 ** 30}`)));
  assert.ok(existsSync(join(stateDir, 'engine', `.build-${process.pid}`)), 'a build under way is left alone');
});

test('the fingerprint follows content, mode, links and versions, and nothing else', (t) => {
  const stateDir = state(t);
  const make = (name: string, content: string, mode: number, link: string): string => {
    const folder = join(stateDir, name);
    mkdirSync(folder);
    writeFileSync(join(folder, 'program'), content, { mode });
    symlinkSync(link, join(folder, 'link'));
    return folder;
  };
  const same = { crun: '1' };
  const first = fingerprintTree(make('1', 'x', 0o755, 'program'), same);
  assert.equal(fingerprintTree(make('2', 'x', 0o755, 'program'), same), first);
  assert.notEqual(fingerprintTree(join(stateDir, '1'), { crun: '2' }), first);
  assert.notEqual(fingerprintTree(make('3', 'y', 0o755, 'program'), same), first);
  assert.notEqual(fingerprintTree(make('4', 'x', 0o644, 'program'), same), first);
  assert.notEqual(fingerprintTree(make('5', 'x', 0o755, 'other'), same), first);
});
