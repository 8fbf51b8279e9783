/**
 * What it costs to sample many VEs once a second, in CPU time of the process that does it.
 *
 *   node bench/sampler.ts [--ves 200] [--seconds 70] [--awake] [--json]
 *
 * As root. Makes groups of an instance of its own with a process that sleeps in each (with --awake: wakes twice a second, so that no group can be passed over as idle), and a link for each in a network namespace of its own; no VE and no daemon is
 * needed. The time has at least one end of a minute in it, when history is written. The aim is 2 % of one CPU for 200 VEs.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createSampler } from '../src/jobs/sampler.ts';
import { ipBatch } from '../src/kernel/links.ts';
import { createLogger } from '../src/lib/log.ts';
import { createEventBus } from '../src/ops/events.ts';
import { directoriesOf } from '../src/resources/layout.ts';
import { createResources } from '../src/resources/resources.ts';
import { resolveProperties } from '../src/spec/properties.ts';

const { values } = parseArgs({
  options: { ves: { type: 'string', default: '200' }, seconds: { type: 'string', default: '70' }, awake: { type: 'boolean', default: false }, json: { type: 'boolean', default: false }, inside: { type: 'boolean', default: false } },
});
if (!values.inside) process.exit(spawnSync('unshare', ['--net', process.execPath, ...process.argv.slice(1), '--inside'], { stdio: 'inherit' }).status ?? 1);

const count = Number(values.ves);
const ves = Array.from({ length: count }, (_, i) => ({ uuid: `bench-${i}`, number: 101 + i, name: `bench-${i}`, links: [`bench${i}`], memoryLimit: null }));
const folder = mkdtempSync(join(tmpdir(), 'veld-bench-'));
const resources = createResources({ instance: 'bsamp' });
const sampler = createSampler({
  ves: () => ves, resources, events: createEventBus(), log: createLogger({ write: (line) => process.stderr.write(line) }, 'warn'), folder, alerts: { throttled: 25, memory: 90 },
});
// One starter for all, so that this process does not pay for them.
const line = values.awake ? ['perl', '-e', `$| = 1; for (1..${count}) { my $p = fork; if (!$p) { select undef, undef, undef, 0.5 for 1..1200; exit } print "$p\\n" } wait for 1..${count}`]
  : ['sh', '-c', `i=0; while [ $i -lt ${count} ]; do sleep 600 & echo $!; i=$((i+1)); done; wait`];
const starter = spawn(line[0]!, line.slice(1), { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
try {
  resources.setup();
  let pids = '';
  for await (const chunk of starter.stdout as AsyncIterable<Buffer>) if ((pids += chunk.toString()).trim().split('\n').length === count) break;
  const properties = resolveProperties({});
  for (const [i, pid] of pids.trim().split('\n').entries()) {
    resources.create(101 + i, 0, properties);
    for (const group of directoriesOf(resources.groups(101 + i))) writeFileSync(join(group, 'cgroup.procs'), pid);
  }
  await ipBatch(ves.map(({ links: [link] }) => `link add ${link} type veth peer name p${link}`));
  await sleep(2000);

  for (let i = 0; i < 3; i += 1) sampler.tick(); // opened, compiled
  const [cpu, begin] = [process.cpuUsage(), performance.now()];
  const looks: number[] = [];
  while (performance.now() - begin < Number(values.seconds) * 1000) {
    const since = performance.now();
    if (!sampler.tick()) throw new Error('no VE was seen');
    looks.push(performance.now() - since);
    await sleep(Math.max(0, 1000 - (performance.now() - since)));
  }
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - begin) / 1000;
  looks.sort((a, b) => a - b);
  const figures = {
    ves: count, awake: values.awake, seconds: Math.round(seconds), percentOfOneCpu: Number(((user + system) / 1e4 / seconds).toFixed(2)), userMs: Math.round(user / 1000), systemMs: Math.round(system / 1000),
    lookMs: { median: Number(looks[looks.length >> 1]!.toFixed(1)), longest: Number(looks.at(-1)!.toFixed(1)) },
  };
  process.stdout.write(values.json ? `${JSON.stringify(figures)}\n`
    : `${count} VEs for ${figures.seconds} s: ${figures.percentOfOneCpu} % of one CPU; a look takes ${figures.lookMs.median} ms, the longest ${figures.lookMs.longest} ms\n`);
} finally {
  sampler.close();
  for (const number of resources.list()) await resources.kill(number).catch((error: unknown) => process.stderr.write(`${String(error)}\n`));
  if (starter.pid !== undefined && starter.exitCode === null) try { process.kill(-starter.pid, 'SIGKILL'); } catch { /* it has ended with its children */ }
  await resources.teardown();
  rmSync(folder, { recursive: true });
}
