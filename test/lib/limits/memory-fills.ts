/** Memory and swap. */
import assert from 'node:assert/strict';
import type { Fill } from './fills.ts';
import type { LimitGround } from './ground.ts';
import { rowOf } from './ground.ts';

/** Whether a process that writes to so many MiB lives. */
async function hog(ground: LimitGround, mib: number): Promise<boolean> {
  // (With a number that is known beforehand perl would make it twice.)
  const { stdout } = await ground.exec(ground.ve, 'perl', '-e', '$n = shift() << 20; $x = "y" x $n; print length $x', String(mib));
  return stdout === String(mib * 2 ** 20);
}

export const MEMORY_FILLS: readonly Fill[] = [
  {
    property: 'memory.limit',
    over: 'memory is taken back, and where there is none to take a process is ended',
    counted: 'failcnt of physpages',
    async fill(ground) {
      await ground.set(ground.ve, { 'memory.limit': '128M', 'memory.swap': '0' });
      const before = await rowOf(ground, ground.ve, 'physpages');
      assert.equal(before.limit, (128 << 20) / 4096);
      assert.equal(await hog(ground, 160), false);
      const after = await rowOf(ground, ground.ve, 'physpages');
      assert.ok(after.failcnt > before.failcnt && after.maxheld > 0.9 * after.limit!, JSON.stringify(after));
      await ground.set(ground.ve, { 'memory.limit': '400M' });
      assert.equal(await hog(ground, 160), true);
      await ground.set(ground.ve, { 'memory.limit': null, 'memory.swap': null });
      assert.equal((await ground.exec(ground.ve, 'systemctl', 'is-active', 'dbus')).stdout.trim(), 'active');
    },
  },
  {
    property: 'memory.swap',
    over: 'memory is not swapped out, and where there is none to take a process is ended',
    counted: 'held of swappages; failcnt of physpages',
    async fill(ground) {
      await ground.set(ground.ve, { 'memory.limit': '128M', 'memory.swap': '32M' });
      if (await ground.onHost('grep -c ^/ /proc/swaps || true') === '0') {
        assert.equal((await rowOf(ground, ground.ve, 'swappages')).limit, (32 << 20) / 4096);
        await ground.set(ground.ve, { 'memory.limit': null, 'memory.swap': null });
        return 'this host has no swap';
      }
      const before = await rowOf(ground, ground.ve, 'physpages');
      assert.equal(await hog(ground, 220), false);
      assert.ok((await rowOf(ground, ground.ve, 'physpages')).failcnt > before.failcnt);
      await ground.set(ground.ve, { 'memory.swap': '256M' });
      assert.equal(await hog(ground, 220), true);
      const { maxheld, held } = await rowOf(ground, ground.ve, 'swappages');
      assert.ok(Math.max(maxheld, held) > 0, 'something was swapped out');
      await ground.set(ground.ve, { 'memory.limit': null, 'memory.swap': null });
      return undefined;
    },
  },
  {
    property: 'memory.guarantee',
    over: 'while another VE fills the host, page cache up to it stays',
    counted: 'no',
    async fill(ground) {
      await ground.set(ground.ve, { 'memory.guarantee': '64M' });
      assert.equal(await ground.control(ground.ve, 'memory.min'), String(64 << 20));
      await ground.set(ground.ve, { 'memory.guarantee': null });
      return 'what it keeps is shown by a test of its own, on Linux 6.12';
    },
  },
];
