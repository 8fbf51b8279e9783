/** Disk quotas go with a VE: to a node with other uids, and back, running and at rest: what it has written is counted there, and held. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { QuotaReport } from '../../src/ve/types.ts';
import { makeNode, pair } from '../lib/nodes.ts';
import { TEMPLATE } from '../lib/cache.ts';
import type { Instance } from '../lib/instance.ts';

const settings = (own: Instance['settings']): void => { own.network.uplinks = ['lo']; };
const [a, b] = [await makeNode('alpha', { settings }), await makeNode('beta', { settings })];
after(async () => {
  await Promise.all([a.destroy(), b.destroy()]);
});
await a.start();
await b.start();
await pair(a, b, 'beta');

const MiB = 1 << 20;

const ok = async (node: Instance, ...args: string[]): Promise<string> => {
  const result = await node.cli(...args);
  assert.equal(result.code, 0, `veld ${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
};
/** As it is now: btrfs counts what it has committed. */
const used = async (node: Instance, ve = 'web'): Promise<number> => {
  await node.exec(ve, 'sync');
  return (await node.json<QuotaReport>('quota', ve)).ve.used!.space;
};
const write = async (node: Instance, file: string, megabytes: number, ve = 'web'): Promise<string> => (await node.exec(ve, 'sh', '-c', `dd if=/dev/urandom of=${file} bs=1M count=${megabytes} conv=fsync`)).stderr;
const sum = async (node: Instance, ve = 'web'): Promise<string> => (await node.exec(ve, 'sh', '-c', 'sha256sum </srv/one; stat -c %u:%g /srv/one')).stdout;

/** Kinds of pools, each on both nodes. */
const POOLS: ReadonlyArray<{ title: string; pool: string; made: string[] }> = [
  { title: 'btrfs', pool: 'shots', made: ['--image-size', '2G', '--fs', 'btrfs'] },
  { title: 'an image for each VE', pool: 'disks', made: ['--driver', 'image', '--image-size', '1G'] },
];
/** btrfs counts; an image is as large as the limit. */
const REFUSED = /quota exceeded|No space left/;

for (const { title, pool, made } of POOLS) {
  test(`${title}: a running VE is counted and held where it has come to, under other uids, and back`, async () => {
    for (const node of [a, b]) await ok(node, 'pool', 'create', pool, ...made);
    await a.createRunning('web', { 'disk.pool': pool, 'disk.space': '200M' });
    await a.booted('web');
    await write(a, '/srv/one', 80);
    await a.exec('web', 'chown', '33:33', '/srv/one');
    const [before, content] = [await used(a), await sum(a)];
    assert.ok(before > 80 * MiB, String(before));
    for (const [from, to, name] of [[a, b, 'beta'], [b, a, 'alpha'], [a, b, 'beta']] as const) {
      const { uidBase } = await from.show('web');
      await ok(from, 'migrate', 'web', name);
      const there = await to.show('web');
      assert.notEqual(there.uidBase, uidBase);
      assert.equal(there.properties['disk.pool'], pool);
      assert.equal(await sum(to), content);
      const now = await used(to);
      assert.ok(Math.abs(now - before) < 12 * MiB, `${now} bytes are counted there, and ${before} were before`);
      assert.match(await write(to, '/srv/more', 200), REFUSED);
      assert.ok(await used(to) <= 200 * MiB);
      await to.exec('web', 'rm', '/srv/more');
    }
    if (pool === 'disks') await ok(b, 'stop', 'web'); // the daemon's capabilities here do not let it make a disk larger that is in use
    await ok(b, 'set', 'web', 'disk.space=400M');
    if (pool === 'disks') {
      await ok(b, 'start', 'web');
      await b.booted('web');
    }
    assert.doesNotMatch(await write(b, '/srv/more', 200), REFUSED);
    await b.exec('web', 'rm', '/srv/more');
  });

  test(`${title}: so is one at rest, and one that was imported there`, async () => {
    await ok(b, 'stop', 'web');
    // Also when it has more than it may.
    await ok(b, 'set', 'web', 'disk.space=60M');
    await ok(b, 'migrate', 'web', 'alpha');
    await ok(a, 'set', 'web', 'disk.space=400M');
    await ok(a, 'start', 'web');
    await a.booted('web');
    assert.ok(await used(a) > 80 * MiB);
    const file = `${a.dir}/${pool}.export`;
    await ok(a, 'export', 'web', '--file', file);
    await ok(b, 'import', '--file', file, '--start');
    await b.booted('web');
    assert.equal(await sum(b), await sum(a));
    assert.ok(await used(b) > 80 * MiB);
    assert.match(await write(b, '/srv/more', 400), REFUSED);
  });

  test(`${title}: what stays of it`, async () => {
    for (const node of [a, b]) await node.api.operate('DELETE', '/v1/ves/web?force=true');
    for (const node of [a, b]) await ok(node, 'pool', 'delete', pool);
  });
}

test('a node gives none of its folders to a VE that comes from elsewhere', async () => {
  await ok(a, 'create', 'web', '--template', TEMPLATE);
  await ok(a, 'set', 'web', 'disk.mounts=/srv:/srv/host:ro');
  const { code, stderr } = await a.cli('migrate', 'web', 'beta');
  assert.match(stderr, /folders of its host/);
  assert.equal(code, 52);
  await ok(a, 'set', 'web', 'disk.mounts=none');
  await ok(a, 'migrate', 'web', 'beta');
});
