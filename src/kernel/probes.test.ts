import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { kernelVersion, runProbes } from './probes.ts';

function folder(t: TestContext): { stateDir: string; runDir: string } {
  const path = mkdtempSync(join(tmpdir(), 'veld-probes-'));
  t.after(() => rmSync(path, { recursive: true }));
  return { stateDir: join(path, 'state'), runDir: join(path, 'run') };
}

test('versions are compared as numbers', () => {
  assert.equal(kernelVersion('5.19.0-50-generic').ok, true);
  assert.equal(kernelVersion('5.4.0').ok, false);
  assert.equal(kernelVersion('10.1-rc1').ok, true);
  assert.match(kernelVersion('5.15.0').message, /older than 5\.19/);
});

const root = { skip: process.getuid?.() !== 0 };

test('trials leave neither mounts nor links nor files, and what works is not tried twice', root, async (t) => {
  const options = folder(t);
  // (Named namespaces are those of other tests, which come and go beside this one.)
  const mounts = (): string[] => readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => !line.includes(' /run/netns/'));
  const state = (): string => mounts().join('\n') + readdirSync('/sys/class/net').filter((name) => name.startsWith('vtry')).join();
  const before = state();
  const probes = await runProbes(options);
  assert.equal(state(), before);
  assert.deepEqual(readdirSync(options.stateDir), []);
  assert.equal(new Set(probes.map((probe) => probe.id)).size, probes.length);
  for (const probe of probes) assert.ok(probe.ok !== true || probe.consequence === undefined);

  const file = join(options.runDir, 'probes.json');
  const kept = JSON.parse(readFileSync(file, 'utf8')) as { key: string; probes: { id: string; message: string }[] };
  const veth = kept.probes.find((probe) => probe.id === 'veth');
  if (veth) veth.message = 'kept';
  writeFileSync(file, JSON.stringify(kept));
  assert.equal((await runProbes(options)).find((probe) => probe.id === 'veth')?.message, 'kept');
  writeFileSync(file, JSON.stringify({ ...kept, key: 'another boot' }));
  assert.notEqual((await runProbes(options)).find((probe) => probe.id === 'veth')?.message, 'kept');
  writeFileSync(file, '{');
  assert.equal((await runProbes(options)).length, probes.length);
});

test('a trial that fails says so, and is not taken for one that could not be made', root, async (t) => {
  const options = folder(t);
  const probes = await runProbes({ ...options, mount: '/bin/false' }); // a mount(8) that refuses everything
  assert.equal(probes.find((probe) => probe.id === 'overlayfs')?.ok, false);
  const idmap = probes.find((probe) => probe.id === 'idmap');
  assert.equal(idmap?.ok, null);
  assert.ok(idmap?.consequence);
  assert.deepEqual(readdirSync(options.stateDir), []);
});
