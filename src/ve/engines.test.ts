import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { listEngines, setCurrentEngine } from '../kernel/engine.ts';
import { defaultSettings } from '../lib/settings.ts';
import type { VeContext } from './context.ts';
import { dropUnusedEngines } from './engines.ts';

test('an engine goes when it is neither the current one nor that of a running or suspended VE, or of a snapshot', () => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-engines-'));
  const settings = { ...defaultSettings('t'), stateDir: join(folder, 'state'), runDir: join(folder, 'run') };
  const [current, used, idle, suspended, kept] = ['a', 'b', 'c', 'd', 'e'].map((digit) => digit.repeat(64)) as [string, string, string, string, string];
  try {
    for (const fingerprint of [current, used, idle, suspended, kept]) {
      mkdirSync(join(settings.stateDir, 'engine', fingerprint), { recursive: true });
      writeFileSync(join(settings.stateDir, 'engine', fingerprint, 'manifest.json'), '{}');
    }
    setCurrentEngine(settings.stateDir, current);
    mkdirSync(join(settings.runDir, 'ves/101'), { recursive: true });
    writeFileSync(join(settings.runDir, 'ves/101/env'), `VELD_ID='t-101'\nVELD_CRUN='${settings.stateDir}/engine/${used}/bin/crun'\n`);
    const store = { listVes: () => [{ suspended: null }, { suspended: { at: '', engine: suspended } }], listSnapshots: () => [{ engine: kept }, { engine: null }] };
    dropUnusedEngines({ settings, store, log: { info: () => {} } } as unknown as VeContext);
    assert.deepEqual(listEngines(settings.stateDir).sort(), [current, used, suspended, kept]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
