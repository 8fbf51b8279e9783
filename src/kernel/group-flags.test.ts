import assert from 'node:assert/strict';
import { test } from 'node:test';
import { missingFlags } from './group-flags.ts';

const line = (options: string): string => `22 1 0:21 / /proc rw - proc proc rw\n29 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 ${options}\n`;

test('options of cgroup2 that somebody has taken away are found', () => {
  assert.deepEqual(missingFlags(line('rw')), ['nsdelegate', 'memory_recursiveprot']);
  assert.deepEqual(missingFlags(line('rw,nsdelegate')), ['memory_recursiveprot']);
  assert.deepEqual(missingFlags(line('rw,seclabel,nsdelegate,memory_recursiveprot')), []);
  assert.deepEqual(missingFlags('22 1 0:21 / /proc rw - proc proc rw\n'), []);
});
