/** What a node can carry: promises of real VEs, the setting that bounds them, and presets. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
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

/** `two` runs, and takes what there is: `one` does not fit. */
async function oneTooMany(): Promise<void> {
  await answer('refuse');
  for (const name of ['one', 'two']) await veld.cli('stop', '--force', name);
  assert.equal((await veld.cli('start', 'two')).code, 0);
}

test('what comes back from the disk is asked about, too: resume, roll-back, a checkpoint file; each is refused before anything is done', async (t) => {
  const file = join(veld.settings.stateDir, '../one.veld');
  t.after(() => rmSync(file, { force: true }));
  await veld.booted('one');
  for (const words of [['snapshot', 'create', '--live', 'one', 'then'], ['checkpoint', '--file', file, 'one']]) assert.equal((await veld.cli(...words)).code, 0, words.join(' '));
  assert.equal((await veld.show('one')).status, 'suspended');
  await answer('refuse');
  for (const words of [['resume', 'one'], ['snapshot', 'restore', 'one', 'then'], ['restore', '--file', file, '--as', 'three'], ['start', '--discard-state', 'one']]) {
    const { code, stderr } = await veld.cli(...words);
    assert.equal(code, 56, `${words.join(' ')}: ${stderr}`);
    assert.equal((await veld.show('one')).status, 'suspended', words.join(' '));
  }
  assert.deepEqual((await veld.list()).map(({ name }) => name).sort(), ['one', 'two']);
  await answer('warn');
  const { code, stderr } = await veld.cli('resume', 'one');
  assert.equal(code, 0);
  assert.match(stderr, /^veld: With one the memory limits of running VEs are /);
  // One that runs has its room, whatever the others have: neither a roll-back, nor a restart, nor a snapshot takes it away.
  await answer('refuse');
  for (const words of [['snapshot', 'restore', 'one', 'then'], ['snapshot', 'create', '--live', 'one', 'again'], ['restart', '--force', 'one']]) {
    const { code, stderr } = await veld.cli(...words);
    assert.equal(code, 0, `${words.join(' ')}: ${stderr}`);
    assert.equal((await veld.show('one')).status, 'running', words.join(' '));
  }
});

test('two that are started at once do not both get the room of one', async () => {
  await oneTooMany();
  await veld.cli('stop', '--force', 'two');
  const codes = await Promise.all(['one', 'two'].map((name) => veld.cli('start', name).then(({ code }) => code)));
  assert.deepEqual(codes.sort((a, b) => a - b), [0, 56]);
});

test('at a boot of the host those start that fit, in their order; of the others it is said why', async () => {
  await oneTooMany();
  await veld.cli('stop', '--force', 'two');
  await veld.cli('create', 'small', '-t', TEMPLATE, '--set', 'memory.limit=100M');
  // `one` was suspended with the host, and comes after both.
  for (const [name, order] of [['one', 1], ['two', 9], ['small', 5]] as const) assert.equal((await veld.cli('set', name, `boot.order=${order}`, 'boot.start=yes', ...name === 'one' ? ['shutdown.action=suspend'] : [])).code, 0);
  assert.equal((await veld.cli('start', 'one')).code, 0);
  await veld.restart({ VELD_SHUTDOWN: 'yes' });
  await veld.stop(); // suspended for a shutdown of the host
  const boot = async (): Promise<void> => {
    await veld.stop();
    rmSync(join(veld.settings.runDir, 'boot-started'));
    await veld.start();
  };
  await veld.start();
  await until('what fits to run', async () => (await veld.show('one')).status === 'running');
  await veld.cli('stop', '--force', 'one');
  await boot();
  const events = await listen(veld.api, 0);
  try {
    const { ve, data } = await events.next('ve.not-started', 60_000);
    const one = await veld.show('one');
    assert.deepEqual([ve, data?.name, data?.code], [one.uuid, 'one', 'capacity.exceeded']);
    assert.deepEqual((await veld.list()).map(({ name, status }) => `${name} ${status}`).sort(), ['one failed', 'small running', 'two running']);
    assert.match(one.notStarted!.reason, /^With one the memory limits of running VEs are /);
    const list = await veld.cli('list');
    assert.match(list.stderr, /^veld: one was not started \(.+\): With one the memory limits of running VEs are \d+ MiB/);
    assert.match((await veld.cli('show', 'one')).stdout, /^Not started: .*With one the memory limits/m);
    const { checks } = await veld.json<{ checks: { status: string; message: string }[] }>('doctor').catch(() => ({ checks: [] }));
    if (checks.length > 0) assert.ok(checks.some(({ status, message }) => status !== 'ok' && /With one the memory limits/.test(message)));
  } finally {
    events.close();
  }
  // Another daemon of the same boot still knows; once it runs nothing of it is left.
  await veld.restart();
  assert.ok((await veld.show('one')).notStarted);
  await veld.cli('stop', '--force', 'two');
  assert.equal((await veld.cli('start', 'one')).code, 0);
  assert.equal((await veld.show('one')).notStarted, null);
});
