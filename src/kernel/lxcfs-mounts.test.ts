import { test } from 'node:test';
import assert from 'node:assert/strict';
import { filesOf, hasOwnUptime, lxcfsBinds, lxcfsDevice, parseMountTable } from './lxcfs-mounts.ts';

const TABLE = `27 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
166 27 0:59 / /run/veld/lxcfs rw,nosuid,nodev,relatime - fuse lxcfs-main rw,user_id=0,group_id=0,allow_other
170 27 0:61 / /run/veld/lxcfs rw,nosuid,nodev,relatime shared:3 - fuse.lxcfs lxcfs-main rw,user_id=0
210 200 0:59 /proc/meminfo /proc/meminfo ro,nosuid,nodev,relatime shared:7 master:2 - fuse lxcfs-main rw,user_id=0
211 200 0:59 /proc/stat//deleted /srv/a\\040b/stat ro - fuse lxcfs-main rw
212 200 0:59 /proc/uptime /proc/uptime ro - tmpfs lxcfs-main rw
213 200 0:59 /proc/uptime /proc/uptime ro - fuse lxcfs-other rw
214 200 0:59 /etc/passwd /proc/uptime ro - fuse lxcfs-main rw
`;

test('binds of one installation\'s lxcfs are told from whatever else is in the table', () => {
  const binds = lxcfsBinds(parseMountTable(TABLE), 'lxcfs-main');
  assert.deepEqual(binds.map(({ id, device, file, target }) => [id, device, file, target]), [
    [210, '0:59', '/proc/meminfo', '/proc/meminfo'], [211, '0:59', '/proc/stat', '/srv/a b/stat'],
  ]);
});

test('the lxcfs that shows is the last that was mounted', () => {
  assert.equal(lxcfsDevice('/run/veld/lxcfs', TABLE), '0:61');
  assert.equal(lxcfsDevice('/run/veld', TABLE), undefined);
});

test('uptime is the kernel\'s where that counts from the VE\'s own boot', () => {
  assert.equal(filesOf({ timeNamespace: true }).includes('/proc/uptime'), false);
  assert.equal(filesOf({ timeNamespace: false }).includes('/proc/uptime'), true);
  const offsets = (boottime: string): string => `monotonic           0         0\nboottime   ${boottime}         0\n`;
  assert.deepEqual(['-12646', '3', '0', ' 0'].map((seconds) => hasOwnUptime(offsets(seconds))), [true, true, false, false]);
  assert.equal(hasOwnUptime(''), false);
});
