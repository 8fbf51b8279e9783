import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { capacityOf, judgeGuarantee, judgeMemory, type CapacityVe, type HostSize } from './capacity.ts';

const GiB = 2 ** 30;
const HOST: HostSize = { cpus: 4, memoryBytes: 8 * GiB, availableBytes: 5 * GiB, swapBytes: 2 * GiB, diskBytes: 100 * GiB, diskFreeBytes: 60 * GiB };
const ve = (given: Partial<CapacityVe>): CapacityVe => ({ name: 'web', running: true, cpuWeight: 100, cpuPercent: null, memoryBytes: null, swapBytes: null, used: null, ...given });

test('promises of those that run, and of all; those without a limit are counted apart', () => {
  const { cpu, memory, memoryAndSwap, disk, ves } = capacityOf(HOST, [
    ve({ cpuPercent: 150, memoryBytes: 2 * GiB, swapBytes: GiB, used: { cpuPercent: 30, memoryBytes: GiB, cacheBytes: GiB / 2, swapBytes: 0 } }),
    ve({ cpuWeight: 300, memoryBytes: 4 * GiB, used: { cpuPercent: 12, memoryBytes: 3 * GiB, cacheBytes: 0, swapBytes: null } }),
    ve({ running: false, cpuPercent: 400, memoryBytes: 8 * GiB, swapBytes: 0 }),
  ]);
  assert.deepEqual(cpu, { cpus: 4, total: 400, promised: 150, promisedToAll: 550, ratio: 0.375, unlimited: 1, used: 42 });
  assert.deepEqual(memory, { total: 8 * GiB, promised: 6 * GiB, promisedToAll: 14 * GiB, ratio: 0.75, unlimited: 0, used: 4 * GiB, cache: GiB / 2, available: 5 * GiB });
  assert.deepEqual(memoryAndSwap, { total: 10 * GiB, promised: 3 * GiB, promisedToAll: 11 * GiB, ratio: 0.3, unlimited: 1, used: GiB });
  assert.deepEqual(disk, { total: 100 * GiB, free: 60 * GiB });
  assert.deepEqual(ves.map(({ cpuShare }) => cpuShare), [0.25, 0.75, null]);
});

test('without swap a limit of memory is one of both', () => {
  const { promised, unlimited } = capacityOf({ ...HOST, swapBytes: 0 }, [ve({ memoryBytes: GiB }), ve({ memoryBytes: GiB, swapBytes: GiB }), ve({})]).memoryAndSwap;
  assert.deepEqual([promised, unlimited], [2 * GiB, 1]);
});

test('a host without VEs, and VEs at which nobody has looked', () => {
  assert.deepEqual([capacityOf(HOST, []).memory.used, capacityOf(HOST, []).cpu.ratio], [0, 0]);
  assert.equal(capacityOf(HOST, [ve({})]).memory.used, null);
});

test('shares of those that run make up the whole', () => {
  fc.assert(fc.property(fc.array(fc.record({ running: fc.boolean(), cpuWeight: fc.integer({ min: 1, max: 10_000 }) }), { minLength: 1 }), (given) => {
    const shares = capacityOf(HOST, given.map(ve)).ves.map(({ cpuShare }) => cpuShare ?? 0);
    const sum = shares.reduce((all, share) => all + share, 0);
    assert.ok(given.some(({ running }) => running) ? Math.abs(sum - 1) < 1e-9 : sum === 0);
  }));
});

test('a limit is too much exactly when the sum is, and never when it becomes less', () => {
  const judge = (others: (number | null)[], wanted: number | null, before?: number | null) => judgeMemory(8 * GiB, others, wanted, { ratio: 1.5 }, before).exceeded;
  assert.equal(judge([6 * GiB, null], 6 * GiB), false, 'just fits');
  assert.equal(judge([6 * GiB, null], 6 * GiB + 1), true);
  assert.equal(judge([20 * GiB], null), false, 'no limit promises nothing that could be counted');
  assert.equal(judge([20 * GiB], GiB, 2 * GiB), false, 'less than before');
  assert.equal(judge([20 * GiB], GiB, null), true, 'a first limit is a promise');
  assert.deepEqual(judgeMemory(8 * GiB, [GiB], GiB, { ratio: 0.1 }), { exceeded: true, promised: 2 * GiB, allowed: Math.floor(0.8 * GiB) });
});

test('nine tenths of the memory can be guaranteed, and whoever takes less than before is not in the way', () => {
  const judge = (others: number[], wanted: number, before?: number) => judgeGuarantee(10 * GiB, others, wanted, before).exceeded;
  assert.equal(judge([4 * GiB], 5 * GiB), false, 'just fits');
  assert.equal(judge([4 * GiB], 5 * GiB + 1), true);
  assert.equal(judge([20 * GiB], 0), false);
  assert.equal(judge([20 * GiB], GiB, GiB), false);
  assert.equal(judge([20 * GiB], GiB + 1, GiB), true);
});
