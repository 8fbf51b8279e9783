import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { listEngines, setCurrentEngine } from '../kernel/engine.ts';
import { defaultSettings } from '../lib/settings.ts';
import type { VeContext } from './context.ts';
import { dropUnusedEngines } from './engines.ts';

test('an engine goes when it is neither the current one nor that of a running VE', () => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-engines-'));
  const settings = { ...defaultSettings('t'), stateDir: join(folder, 'state'), runDir: join(folder, 'run') };
  const [current, used, idle] = ['a', 'b', 'c'].map((digit) => digit.repeat(64)) as [string, string, string];
  try {
    for (const fingerprint of [current, used, idle]) {
      mkdirSync(join(settings.stateDir, 'engine', fingerprint), { recursive: true });
      writeFileSync(join(settings.stateDir, 'engine', fingerprint, 'manifest.json'), '{}');
    }
    setCurrentEngine(settings.stateDir, current);
    mkdirSync(join(settings.runDir, 'ves/101'), { recursive: true });
    writeFileSync(join(settings.runDir, 'ves/101/env'), `VELD_ID='t-101'\nVELD_CRUN='${settings.stateDir}/engine/${used}/bin/crun'\n`);
    dropUnusedEngines({ settings, log: { info: () => {} } } as unknown as VeContext);
    assert.deepEqual(listEngines(settings.stateDir).sort(), [current, used]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
