/** `veld pool`, `veld quota` and the tree of `veld snapshot list`: the real program in pipes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SnapshotRecord } from '../store/types.ts';
import type { PoolView, QuotaReport } from '../ve/types.ts';
import { operation, startTestDaemon } from './test-daemon.ts';

const GiB = 2 ** 30;
const FAST: PoolView = {
  name: 'fast', path: '/srv/fast/root', driver: 'overlay', image: { file: '/srv/fast/image', bytes: 50 * GiB, fileSystem: 'ext4' }, createdAt: '2026-01-02T03:04:05.678Z',
  room: { bytes: 50 * GiB, freeBytes: 20 * GiB, inodes: 1000, freeInodes: 900 }, holds: { 'disk.space': true, 'disk.inodes': true, 'disk.users': 'nobody is counted', 'soft': true }, ves: ['web'], shared: { bytes: GiB, saves: 3 * GiB }, reclaimable: GiB,
};
const GONE: PoolView = { ...FAST, name: 'gone', path: '/srv/gone', image: null, room: null, holds: null, ves: [], shared: null, reclaimable: null };

test('pools: a line each, one with what it holds, and made as the options say', async (t) => {
  const daemon = await startTestDaemon(t, { 'GET /v1/pools': () => [FAST, GONE], 'GET /v1/pools/fast': () => FAST, 'POST /v1/pools': operation([{ kind: 'pool-create' }]), 'DELETE /v1/pools/fast': operation([{ kind: 'pool-delete' }]) });
  const { stdout } = await daemon.veld(['pool', 'list']);
  assert.match(stdout, /^fast +overlay +50 GiB +20 GiB +1 +space, inodes +\/srv\/fast\/root$/m);
  assert.match(stdout, /^gone +overlay +not there +- +0 +- +\/srv\/gone$/m);
  const shown = (await daemon.veld(['pool', 'show', 'fast'])).stdout;
  for (const line of [/^Image: +\/srv\/fast\/image, ext4, 50 GiB$/m, /^Reclaimable: +1 GiB/m, /^disk\.users: +cannot be held: nobody is counted$/m, /^Soft limits: +can be held$/m, /^Templates: +1 GiB, shared by their VEs: 3 GiB less than if each had its own$/m]) assert.match(shown, line);
  assert.equal((await daemon.veld(['pool', 'create', 'fast', '--image-size', '50G', '--fs', 'xfs'])).stdout, 'pool fast is there\n');
  assert.deepEqual(daemon.asked.at(-1)!.body, { name: 'fast', imageSize: 50 * GiB, fileSystem: 'xfs' });
  assert.equal((await daemon.veld(['pool', 'create', 'fast', '--image-size', 'much'])).status, 2);
  assert.equal((await daemon.veld(['pool', 'delete', 'fast'])).stdout, 'pool fast deleted\n');
});

test('quota: the VE and its accounts, and one that is changed', async (t) => {
  const used = { space: 3 * GiB, inodes: 7, spaceUntil: null, inodesUntil: null };
  const alice: QuotaReport['users'][number] = { id: 1000, name: 'alice', limits: { space: { soft: GiB, hard: 2 * GiB }, inodes: null }, used: { ...used, spaceUntil: 1_700_000_000 } };
  const report: QuotaReport = { ve: { limits: { space: { soft: 9 * GiB, hard: 10 * GiB }, inodes: null }, used, grace: 60 }, most: 10, users: [alice], groups: [{ ...alice, id: 7, name: null }] };
  const daemon = await startTestDaemon(t, { 'GET /v1/ves/web/quota': () => report, 'GET /v1/ves/old/quota': () => ({ ...report, most: 0, users: [], groups: [] }), 'PATCH /v1/ves/web/quota/user/alice': () => alice });
  const { stdout } = await daemon.veld(['quota', 'web']);
  assert.match(stdout, /^VE +web +3 GiB +9 GiB +10 GiB +7 +- +-/m);
  assert.match(stdout, /^user +alice +3 GiB +1 GiB +2 GiB +2023-\S+ \S+.* 7 +- +-/m);
  assert.match(stdout, /^group +7 +3 GiB/m);
  assert.match((await daemon.veld(['quota', 'old'])).stdout, /disk\.users=1000/);
  assert.match((await daemon.veld(['quota', 'web', 'user', 'alice', 'space=1G:2G', 'inodes=unlimited'])).stdout, /^user +alice/m);
  assert.deepEqual(daemon.asked.at(-1)!.body, { space: '1G:2G', inodes: 'unlimited' });
  for (const wrong of [['web', 'users', 'alice'], ['web', 'user'], ['web', 'user', 'alice', 'size=1'], ['web', 'user', 'alice', 'space=1', 'space=2']]) assert.equal((await daemon.veld(['quota', ...wrong])).status, 2, wrong.join(' '));
});

test('snapshots: a line of descent is straight, and where it parts both ways are set in', async (t) => {
  const one = (id: string, parent: string | null, description = ''): SnapshotRecord => ({ id, ve: 'u', name: id, description, parent, createdAt: '2026-01-02T03:04:05.678Z', layers: [], properties: {}, engine: null });
  const daemon = await startTestDaemon(t, { 'GET /v1/ves/web/snapshots': () => [one('first', null, 'as installed'), one('second', 'first'), one('third', 'second'), one('other', 'first'), one('orphan', 'gone')], 'POST /v1/ves/web/snapshots': operation([{ kind: 'snapshot' }]) });
  const lines = (await daemon.veld(['snapshot', 'list', 'web'])).stdout.split('\n').map((line) => /^\s*\S*/.exec(line)![0]);
  assert.deepEqual(lines.slice(1), ['first', '  second', '  third', '  other', 'orphan', '']);
  assert.match((await daemon.veld(['snapshot', 'list', 'web'])).stdout, /^first .* disk +as installed$/m);
  await daemon.veld(['snapshot', 'create', 'web', 'now', '-d', 'before the upgrade']);
  assert.deepEqual(daemon.asked.at(-1)!.body, { name: 'now', live: false, description: 'before the upgrade' });
});
