/** What a node can carry: promises of real VEs, the setting that bounds them, and presets. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Capacity } from '../../src/resources/capacity.ts';
import type { Settings } from '../../src/lib/settings.ts';
import { TEMPLATE } from '../lib/cache.ts';
import { listen } from '../lib/events.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

const MiB = 2 ** 20;
/** So little that two VEs are too many. */
const RATIO = 512 * MiB / totalmem();

const veld = await fileInstance({
  settings: (settings) => {
    settings.presetsDir = join(settings.stateDir, '../presets');
    settings.overcommit.memory = { ratio: Math.max(0.01, RATIO), action: 'warn' };
  },
});
const allowed = Math.floor(totalmem() * Math.max(0.01, RATIO));
const most = Math.floor(allowed / MiB) - 128;
mkdirSync(veld.settings.presetsDir, { recursive: true });
writeFileSync(join(veld.settings.presetsDir, 'tiny.conf'), `# For this test\nmemory.limit=${most}M\npids.limit=500\n`);

/** The same daemon with another answer to more than there is. */
async function answer(action: Settings['overcommit']['memory']['action']): Promise<void> {
  veld.settings.overcommit.memory.action = action;
  const { libexecDir: _, ...given } = veld.settings;
  writeFileSync(veld.settingsFile, JSON.stringify(given));
  await veld.restart();
}

test('a preset gives a VE its limits, and what is given by hand goes before it', async () => {
  assert.equal((await veld.cli('create', 'one', '-t', TEMPLATE, '--preset', 'tiny', '--set', 'pids.limit=600', '--start')).code, 0);
  const { set, properties } = await veld.show('one');
  assert.deepEqual(set, { 'memory.limit': most * MiB, 'pids.limit': 600 });
  assert.equal(properties['cpu.limit'], null);
  assert.equal((await veld.cli('set', 'one', '--preset', 'tiny')).code, 0);
  assert.equal((await veld.show('one')).set['pids.limit'], 500, 'live');
  const names = (await veld.cli('preset', 'list', '--quiet')).stdout.trim().split('\n');
  for (const name of ['basic', 'large', 'medium', 'small', 'tiny']) assert.ok(names.includes(name), name);
  assert.equal((await veld.cli('create', 'none', '-t', TEMPLATE, '--preset', 'nothing')).code, 57);
});

test('capacity: what the VE that runs was promised, and what it uses', async () => {
  const capacity = await until('a look at it', async () => {
    const found = await veld.api.call<Capacity>('GET', '/v1/capacity');
    return found.memory.used !== null && found.cpu.used !== null ? found : undefined;
  }, 60_000);
  assert.deepEqual([capacity.memory.promised, capacity.memory.promisedToAll, capacity.memory.unlimited, capacity.cpu.unlimited], [most * MiB, most * MiB, 0, 1]);
  assert.ok(capacity.memory.used! > MiB && capacity.memory.used! <= most * MiB);
  assert.deepEqual(capacity.ves.map(({ name, running, cpuShare }) => [name, running, cpuShare]), [['one', true, 1]]);
  assert.match((await veld.cli('capacity', '--ves')).stdout, /^one +yes /m);
});

test('more than shall be promised: it is done, and said', async () => {
  const events = await listen(veld.api);
  try {
    const { code, stderr } = await veld.cli('create', 'two', '-t', TEMPLATE, '--preset', 'tiny');
    assert.equal(code, 0);
    assert.match(stderr, /^veld: With two the memory limits of running VEs are \d+ MiB: /);
    const { data } = await events.next('capacity.exceeded');
    assert.deepEqual([data?.name, data?.promisedBytes, data?.allowedBytes], ['two', 2 * most * MiB, allowed]);
    assert.equal((await veld.cli('set', 'two', 'memory.limit=100M')).stderr, '', 'less than before');
    assert.match((await veld.cli('set', 'one', `memory.limit=${most + 300}M`)).stderr, /overcommit\.memory\.ratio/);
    await veld.cli('set', 'one', `memory.limit=${most}M`);
  } finally {
    events.close();
  }
});

test('refused: nothing is made, started or changed; less, no limit, and VEs that do not run are in nobody\'s way', async () => {
  await answer('refuse');
  for (const words of [['create', 'three', '-t', TEMPLATE, '--preset', 'tiny', '--start'], ['set', 'one', `memory.limit=${most + 300}M`], ['set', 'two', `memory.limit=${most}M`], ['clone', '--live', 'one', 'four']]) {
    const { code, stderr } = await veld.cli(...words);
    assert.equal(code, 56, `${words.join(' ')}: ${stderr}`);
  }
  assert.deepEqual((await veld.list()).map(({ name }) => name).sort(), ['one', 'two']);
  assert.deepEqual([(await veld.show('one')).set['memory.limit'], (await veld.show('two')).set['memory.limit']], [most * MiB, 100 * MiB]);
  assert.equal((await veld.cli('start', 'two')).code, 0, 'it fits');
  assert.equal((await veld.cli('stop', '--force', 'two')).code, 0);
  await veld.cli('stop', '--force', 'one');
  assert.equal((await veld.cli('set', 'two', `memory.limit=${most}M`)).code, 0, 'the other one does not run');
  assert.equal((await veld.cli('start', 'two')).code, 0);
  assert.equal((await veld.cli('start', 'one')).code, 56);
  assert.equal((await veld.show('one')).status, 'stopped');
  await answer('allow');
  assert.deepEqual(await veld.cli('start', 'one').then(({ code, stderr }) => [code, stderr]), [0, '']);
});
