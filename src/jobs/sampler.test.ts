import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLogger } from '../lib/log.ts';
import { createEventBus } from '../ops/events.ts';
import type { VeldEvent } from '../ops/types.ts';
import type { VeGroups } from '../resources/types.ts';
import { createSampler, type SampledVe, type Sampler } from './sampler.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-sampler-'));
after(() => rmSync(folder, { recursive: true }));

/** Files that look like groups of cgroup2, and a clock in the test's hands. */
function bench(name: string) {
  const base = join(folder, name);
  mkdirSync(join(base, 'monitors'), { recursive: true });
  const clock = { now: 1_700_000_040 };
  const ves: SampledVe[] = [];
  const events: VeldEvent[] = [];
  const bus = createEventBus();
  bus.subscribe((event) => events.push(event));
  const lines: string[] = [];
  const groups = (number: number | string): VeGroups => ({ unified: join(base, String(number)), v1: {}, path: `/${name}/${number}` });
  const make = (): Sampler => createSampler({
    ves: () => ves, resources: { groups, monitorGroups: () => groups('monitors') }, events: bus, log: createLogger({ write: (line) => lines.push(line) }, 'debug'),
    folder: join(folder, `${name}-history`), alerts: { throttled: 25, memory: 90 }, now: () => clock.now,
  });
  const use = (number: number, cpuSeconds: number, oomKills = 0): void => {
    mkdirSync(groups(number).unified, { recursive: true });
    writeFileSync(join(groups(number).unified, 'cpu.stat'), `usage_usec ${cpuSeconds * 1e6}\n`);
    writeFileSync(join(groups(number).unified, 'memory.events'), `oom_kill ${oomKills}\n`);
  };
  const stop = (number: number): void => rmSync(groups(number).unified, { recursive: true });
  return { clock, ves, events, bus, lines, make, use, stop, folder: join(folder, `${name}-history`) };
}

const VE: SampledVe = { uuid: 'uuid-1', number: 101, name: 'web', links: ['lo'], memoryLimit: null };

test('nothing is sampled where no VE runs; one that comes is, from its first second', () => {
  const { clock, ves, make, use, stop, folder } = bench('come');
  const sampler = make();
  assert.equal(sampler.tick(), false);
  ves.push(VE);
  clock.now += 60; // asked for anew
  assert.equal(sampler.tick(), false, 'it is there, and does not run');
  use(101, 3);
  clock.now += 1;
  assert.equal(sampler.tick(), true);
  assert.equal(sampler.last('uuid-1')!.step!.grown.cpuSeconds, 3);
  assert.ok(sampler.last('uuid-1')!.reading.rxBytes >= 0);
  use(101, 3.5);
  clock.now += 1;
  sampler.tick();
  assert.deepEqual(sampler.history('uuid-1', '10m').map(({ time, counters }) => [time - clock.now, counters.cpuSeconds]), [[-1, 3], [0, 0.5]]);
  stop(101);
  clock.now += 1;
  assert.equal(sampler.tick(), true, 'its seconds are unwritten');
  assert.equal(sampler.last('uuid-1'), undefined);
  clock.now += 60;
  assert.equal(sampler.tick(), false, 'written: it stands still');
  assert.deepEqual(readdirSync(folder), ['uuid-1']);
  assert.equal(sampler.history('uuid-1', '1d').at(-1)!.counters.cpuSeconds, 3.5, 'also of one that does not run');
  sampler.close();
});

test('a VE whose groups are there before it is known: what it used meanwhile is of a sample as long as that', async () => {
  const { clock, ves, make, use } = bench('young');
  const sampler = make();
  sampler.tick();
  use(101, 2);
  sampler.tick();
  await sleep(500);
  ves.push(VE);
  clock.now += 60; // asked for anew
  sampler.tick();
  const { seconds, grown } = sampler.last('uuid-1')!.step!;
  assert.equal(grown.cpuSeconds, 2);
  assert.ok(seconds >= 1.5, `${seconds} s`);
  sampler.close();
});

test('a VE that ran before the daemon began: what it used then is not of the first second', () => {
  const { clock, ves, make, use } = bench('before');
  ves.push(VE);
  use(101, 1000);
  const first = make();
  first.tick();
  assert.equal(first.last('uuid-1')!.step, undefined);
  use(101, 1001);
  clock.now += 1;
  first.tick();
  first.close();
  const second = make();
  assert.equal(second.history('uuid-1', '1d')[0]!.counters.cpuSeconds, 1, 'kept over the daemon\'s end');
  second.close();
});

test('a VE that is destroyed takes its history with it, a renamed one keeps it; another one with its number has its own', () => {
  const { clock, ves, bus, make, use, folder } = bench('gone');
  ves.push(VE);
  use(101, 1);
  const sampler = make();
  sampler.start();
  sampler.tick();
  use(101, 2);
  clock.now += 1;
  sampler.tick();
  clock.now += 60;
  sampler.tick();
  ves[0] = { ...VE, name: 'shop' };
  bus.emit('ve.renamed');
  clock.now += 1;
  sampler.tick();
  assert.ok(existsSync(join(folder, 'uuid-1')));
  ves[0] = { ...VE, uuid: 'uuid-2' };
  bus.emit('ve.destroyed', { ve: 'uuid-1' });
  assert.equal(existsSync(join(folder, 'uuid-1')), false, 'at once');
  writeFileSync(join(folder, 'uuid-3'), 'of a VE that went while no daemon ran');
  clock.now += 1;
  sampler.tick();
  assert.deepEqual(readdirSync(folder), []);
  assert.equal(sampler.history('uuid-2', '10m').length, 0, 'what its groups have counted before is not its first second\'s');
  clock.now += 1;
  sampler.tick();
  assert.equal(sampler.history('uuid-2', '10m').length, 1);
  sampler.close();
});

test('an OOM kill is an event of the VE, and in the log', () => {
  const { clock, ves, events, lines, make, use } = bench('oom');
  ves.push(VE);
  use(101, 1);
  const sampler = make();
  sampler.tick();
  use(101, 1.5, 2);
  clock.now += 1;
  sampler.tick();
  clock.now += 1;
  sampler.tick();
  const told = events.filter(({ type }) => type === 've.oom_killed');
  assert.deepEqual(told.map(({ ve, data }) => [ve, data?.name, data?.count, data?.processes]), [['uuid-1', 'web', 2, []]]);
  assert.equal(lines.filter((line) => line.includes('ve.oom_killed')).length, 1);
  sampler.close();
});

test('kills of a VE that ends before the next look, or that were still gathered, are told of when it ends', () => {
  const { clock, ves, events, make, use, stop } = bench('end');
  ves.push(VE, { ...VE, uuid: 'uuid-2', number: 102, name: 'short' });
  use(101, 1);
  const sampler = make();
  sampler.tick();
  clock.now += 1;
  const counts = (): unknown[] => events.filter(({ type }) => type === 've.oom_killed').map(({ data }) => `${String(data?.name)} ${String(data?.count)}`);
  use(101, 1.5, 1);
  sampler.tick();
  use(101, 1.6, 4);
  clock.now += 1;
  sampler.tick();
  assert.deepEqual(counts(), ['web 1'], 'three are gathered');
  use(101, 1.7, 5);
  sampler.lastLook(101);
  assert.deepEqual(counts(), ['web 1', 'web 4']);
  // Its groups are not gone at once.
  clock.now += 1;
  sampler.tick();
  stop(101);
  sampler.tick();
  use(102, 0.3, 1); // began and ended between two looks
  sampler.lastLook(102);
  sampler.tick();
  stop(102);
  sampler.lastLook(103);
  assert.deepEqual(counts(), ['web 1', 'web 4', 'short 1']);
  sampler.close();
});

test('what cannot be read or written is said once, and tried again', () => {
  const { clock, ves, lines, make, use, folder } = bench('fail');
  ves.push(VE);
  use(101, 1);
  writeFileSync(folder, 'in the way');
  const sampler = make();
  for (let i = 0; i < 3; i += 1) {
    sampler.tick();
    clock.now += 1;
  }
  assert.equal(lines.filter((line) => line.includes('"level":50') || line.includes('cannot be sampled')).length, 1);
  rmSync(folder);
  clock.now += 60;
  assert.equal(sampler.tick(), true);
  assert.ok(sampler.last('uuid-1'));
  sampler.close();
});
