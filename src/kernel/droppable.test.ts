import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { hasDroppable, haveDroppable, MAP_DROPPABLE } from './droppable.ts';
import { probeMapping } from './syscalls.ts';

/** A process that has made an anonymous mapping of a type. */
async function mapping(type: number, work: (pid: number) => Promise<void>): Promise<void> {
  const number = process.arch === 'arm64' ? 222 : 9;
  const child = spawn('perl', ['-e', `syscall(${number}, 0, 4096, 3, ${0x20 | type}, -1, 0) == -1 and die $!; $| = 1; print "made"; sleep 60`], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(child.stdout, 'data');
    await work(child.pid!);
  } finally {
    child.kill('SIGKILL');
  }
}

const needsKernel = { skip: !hasDroppable() && 'this kernel has no such mappings' };

test('a mapping that the kernel may drop is found, another one not', needsKernel, async () => {
  await mapping(MAP_DROPPABLE, (pid) => mapping(2, async (other) => {
    assert.equal(await haveDroppable([other]), false);
    assert.equal(await haveDroppable([other, pid]), true);
  }));
});

test('a process that is not there has none', async () => {
  assert.equal(await haveDroppable([2 ** 22]), false);
});

test('a type of mapping that no kernel knows is none', () => {
  assert.equal(probeMapping(2), true, 'MAP_PRIVATE');
  assert.equal(probeMapping(0x0f), false);
});
