import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { diskOf, numaNodes, onlineCpus } from './topology.ts';

const sysfs = mkdtempSync(join(tmpdir(), 'veld-sysfs-'));
after(() => rmSync(sysfs, { recursive: true }));
const put = (path: string, text: string): void => {
  mkdirSync(join(sysfs, path, '..'), { recursive: true });
  writeFileSync(join(sysfs, path), text);
};

test('CPUs and nodes of a host with two of these, and of one without', () => {
  put('devices/system/cpu/online', '0-7\n');
  assert.equal(onlineCpus(sysfs), '0-7');
  assert.deepEqual(numaNodes(sysfs), new Map());
  put('devices/system/node/node1/cpulist', '4-7\n');
  put('devices/system/node/node0/cpulist', '0-3\n');
  put('devices/system/node/possible', '0-1\n');
  assert.deepEqual([...numaNodes(sysfs)], [[0, '0-3'], [1, '4-7']]);
});

test('a partition is its disk, a subvolume the device that it is mounted from, and memory is none', () => {
  const mounts = join(sysfs, 'mountinfo');
  writeFileSync(mounts, '');
  assert.equal(diskOf('/proc', sysfs, mounts), '/proc lies on no disk of this host');
  put('devices/disk/part1/partition', '1');
  put('devices/disk/part1/dev', '8:1');
  put('devices/disk/dev', '8:0');
  mkdirSync(join(sysfs, 'dev/block'), { recursive: true });
  symlinkSync('../../devices/disk/part1', join(sysfs, 'dev/block/1:3'));
  // /dev/null is no block device; its number is all that is asked for here.
  const own = diskOfProc();
  writeFileSync(mounts, `30 1 ${own} / /x rw - btrfs /dev/null rw\n`);
  assert.deepEqual(diskOf('/proc', sysfs, mounts), { device: '8:0', name: 'disk' });
});

function diskOfProc(): string {
  // statSync as topology.ts reads it: an anonymous device.
  const found = /^\d+ \d+ (0:\d+) \/ \/proc /m.exec(process.getBuiltinModule('node:fs').readFileSync('/proc/self/mountinfo', 'utf8'));
  return found![1]!;
}
