import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createEventBus } from '../ops/events.ts';
import type { DiskAccount } from '../storage/types.ts';
import { openStore } from '../store/sqlite.ts';
import { createDiskGrace } from './disk-grace.ts';

const KERNEL = 7 * 86_400;
const none: DiskAccount = { space: 0, inodes: 0, spaceUntil: null, inodesUntil: null };

test('a VE that passes its soft limit gets its own time of grace, once, and another one when that is changed meanwhile', () => {
  const store = openStore(':memory:');
  const events = createEventBus();
  const told: unknown[] = [];
  events.subscribe(({ type, data }) => { if (type === 'disk.over') told.push(data); });
  let [account, grace] = [none, 60];
  const set: unknown[] = [];
  const options = {
    ves: () => [{ uuid: 'u', name: 'web', grace, users: null }], store, events, log: { warn: assert.fail },
    volumes: {
      account: () => account, users: assert.fail, extendUser: assert.fail, kernelGrace: () => ({ space: KERNEL, inodes: KERNEL }),
      extend: (_uuid: string, until: { space?: number; inodes?: number }) => {
        set.push(until);
        account = { ...account, ...until.space !== undefined && { spaceUntil: until.space }, ...until.inodes !== undefined && { inodesUntil: until.inodes } };
      },
    },
  };
  let job = createDiskGrace(options);
  job.tick();
  assert.deepEqual(set, []);
  account = { ...none, spaceUntil: 1000 + KERNEL };
  job.tick();
  job.tick();
  assert.deepEqual(set, [{ space: 1060 }], 'since 1000, for 60 s');
  assert.deepEqual(told, [{ name: 'web', what: 'space', until: new Date(1_060_000).toISOString() }]);
  job.close();

  job = createDiskGrace(options); // another daemon knows since when
  grace = 90;
  job.tick();
  assert.deepEqual(set.slice(1), [{ space: 1090 }]);
  assert.equal(told.length, 1);
  account = none;
  job.tick();
  account = { ...none, spaceUntil: 5000 + KERNEL, inodesUntil: 5010 + KERNEL };
  job.tick();
  assert.deepEqual(set.slice(2), [{ space: 5090 }, { inodes: 5100 }], 'anew');
  assert.equal(told.length, 3);
  job.close();
  store.close();
});

test('users and groups of a VE get its time of grace for them, and are not looked at while the kernel gives it by itself', () => {
  const store = openStore(':memory:');
  const events = createEventBus();
  let grace = KERNEL;
  let looked = 0;
  const set: unknown[] = [];
  const limits = { space: { soft: 1, hard: 2 }, inodes: null };
  const alice = { id: 1000, limits, used: { ...none } };
  const wheel = { id: 10, limits, used: { ...none } };
  const options = {
    ves: () => [{ uuid: 'u', name: 'web', grace: null, users: { grace, uidBase: 100_000 } }], store, events, log: { warn: assert.fail },
    volumes: {
      account: assert.fail, extend: assert.fail, kernelGrace: () => ({ space: KERNEL, inodes: KERNEL }),
      users: () => { looked += 1; return { users: [alice], groups: [wheel] }; },
      extendUser: (_uuid: string, uidBase: number, kind: 'user' | 'group', id: number, until: { space?: number }) => {
        set.push([uidBase, kind, id, until]);
        (kind === 'user' ? alice : wheel).used.spaceUntil = until.space!;
      },
    },
  };
  const job = createDiskGrace(options);
  alice.used.spaceUntil = 1000 + KERNEL;
  job.tick();
  assert.equal(looked, 0);
  grace = 60;
  events.emit('ve.changed', { ve: 'u', data: {} });
  job.tick();
  job.tick();
  assert.deepEqual(set, [[100_000, 'user', 1000, { space: 1060 }]]);
  wheel.used.spaceUntil = 2000 + KERNEL;
  job.tick();
  assert.deepEqual(set.slice(1), [[100_000, 'group', 10, { space: 2060 }]]);
  grace = KERNEL; // as it was: those that are over get that, too
  events.emit('ve.changed', { ve: 'u', data: {} });
  job.tick();
  assert.deepEqual(set.slice(2), [[100_000, 'user', 1000, { space: 1000 + KERNEL }], [100_000, 'group', 10, { space: 2000 + KERNEL }]]);
  alice.used.spaceUntil = null;
  wheel.used.spaceUntil = null;
  job.tick();
  const before = looked;
  job.tick();
  assert.equal(looked, before, 'nobody is over');
  job.close();
  store.close();
});
