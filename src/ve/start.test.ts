import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { defaultSettings } from '../lib/settings.ts';
import type { Task } from '../ops/types.ts';
import { sampleVe } from '../store/conformance.ts';
import { openStore } from '../store/sqlite.ts';
import type { VeContext } from './context.ts';
import { startVe } from './start.ts';

const runDir = mkdtempSync(join(tmpdir(), 'veld-start-'));
after(() => rmSync(runDir, { recursive: true, force: true }));

test('nothing starts a VE that was granted to a node which has not answered, not even what asks nobody', async () => {
  const store = openStore(':memory:');
  const ve = { ...sampleVe(1), suspended: null };
  store.insertVe(ve);
  store.setHandover({ id: 'a'.repeat(32), role: 'source', ve: ve.uuid, node: 'b', epoch: 1, kind: 'running', at: new Date().toISOString() });
  const context = { store, settings: { ...defaultSettings(), runDir }, resources: { expectMoves() {}, list: () => [], pids: () => [] } } as unknown as VeContext;
  const task = { undo() { throw new Error('it was about to start'); } } as unknown as Task;
  await assert.rejects(startVe(context, ve.uuid, task), { code: 'migration.undecided' });
  // One that has come from there is its own.
  store.deleteHandover('a'.repeat(32), 'source');
  store.setHandover({ id: 'a'.repeat(32), role: 'target', ve: ve.uuid, node: 'b', epoch: 1, kind: 'running', at: new Date().toISOString() });
  await assert.rejects(startVe(context, ve.uuid, task), /about to start/);
  store.close();
});
