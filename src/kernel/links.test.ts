import { test } from 'node:test';
import assert from 'node:assert/strict';
import { allLinkCounters } from './links.ts';

test('counters of all links, also where a number touches the name', () => {
  const counters = allLinkCounters(`Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    5624      68    0    0    0     0          0         0     5625      69    0    0    0     0       0          0
vmain101:123456789 1000 1 2 3 4 5 6 987654321 2000 0 0 0 0 0 0
`);
  assert.deepEqual([...counters], [
    ['lo', { rxBytes: 5624, rxPackets: 68, txBytes: 5625, txPackets: 69 }], ['vmain101', { rxBytes: 123456789, rxPackets: 1000, txBytes: 987654321, txPackets: 2000 }],
  ]);
});
