/**
 * Open files and file locks counted by programs in the kernel, of a range of ids and a group of this test's own. Needs root, cgroup2, clang and bpftool. Where the
 * kernel does not let them stand at its functions it is seen that this is said, and that nothing is left.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { findHierarchies, removeGroup } from '../../kernel/cgroup.ts';
import { createOwned, removeOwned } from './owned.ts';
import { whyRefused } from './traced.ts';

const { unified } = findHierarchies();
const program = (name: string): boolean => spawnSync(name, ['--version']).status === 0;
const skip = process.getuid?.() !== 0 || unified === undefined || !program('bpftool') || !program('clang') ? 'needs root, cgroup2, clang and bpftool' : false;
const runDir = mkdtempSync(join(tmpdir(), 'veld-owned-'));
const group = `${unified}/veld-ownedtest-${process.pid}`;
/** Above those of VEs, as the programs' own proof has one. */
const UID = 0x7ffe0000;
const lockFile = join(tmpdir(), `veld-owned-${process.pid}.lock`);
const [files, locks] = [createOwned('files', runDir), createOwned('locks', runDir)];
if (!skip) {
  mkdirSync(group);
  chownSync(group, UID, UID);
  writeFileSync(lockFile, '', { mode: 0o666 });
  await files.load([]);
  await locks.load([]);
}
const unheld = skip || (files.support() !== true || locks.support() !== true ? 'this kernel does not let programs stand at its functions' : false);
after(async () => {
  for (const one of [files, locks]) one.close();
  removeOwned(runDir);
  removeOwned(runDir);
  assert.deepEqual(readdirSync(runDir), []);
  rmdirSync(runDir);
  rmSync(lockFile, { force: true });
  if (!skip) await removeGroup(group);
});

/** Run Python with the range's first id to its end. @returns what it printed */
function asOwner(code: string, uid = UID): string {
  const { stdout, stderr, status } = spawnSync('setpriv', ['--reuid', String(uid), '--clear-groups', 'python3', '-c', `import errno, fcntl, os, sys\n${code}`], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

const both = (count: number): { barrier: number; limit: number } => ({ barrier: count, limit: count });
const OPEN = 'a = []\ntry:\n  while len(a) < 200: a.append(os.open("/dev/null", 0))\n  print(len(a))\nexcept OSError as e: print(errno.errorcode[e.errno])';
const LOCK = `f = open("${lockFile}", "w"); n = 0\ntry:\n  while n < 50: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2 * n); n += 1\nexcept OSError as e: print(n, errno.errorcode[e.errno], end=" ")\n`;

test('where it cannot be counted that is said, no limit is taken, and nothing is left', { skip: unheld === false || skip }, () => {
  for (const one of [files, locks]) {
    if (one.support() === true) continue;
    assert.match(one.support() as string, /^the kernel does not let BPF programs count (open files|file locks): ./);
    assert.throws(() => one.apply(group, both(5)), { code: 'property.unsupported' });
    one.apply(group, null);
    assert.equal(one.read(group), undefined);
    one.forget(group);
  }
  if (files.support() !== true && locks.support() !== true) assert.deepEqual(readdirSync(runDir).filter((name) => name !== 'programs-forbidden'), []);
  assert.doesNotMatch(readFileSync('/proc/self/mounts', 'utf8'), files.support() === true ? /^$/ : new RegExp(runDir));
});

test('files are refused with ENFILE, counted, and come down to none', { skip: unheld }, () => {
  files.apply(group, null);
  assert.equal(asOwner(OPEN), '200');
  const free = files.read(group)!;
  assert.deepEqual([free.held, free.failcnt, free.limit, free.missed], [0, 0, null, 0]);
  assert.ok(free.maxheld > 200 && free.maxheld < 250, `maxheld ${free.maxheld}`);
  files.apply(group, both(100));
  assert.equal(asOwner(OPEN), 'ENFILE');
  assert.equal(asOwner(OPEN, UID + 65536), '200', 'another range');
  assert.equal(files.read(group)!.failcnt, 1);
  files.apply(group, both(100), true);
  assert.equal(asOwner(OPEN), '200', 'during a restore');
  files.apply(group, both(300));
  assert.equal(asOwner(OPEN), '200');
});

test('locks are refused with ENOLCK at the barrier, and count as the kernel has them', { skip: unheld }, () => {
  locks.apply(group, { barrier: 10, limit: 20 });
  assert.equal(asOwner(`${LOCK}fcntl.lockf(f, fcntl.LOCK_UN, 1, 0); fcntl.flock(f, fcntl.LOCK_EX); print("and one of another kind")`), '10 ENOLCK and one of another kind');
  const { held, maxheld, failcnt, barrier, limit } = locks.read(group)!;
  assert.deepEqual([held, maxheld, failcnt, barrier, limit], [0, 10, 1, 10, 20]);
  locks.apply(group, both(100));
  // Grown together they are one, split they are two.
  asOwner(`${LOCK}fcntl.lockf(f, fcntl.LOCK_EX, 100, 0); fcntl.lockf(f, fcntl.LOCK_UN, 1, 50)`);
  assert.deepEqual([locks.read(group)!.held, locks.read(group)!.maxheld], [0, 50]);
});

test('another daemon finds the programs and what they have counted; a new life of the VE begins with nothing', { skip: unheld }, async () => {
  const other = createOwned('files', runDir);
  await other.load([group]);
  assert.deepEqual(other.read(group), files.read(group));
  files.forget(group);
  assert.equal(other.read(group), undefined);
  other.apply(group, both(80));
  assert.deepEqual([other.read(group)!.maxheld, other.read(group)!.failcnt], [0, 0]);
  assert.equal(asOwner(OPEN), 'ENFILE');
  other.close();
});

test('what libbpf says is wrong is found among all that it says', () => {
  const said = 'libbpf: loading object\nlibbpf: sec \'fentry/x\': found program\nlibbpf: prog \'veld_file_free\': failed to find kernel BTF type ID of \'security_file_free\': -3\nError: failed to load object file\n';
  assert.equal(whyRefused(said)?.message, 'prog \'veld_file_free\': failed to find kernel BTF type ID of \'security_file_free\': -3');
  assert.equal(whyRefused('Error: nothing'), undefined);
});
