/** The manifest of a state that came from another node. (Whole states, hostile and not: test/system/migrate-hostile-state.test.ts.) Needs root, as what comes is root's. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { VeldError } from '../lib/errors.ts';
import { readReceived } from './received.ts';
import type { Manifest, StateFolder } from './types.ts';

const skip = process.getuid?.() !== 0 ? 'needs root' : false;
const dir = mkdtempSync(join(tmpdir(), 'veld-received-'));
after(() => rmSync(dir, { recursive: true }));
const state: StateFolder = { dir, images: join(dir, 'images'), runtime: join(dir, 'runtime'), config: join(dir, 'config.json') };
for (const folder of [state.images, state.runtime]) mkdirSync(folder);
for (const name of ['inventory.img', 'files.img', 'cgroup.img', 'pstree.img']) writeFileSync(join(state.images, name), '');
const GOOD = { format: 1, ve: 'v', uidBase: 65_536, engine: 'e', kernel: 'k', architecture: 'x64', mounts: [], createdAt: '2026-01-01T00:00:00Z' };

const received = (fields: object): Promise<Manifest> => {
  writeFileSync(join(dir, 'manifest.json'), JSON.stringify({ ...GOOD, ...fields }));
  return readReceived(state);
};

test('peaks and refusals of beancounters come along, and nothing that is none', { skip }, async () => {
  assert.equal((await received({})).beancounters, undefined, 'of an earlier version');
  assert.deepEqual((await received({ beancounters: { numproc: { maxheld: 5, failcnt: 2, more: 1 }, unknown: { maxheld: 'x' } } })).beancounters, { numproc: { maxheld: 5, failcnt: 2 } });
  assert.deepEqual((await received({ beancounters: 5 })).beancounters, {});
  for (const wrong of [{ maxheld: -1, failcnt: 0 }, { maxheld: 1 }, { maxheld: 1.5, failcnt: 0 }, { maxheld: '1', failcnt: 0 }, { maxheld: 2 ** 60, failcnt: 0 }, null, 5, []]) {
    await assert.rejects(received({ beancounters: { numproc: wrong } }), (error: VeldError) => error.code === 'migration.stream', JSON.stringify(wrong));
  }
});
