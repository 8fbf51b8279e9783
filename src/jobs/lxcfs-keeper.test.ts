import { test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../lib/log.ts';
import { createEventBus } from '../ops/events.ts';
import { createLxcfsKeeper, lxcfsBackOff } from './lxcfs-keeper.ts';

test('the first end is answered at once, later ones of a row later', () => {
  assert.deepEqual([1, 2, 3, 4, 20].map(lxcfsBackOff), [0, 1000, 2000, 4000, 60_000]);
});

test('where no lxcfs was built there is nothing to keep', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-lxcfs-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const events = createEventBus();
  const keeper = createLxcfsKeeper({
    options: { stateDir: folder, runDir: folder, instance: 'tlxc' }, events, log: silentLogger(), askEvery: 1, stale: () => { throw new Error('nobody to ask'); },
  });
  await keeper.start();
  await keeper.mend();
  events.emit('ve.started', { ve: 'x' });
  assert.deepEqual(keeper.history(), { ended: 0, lastEnd: null, trouble: null, staleVes: [] });
  await keeper.close();
  assert.deepEqual(events.since(0).map(({ type }) => type), ['ve.started']);
});
