import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { takeLock } from './lock.ts';

test('one process at a time; a killed process holds nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-lock-'));
  try {
    const file = join(folder, 'deep', 'lock');
    const script = `const { takeLock } = await import(${JSON.stringify(new URL('./lock.ts', import.meta.url).href)});
      console.log(takeLock(${JSON.stringify(file)}) ? 'held' : 'refused'); setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [said] = await once(holder.stdout, 'data') as [Buffer];
    assert.equal(said.toString().trim(), 'held');
    assert.equal(takeLock(file), undefined);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const lock = takeLock(file);
    assert.ok(lock);
    assert.equal(takeLock(file), undefined, 'twice in one process');
    lock.release();
    const again = takeLock(file);
    assert.ok(again);
    again.release(true);
    assert.equal(existsSync(file), false);
    takeLock(file)!.release();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
