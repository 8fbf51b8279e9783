/** What Veld tells the programs of owner.bpf.h, on the real kernel: this part of them every kernel takes. Needs root, clang and bpftool. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { mapOf, missedBy, openPinned, update } from '../../kernel/bpf.ts';
import { detachMount } from '../../kernel/syscalls.ts';
import { closeStanding, NO_LIMIT, order, VE, valueOf, wordAt, type Standing } from './traced.ts';

const program = (name: string): boolean => spawnSync(name, ['--version']).status === 0;
const skip = process.getuid?.() !== 0 || !program('bpftool') || !program('clang') ? 'needs root, clang and bpftool' : false;
const folder = mkdtempSync(join(tmpdir(), 'veld-control-'));
after(() => { rmSync(folder, { recursive: true }); });

function must(file: string, args: string[], input = ''): void {
  const { status, stderr } = spawnSync(file, args, { input, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

function load(): Standing {
  const [object, mount] = [join(folder, 'control.o'), join(folder, 'bpf')];
  must('clang', ['-target', 'bpf', '-mcpu=v3', '-O2', '-g', '-I', import.meta.dirname, '-x', 'c', '-c', '-o', object, '-'], '#include "owner.bpf.h"\n');
  mkdirSync(mount);
  must('mount', ['-t', 'bpf', 'veld-bpf', mount]);
  try {
    must('bpftool', ['prog', 'loadall', object, join(mount, 'all'), 'pinmaps', join(mount, 'all')]);
    return { ves: mapOf(openPinned(join(mount, 'all/veld_ves'))), control: openPinned(join(mount, 'all/veld_control')), programs: [] };
  } finally {
    detachMount(mount);
  }
}

const KEY = 0x3c00n;

test('a life begins, is limited and ends; what is held stays with the ids, peak and failcnt go with the life', { skip }, () => {
  const standing = load();
  const value = (): Record<keyof typeof VE, bigint> | undefined => {
    const found = valueOf(standing, KEY);
    return found && Object.fromEntries(Object.keys(VE).map((word) => [word, wordAt(found, word as keyof typeof VE)])) as Record<keyof typeof VE, bigint>;
  };
  const count = (changes: Partial<Record<keyof typeof VE, bigint>>): void => {
    const bytes = Buffer.alloc(standing.ves.valueSize);
    for (const [word, amount] of Object.entries({ ...value(), ...changes })) bytes.writeBigUInt64LE(amount, VE[word as keyof typeof VE] * 8);
    const key = Buffer.alloc(4);
    key.writeUInt32LE(Number(KEY));
    update(standing.ves, key, bytes);
  };
  assert.equal(standing.ves.valueSize, Object.keys(VE).length * 8);
  assert.equal(missedBy(standing.control), 0);

  assert.equal(order(standing, { what: 'limit', key: KEY, group: 7n, barrier: 1n, limit: 1n }), false, 'not before it has begun');
  assert.equal(value(), undefined);
  assert.equal(order(standing, { what: 'begin', key: KEY, group: 7n, barrier: 10n, limit: 20n, quiet: true }), true);
  assert.deepEqual(value(), { group: 7n, held: 0n, maxheld: 0n, failcnt: 0n, barrier: 10n, limit: 20n, quiet: 1n });
  count({ held: 5n, maxheld: 9n, failcnt: 3n });
  assert.equal(order(standing, { what: 'limit', key: KEY, group: 7n }), true);
  assert.deepEqual(value(), { group: 7n, held: 5n, maxheld: 9n, failcnt: 3n, barrier: NO_LIMIT, limit: NO_LIMIT, quiet: 0n }, 'what is counted stays');
  assert.equal(order(standing, { what: 'limit', key: KEY, group: 8n }), false, 'another life');
  assert.equal(order(standing, { what: 'end', key: KEY, group: 8n }), false);

  assert.equal(order(standing, { what: 'end', key: KEY, group: 7n }), true);
  assert.deepEqual([value()?.group, value()?.held], [0n, 5n], 'somebody has some of it still');
  assert.equal(order(standing, { what: 'begin', key: KEY, group: 9n, barrier: 4n, limit: 4n }), true);
  assert.deepEqual(value(), { group: 9n, held: 5n, maxheld: 5n, failcnt: 0n, barrier: 4n, limit: 4n, quiet: 0n });
  count({ held: 0n });
  assert.equal(order(standing, { what: 'end', key: KEY, group: 9n }), true);
  assert.equal(value(), undefined, 'nothing is left of it');
  closeStanding(standing);
});
