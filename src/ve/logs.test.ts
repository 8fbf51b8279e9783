import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { defaultSettings } from '../lib/settings.ts';
import { consoleLog, consoleLogFile, lastWords } from './logs.ts';

test('the console log is read from conmon\'s format: parts joined, the tail counted in lines', () => {
  const settings = { ...defaultSettings('t'), stateDir: mkdtempSync(join(tmpdir(), 'veld-logs-')) };
  try {
    const file = consoleLogFile(settings, 'u');
    assert.equal(consoleLog(settings, 'u'), '');
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, 'T1 stdout F one\nT2 stderr P two \nT2 stderr F halves\nrubbish\nT3 stdout F \x1b[31mred\x1b[0m\n');
    assert.equal(consoleLog(settings, 'u'), 'T1 one\nT2 two halves\nT3 \x1b[31mred\x1b[0m\n');
    assert.equal(consoleLog(settings, 'u', 1), 'T3 \x1b[31mred\x1b[0m\n');
    assert.equal(lastWords(settings, 'u'), 'one / two halves / red');
  } finally {
    rmSync(settings.stateDir, { recursive: true });
  }
});
