/** The disk on which those of the VEs lie. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
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

/** Bytes that a VE has read so far, past the page cache. */
async function bytesRead(ground: LimitGround, ve: string): Promise<number> {
  const text = await ground.control(ve, 'blkio.throttle.io_service_bytes_recursive', 'io.stat');
  return [...text.matchAll(/(?: Read |rbytes=)(\d+)/g)].reduce((sum, [, bytes]) => sum + Number(bytes), 0);
}

/** What part of what both VEs read in some seconds is that of the first one. */
async function shareOfReads(ground: LimitGround): Promise<number> {
  const look = (): Promise<[number, number]> => Promise.all([bytesRead(ground, ground.ve), bytesRead(ground, ground.neighbour)]);
  await sleep(1000);
  const before = await look();
  await sleep(5000 * Math.sqrt(ground.slow));
  const after = await look();
  const [one, other] = [after[0] - before[0], after[1] - before[1]];
  assert.ok(one > 0 && other > 0, `read: ${one} and ${other} bytes`);
  return one / (one + other);
}

export const DISK_FILLS: readonly Fill[] = [
  {
    property: 'io.priority',
    over: 'has less of a disk that is short',
    counted: 'no',
    async fill(ground) {
      const both = [ground.ve, ground.neighbour] as const;
      try {
        await ground.set(ground.ve, { 'io.priority': 0 });
        assert.match(await ground.control(ground.ve, 'blkio.bfq.weight', 'io.bfq.weight'), /\b20$/);
        for (const ve of both) {
          const { exitCode, stderr } = await ground.exec(ve, 'sh', '-ec', `dd if=/dev/urandom of=/srv/short bs=1M count=64 conv=fsync 2>/dev/null
            for i in 1 2 3 4; do systemd-run --quiet --collect --unit=reader$i -p RuntimeMaxSec=${300 * ground.slow} sh -c 'while :; do dd if=/srv/short of=/dev/null iflag=direct bs=1M 2>/dev/null; done'; done`);
          assert.equal(exitCode, 0, stderr);
        }
        const low = await shareOfReads(ground);
        assert.ok(low < 0.4, `with priority 0 beside one with 4 it reads ${low.toFixed(2)} of what both do`);
        await ground.set(ground.ve, { 'io.priority': 7 });
        const high = await shareOfReads(ground);
        assert.ok(high > low * 1.5, `with priority 7 it reads ${high.toFixed(2)} of what both do, with 0 ${low.toFixed(2)}`);
      } finally {
        for (const ve of both) await ground.exec(ve, 'sh', '-c', 'systemctl stop "reader*"; rm -f /srv/short');
        await ground.set(ground.ve, { 'io.priority': null });
      }
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
