/** The disk on which those of the VEs lie. */
import assert from 'node:assert/strict';
import type { Fill } from './fills.ts';
import type { LimitGround } from './ground.ts';

/** In how many milliseconds 8 MiB are read past the page cache, so many bytes at once. */
async function read(ground: LimitGround, size: number): Promise<number> {
  await ground.exec(ground.ve, 'sh', '-c', '[ -s /srv/file ] || dd if=/dev/urandom of=/srv/file bs=1M count=12 conv=fsync 2>/dev/null');
  const since = performance.now();
  const { stderr } = await ground.exec(ground.ve, 'dd', 'if=/srv/file', 'of=/dev/null', 'iflag=direct', `bs=${size}`, `count=${(8 << 20) / size}`);
  assert.match(stderr, /8388608 bytes/);
  return performance.now() - since;
}

/** The same for 12 MiB that are written, by way of the page cache. */
async function write(ground: LimitGround): Promise<number> {
  const since = performance.now();
  await ground.exec(ground.ve, 'sh', '-c', 'dd if=/dev/zero of=/srv/written bs=1M count=12 conv=fsync 2>/dev/null; rm /srv/written');
  return performance.now() - since;
}

export const DISK_FILLS: readonly Fill[] = [
  {
    property: 'io.priority',
    over: 'has less of a disk that is short',
    counted: 'no',
    async fill(ground) {
      await ground.set(ground.ve, { 'io.priority': 7 });
      assert.match(await ground.control(ground.ve, 'blkio.bfq.weight', 'io.bfq.weight'), /160/);
      await ground.set(ground.ve, { 'io.priority': null });
      return 'what it gives was not measured';
    },
  },
  {
    property: 'io.limit',
    over: 'reads (v2: writes, too) wait',
    counted: 'no',
    async fill(ground) {
      await ground.set(ground.ve, { 'io.limit': '4M' });
      // The kernel gives some of it beforehand: the first of its slices.
      const held = await read(ground, 1 << 20);
      assert.ok(held > 1000, `8 MiB at 4 MiB a second: ${held} ms`);
      if (ground.groups === 'v2') assert.ok(await write(ground) > 1500, '12 MiB at 4 MiB a second');
      await ground.set(ground.ve, { 'io.limit': '400M' });
      const raised = await read(ground, 1 << 20);
      assert.ok(raised < held, `${raised} ms when raised, ${held} before`);
      await ground.set(ground.ve, { 'io.limit': null });
    },
  },
  {
    property: 'io.iops',
    over: 'reads and writes wait',
    counted: 'no',
    async fill(ground) {
      await ground.set(ground.ve, { 'io.iops': 20 });
      const held = await read(ground, 64 << 10);
      assert.ok(held > 3000, `128 operations at 20 a second: ${held} ms`);
      await ground.set(ground.ve, { 'io.iops': 100_000 });
      const raised = await read(ground, 64 << 10);
      assert.ok(raised < held / 2, `${raised} ms when raised, ${held} before`);
      await ground.set(ground.ve, { 'io.iops': null });
      await ground.exec(ground.ve, 'rm', '-f', '/srv/file');
    },
  },
];
