import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { UsageSample, VeProcess, VeUsage } from '../../ve/types.ts';
import { processRows, veRows } from './rates.ts';
import { processView, visible } from './views.ts';

function sample(clock: number, change: Partial<VeUsage> = {}): UsageSample {
  return {
    time: new Date(1_800_000_000_000 + clock * 1000).toISOString(), host: { cpus: 2, memoryBytes: 1, availableBytes: 1, load: [] },
    ves: [{
      uuid: 'u', number: 101, name: 'web', status: 'running', pid: 7, startedAt: new Date(1_800_000_000_000 - 60_000).toISOString(), clock,
      limits: { cpuPercent: 150, memoryBytes: 1000, tasks: null }, usage: { cpuSeconds: clock * 0.5, memoryBytes: 100, tasks: 3 },
      traffic: { rxBytes: clock * 10, txBytes: clock * 20, rxPackets: 0, txPackets: 0 }, ...change,
    }],
  };
}

test('rates are over the time between the two readings of each VE', () => {
  const [row] = veRows(sample(10), sample(14));
  assert.deepEqual([row!.cpuPercent, row!.rxBytesPerSecond, row!.txBytesPerSecond, row!.uptimeSeconds], [50, 10, 20, 74]);
  assert.deepEqual([row!.memoryBytes, row!.memoryLimitBytes, row!.tasks, row!.tasksLimit, row!.cpuLimitPercent], [100, 1000, 3, null, 150]);
});

test('without something to compare with there is no rate: first sample, another init, a counter that began anew, no time between', () => {
  const now = sample(14);
  for (const before of [undefined, sample(10, { pid: 8 }), sample(10, { uuid: 'other' }), sample(10, { usage: null, traffic: null }), sample(14)]) {
    const [row] = veRows(before, now);
    assert.deepEqual([row!.cpuPercent, row!.rxBytesPerSecond, row!.txBytesPerSecond], [null, null, null]);
  }
  assert.equal(veRows(sample(10, { usage: { cpuSeconds: 99, memoryBytes: 0, tasks: 0 } }), now)[0]!.cpuPercent, null);
  assert.equal(veRows(sample(10), sample(14, { pid: null, startedAt: null, usage: null, traffic: null }))[0]!.cpuPercent, null);
});

const init: VeProcess = {
  pid: 500, insidePid: 1, uid: 0, user: 'root', state: 'S', threads: 1, cpuSeconds: 1, memoryBytes: 0, startedAt: '2026-01-01T00:00:00.000Z', command: '/sbin/init',
};

test('a process is compared with itself, not with one that has its pid now', () => {
  const before = { clock: 1, more: 0, processes: [init, { ...init, pid: 501, insidePid: 2 }] };
  const rows = processRows(before, { clock: 3, more: 0, processes: [{ ...init, cpuSeconds: 2 }, { ...init, pid: 501, insidePid: 90, cpuSeconds: 2 }] });
  assert.deepEqual(rows.map((row) => row.cpuPercent), [50, null]);
});

test('commands are hostile: nothing of them reaches the terminal but characters in their own place', async () => {
  assert.equal(visible('a\x1b[2J\x1b]0;title\x07b\x1b[31mred\nc\td\x9b5A\u202eevil\u200e\x07'), 'abred c dA?evil?'.replace('dA', 'd5A'));
  const view = processView('web');
  const processes = [{ ...init, command: 'x\r\n0 1 root R 99.9 forged', user: 'ro\x1b[2Jot' }];
  await view.sample({ request: async () => ({ clock: 1, more: 0, processes }) } as never);
  const lines = view.table({ sort: 'cpu', reverse: false }, { width: 200, colour: true }).split('\n');
  assert.equal(lines.length, 3, 'a title, one row, the end');
  // eslint-disable-next-line no-control-regex
  assert.doesNotMatch(lines[1]!, /[\x00-\x1f]/);
});
