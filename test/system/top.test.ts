/** `veld top` on real VEs: rates against what the kernel counts, processes inside with their pids and users on both sides. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { UsageSample, VeProcesses } from '../../src/ve/types.ts';
import { TEMPLATE } from '../lib/cache.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

interface VeLine { name: string; status: string; cpuPercent: number | null; memoryBytes: number; memoryLimitBytes: number | null; tasks: number; txBytesPerSecond: number | null }

const veld = await fileInstance();
await veld.createRunning('busy', { 'memory.limit': '256M', 'cpu.limit': '50%' });
await veld.api.operate('POST', '/v1/ves', { name: 'still', template: TEMPLATE });
await veld.booted('busy');
/** Start a command inside that goes on after its starter. */
const background = (name: string, ...command: string[]): Promise<unknown> => veld.exec('busy', 'systemd-run', '--quiet', `--unit=${name}`, ...command);

test('a busy VE is seen busy, up to its limit and not beyond; one that is stopped only with --all', async () => {
  await background('spin', 'sh', '-c', 'while :; do :; done');
  const sample = async (...words: string[]): Promise<VeLine[]> => (JSON.parse((await veld.cli('top', '--json', '--once', '--interval', '2', ...words)).stdout) as { ves: VeLine[] }).ves;
  const [busy, ...none] = await sample();
  assert.equal(none.length, 0);
  assert.equal(busy!.name, 'busy');
  // The limit holds over periods of 100 ms: more than it can only be an error of ours. How much less, is the machine's other work.
  assert.ok(busy!.cpuPercent! > 5 && busy!.cpuPercent! < 65, `${busy!.cpuPercent} % of one CPU`);
  assert.equal(busy!.memoryLimitBytes, 256 << 20);
  assert.ok(busy!.memoryBytes > 1 << 20 && busy!.memoryBytes <= 256 << 20);
  assert.ok(busy!.tasks > 3);
  assert.deepEqual((await sample('--all', '--sort', 'name')).map(({ name, status }) => [name, status]), [['busy', 'running'], ['still', 'stopped']]);
});

test('processes: pid on the host and inside, user inside, CPU, and a command that cannot harm', async () => {
  await veld.exec('busy', 'useradd', '--uid', '1234', 'worker');
  await background('worker', '--uid=1234', 'bash', '-c', 'exec -a "$(printf "evil\\033[2J\\033]0;owned\\a\\nforged line")" sleep 1000');
  const { processes } = await until('the worker', async () => {
    const found = await veld.api.call<VeProcesses>('GET', '/v1/ves/busy/processes');
    return found.processes.some(({ user, command }) => user === 'worker' && command.startsWith('evil')) ? found : undefined;
  });
  const init = processes.find(({ insidePid }) => insidePid === 1)!;
  assert.equal(init.pid, (await veld.show('busy')).pid);
  assert.deepEqual([init.user, init.uid], ['root', 0]);
  const worker = processes.find(({ command }) => command.startsWith('evil'))!;
  assert.equal(worker.uid, 1234);
  assert.match(readFileSync(`/proc/${worker.pid}/status`, 'utf8'), new RegExp(`^NSpid:\\t${worker.pid}\\t${worker.insidePid}$`, 'm'));
  const { stdout } = await veld.cli('top', 'busy', '--once', '--interval', '1');
  // eslint-disable-next-line no-control-regex
  assert.doesNotMatch(stdout, /[\x00-\x09\x0b-\x1f\x7f]/);
  assert.match(stdout, new RegExp(`^ *${worker.pid} +${worker.insidePid} +worker +S .* evil forged line( 1000)?$`, 'm'));
  const [first] = stdout.split('\n').slice(2);
  assert.match(first!, / while :; do :; done$/, 'the busiest is the first');
});

test('a frozen VE shows its processes; a stopped one says that it does not run', async () => {
  await veld.cli('freeze', 'busy');
  try {
    const { processes } = await veld.api.call<VeProcesses>('GET', '/v1/ves/busy/processes');
    assert.ok(processes.some(({ insidePid }) => insidePid === 1));
    const { ves } = await veld.api.call<UsageSample>('GET', '/v1/usage');
    assert.equal(ves.find(({ name }) => name === 'busy')?.status, 'frozen');
  } finally {
    await veld.cli('thaw', 'busy');
  }
  assert.equal((await veld.cli('top', 'still', '--once')).code, 8);
});

test('hundreds of processes are answered, and other requests meanwhile', async () => {
  await background('many', 'sh', '-c', 'i=0; while [ $i -lt 400 ]; do sleep 1000 & i=$((i+1)); done; wait');
  await until('400 processes', async () => (await veld.show('busy')).usage!.tasks > 400, 60_000);
  const [{ processes }] = await Promise.all([veld.api.call<VeProcesses>('GET', '/v1/ves/busy/processes'), veld.list()]);
  assert.ok(processes.length > 400);
  // Some of the shell's children may not yet have become what they shall be.
  const named = await until('their commands', async () => {
    const { processes: now } = await veld.api.call<VeProcesses>('GET', '/v1/ves/busy/processes');
    return now.filter(({ command }) => command === 'sleep 1000').length >= 390;
  }, 60_000);
  assert.ok(named);
});
