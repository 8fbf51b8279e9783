import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VeldError } from '../lib/errors.ts';
import { runDoctor } from './doctor.ts';
import type { DoctorDeps } from './doctor.ts';

const GiB = 2 ** 30;
const ENGINE = { fingerprint: 'a'.repeat(64), suite: 'testing', expired: false, packages: { crun: '1.28-1', conmon: '2.1.13+ds1-1', criu: '4.2.1-1' }, builtAt: '2026-01-02T03:04:05Z' };

const HEALTHY: DoctorDeps = {
  stateDir: '/state',
  probes: async () => [{ id: 'veth', title: 'veth links', ok: true, message: 'Yes.', required: true }],
  hostLimits: () => [{ name: 'kernel.pid_max', value: 4_194_304, need: 4_194_304, consequence: 'x' }, { name: 'kernel.absent', value: null, need: 5, consequence: 'x' }],
  engine: () => ENGINE,
  lxcfs: async () => ({ alive: true, version: '5.0.3', limitSeen: true }),
  networkWarnings: async () => [],
  resourceSupport: () => ({ 'cpu.weight': true }),
  disk: () => ({ bytes: 100 * GiB, freeBytes: 50 * GiB, files: 0, freeFiles: 0 }),
  now: () => Date.parse('2026-02-01'),
  clockSynchronised: () => true,
};

const POOL = { name: 'default', path: '/state', room: { bytes: 100 * GiB, freeBytes: 50 * GiB, inodes: 0, freeInodes: 0 }, holds: { 'disk.space': true }, ves: [] } as const;

async function diagnose(over: Partial<DoctorDeps>): Promise<string[]> {
  const { checks } = await runDoctor({ ...HEALTHY, ...over });
  return checks.filter((check) => check.status !== 'ok').map((check) => `${check.status} ${check.id}`);
}

test('a healthy node has nothing but ok', async () => {
  assert.deepEqual(await diagnose({}), []);
});

test('each illness is found, alone', async () => {
  const probe = { id: 'p', title: 'p', message: '', consequence: 'c' };
  const cases: [Partial<DoctorDeps>, string[]][] = [
    [{ probes: async () => [{ ...probe, ok: false, required: true }] }, ['fail p']],
    [{ probes: async () => [{ ...probe, ok: null, required: true }] }, ['warn p']],
    [{ probes: async () => [{ ...probe, ok: false, required: false }] }, ['info p']],
    [{ hostLimits: () => [{ name: 'kernel.pid_max', value: 32_768, need: 4_194_304, consequence: 'x' }] }, ['warn limits.kernel.pid_max']],
    [{ resourceSupport: () => ({ 'cpu.weight': true, 'pids.limit': 'no pids controller' }) }, ['warn resources.pids.limit']],
    [{ resourceSupport: () => ({ 'cpu.weight': true, 'ubc.numtcpsock': 'no bpftool' }) }, ['info resources.ubc.numtcpsock']],
    [{ namespaceOwners: () => ({ others: ['web'], library: { path: '/x.so' } }) }, ['info owners']],
    [{ namespaceOwners: () => ({ others: [], library: { missing: 'no clang', remedy: 'x' } }) }, ['warn owners']],
    [{ engine: () => { throw new VeldError('engine.missing', 'There is none.'); } }, ['fail engine']],
    [{ engine: () => ({ ...ENGINE, expired: true }) }, ['warn engine.release']],
    [{ engine: () => ({ ...ENGINE, packages: { ...ENGINE.packages, crun: '1.8.1-1+deb12u1' } }) }, ['warn engine.crun']],
    [{ pools: () => [POOL, { ...POOL, name: 'fast', room: null, holds: null, ves: ['web'] }] }, ['fail pools.fast']],
    [{ pools: () => [POOL, { ...POOL, name: 'fast', room: { ...POOL.room, freeBytes: GiB } }] }, ['warn pools.fast']],
    [{ pools: () => [{ ...POOL, holds: { 'disk.space': 'no quotas', 'soft': true } }] }, ['info pools.default']],
    [{ lxcfs: undefined }, ['info lxcfs']],
    [{ lxcfs: async () => ({ alive: false, version: null, limitSeen: null }) }, ['warn lxcfs']],
    [{ lxcfs: async () => ({ alive: true, version: '7.0', limitSeen: false }) }, ['warn lxcfs']],
    [{ names: async () => ({ domain: 'v.internal', resolvers: ['10.0.0.1'], answers: true, hostFinds: true }) }, []],
    [{ names: async () => ({ domain: 'v.internal', resolvers: ['10.0.0.1'], answers: true, hostFinds: false }) }, ['info names']],
    [{ names: async () => ({ domain: 'v.internal', resolvers: [], answers: false, hostFinds: false }) }, ['warn names']],
    [{ names: async () => ({ domain: '', resolvers: [], answers: null, hostFinds: false }) }, ['info names']],
    [{ networkWarnings: async () => ['Docker drops forwarded packets.'] }, ['warn network.1']],
    [{ promises: () => ({ ratio: 1.5, most: 1.5, unlimited: 3 }) }, []],
    [{ promises: () => ({ ratio: 1.6, most: 1.5, unlimited: 0 }) }, ['warn promises']],
    [{ disk: () => ({ bytes: 100 * GiB, freeBytes: 3 * GiB, files: 0, freeFiles: 0 }) }, ['warn disk']],
    [{ disk: () => ({ bytes: 100 * GiB, freeBytes: 50 * GiB, files: 1000, freeFiles: 1 }) }, ['fail disk']],
    [{ now: () => 0 }, ['fail clock']],
    [{ clockSynchronised: () => false }, ['info clock']],
    [{ failedVes: () => [{ name: 'web', reason: 'init ended.' }] }, ['warn ves.web']],
  ];
  for (const [over, expected] of cases) assert.deepEqual(await diagnose(over), expected);
});

test('a part that breaks is one warning, the others are told', async () => {
  const broken = await diagnose({
    probes: () => Promise.reject(new Error('no unshare')), networkWarnings: () => { throw new Error('nft is missing'); }, disk: () => { throw new Error('gone'); },
  });
  assert.deepEqual(broken, ['warn kernel', 'warn network', 'warn disk']);
});

test('crun versions are compared as numbers', async () => {
  for (const [version, old] of [['1.28', false], ['1.9-1', true], ['2.0', false], ['1.28.1', false], ['', false], ['1:1.27', true]] as const) {
    const found = await diagnose({ engine: () => ({ ...ENGINE, packages: { ...ENGINE.packages, crun: version } }) });
    assert.equal(found.length === 1, old, version);
  }
});

test('lxcfs: ends, failed starts and VEs left behind are told', async () => {
  const history = { ended: 2, lastEnd: '2026-01-01T00:00:00.000Z', trouble: 'lxcfs 7 did not start: it ended with status 1.', staleVes: ['web', 'db'] };
  const { checks } = await runDoctor({ ...HEALTHY, lxcfs: () => Promise.resolve({ alive: true, version: '5.0.3', limitSeen: true, history }) });
  assert.deepEqual(checks.filter(({ id }) => id.startsWith('lxcfs')).map(({ id, status }) => [id, status]),
    [['lxcfs', 'ok'], ['lxcfs.start', 'warn'], ['lxcfs.ended', 'warn'], ['lxcfs.stale', 'warn']]);
  assert.match(checks.find(({ id }) => id === 'lxcfs.stale')?.message ?? '', /web, db/);
});
