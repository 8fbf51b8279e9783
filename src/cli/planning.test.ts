/** `veld capacity`, `veld preset`, and presets and warnings of create and set: the real program in pipes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VeldError } from '../lib/errors.ts';
import type { Capacity } from '../resources/capacity.ts';
import { operation, startTestDaemon, ve } from './test-daemon.ts';

const GiB = 2 ** 30;
const promised = { total: 8 * GiB, promised: 12 * GiB, promisedToAll: 14 * GiB, ratio: 1.5, unlimited: 2, used: GiB };
const CAPACITY: Capacity = {
  cpu: { ...promised, cpus: 4, total: 400, promised: 150, promisedToAll: 550, ratio: 0.375, used: 42.4 }, memory: { ...promised, cache: GiB, available: GiB }, memoryAndSwap: { ...promised, used: null },
  disk: { total: 100 * GiB, free: 60 * GiB },
  ves: [{ name: 'web', running: true, cpuWeight: 100, cpuPercent: 150, memoryBytes: 2 * GiB, swapBytes: null, used: { cpuPercent: 30, memoryBytes: GiB, cacheBytes: 0, swapBytes: 0 }, cpuShare: 0.25 },
    { name: 'old', running: false, cpuWeight: 100, cpuPercent: null, memoryBytes: null, swapBytes: null, used: null, cpuShare: null }],
};
const PRESETS = [{ name: 'mine', description: '', properties: {}, ignored: [], file: '/x/mine.conf', shipped: false, error: '/x/mine.conf, line 1: it is wrong.' },
  { name: 'small', description: 'A small one', properties: { 'cpu.limit': 50, 'memory.limit': 512 << 20 }, ignored: [], file: '/s/small.conf', shipped: true, error: null }];

test('capacity: a line a resource, and a line a VE', async (t) => {
  const daemon = await startTestDaemon(t, { 'GET /v1/capacity': () => CAPACITY });
  const { stdout, status } = await daemon.veld(['capacity', '--ves']);
  assert.equal(status, 0);
  assert.match(stdout, /^CPU +400% +150% +37\.5 +550% +2 +42%$/m);
  assert.match(stdout, /^memory +8 GiB +12 GiB +150\.0 +14 GiB +2 +1 GiB$/m);
  assert.match(stdout, /^memory and swap .* -$/m);
  assert.match(stdout, /^disk +100 GiB .* 40 GiB by all$/m);
  assert.match(stdout, /^web +yes +150% +25\.0 +30% +2 GiB +25\.0 +1 GiB$/m);
  assert.match(stdout, /^old +no( +-){6}$/m);
  assert.doesNotMatch((await daemon.veld(['capacity'])).stdout, /web/);
  assert.deepEqual(JSON.parse((await daemon.veld(['capacity', '--json'])).stdout), CAPACITY);
});

test('presets: listed with what is wrong, shown as a file of one', async (t) => {
  const daemon = await startTestDaemon(t, { 'GET /v1/presets': () => PRESETS, 'GET /v1/presets/small': () => PRESETS[1], 'GET /v1/presets/none': () => new VeldError('preset.not_found', 'There is no preset none.') });
  const { stdout } = await daemon.veld(['preset', 'list']);
  assert.match(stdout, /^mine +here +\/x\/mine\.conf, line 1: it is wrong\.$/m);
  assert.match(stdout, /^small +Veld +cpu\.limit=50% memory\.limit=512M +A small one$/m);
  assert.equal((await daemon.veld(['preset', 'list', '-q'])).stdout, 'mine\nsmall\n');
  assert.equal((await daemon.veld(['preset', 'show', 'small'])).stdout, '# A small one\n# /s/small.conf\ncpu.limit=50%\nmemory.limit=512M\n');
  assert.equal((await daemon.veld(['preset', 'show', 'none'])).status, 57);
});

test('create and set take a preset, and say what the daemon warns of', async (t) => {
  const daemon = await startTestDaemon(t, {
    'POST /v1/ves': operation([{ kind: 'create', result: { name: 'web', warnings: ['Too much is promised.'] } }]), 'GET /v1/ves/web': () => ve({ name: 'web' }),
    'PATCH /v1/ves/web/properties': operation([{ kind: 'set' }]),
  });
  const created = await daemon.veld(['create', 'web', '-t', 'debian-12', '--preset', 'small', '--set', 'cpu.limit=75%']);
  assert.equal(created.stderr, 'veld: Too much is promised.\n');
  assert.equal(created.status, 0);
  assert.deepEqual(daemon.asked[0]!.body, { name: 'web', template: 'debian-12', preset: 'small', properties: { 'cpu.limit': '75%' }, start: false });
  const set = await daemon.veld(['set', 'web', '--preset', 'large']);
  assert.deepEqual([set.stdout, set.stderr], ['web changed: preset large\n', '']);
  assert.deepEqual(daemon.asked.at(-1)!.body, { preset: 'large', changes: {} });
});
