import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { readProcess } from '../kernel/process.ts';
import { defaultSettings } from '../lib/settings.ts';
import { settled } from './clean-up.ts';
import type { VeContext } from './context.ts';
import { readRunState } from './run-folder.ts';

const NUMBER = 101;

/** The run folder of a VE whose init has died, and whose conmon does this before it ends. @param waits what veld-settle does beside waiting for the lock */
async function dying(t: TestContext, conmon: string, waits: string) {
  const runDir = mkdtempSync(join(tmpdir(), 'veld-settled-'));
  t.after(() => rmSync(runDir, { recursive: true, force: true }));
  const folder = join(runDir, 'ves', String(NUMBER));
  mkdirSync(folder, { recursive: true });
  for (const name of ['lock', 'env']) writeFileSync(join(folder, name), '');
  writeFileSync(join(runDir, 'veld-settle'), `#!/bin/sh\ncd "$1"\nflock 9 9<lock\n${waits}\n`, { mode: 0o755 });
  copyFileSync('/bin/sh', join(runDir, 'conmon'));
  // (One that is known by its name and by the folder among its arguments.)
  const child = spawn(join(runDir, 'conmon'), ['-c', `cd "$1"; until [ -e go ]; do sleep 0.05; done; ${conmon}`, 'sh', folder, 'x'], { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  await once(child, 'spawn');
  writeFileSync(join(folder, 'conmon.pid'), `${child.pid}\n`);
  const settings = { ...defaultSettings(), runDir, libexecDir: runDir };
  return { folder, settings, context: { settings } as VeContext };
}

test('a VE that reboots just now is waited for, at whatever moment of that somebody looks', async (t) => {
  const { pid, startTime } = readProcess(process.pid)!;
  // The boot begins when the lock has been looked at: it takes away what the old conmon was known by, and has an init at its end.
  const { context, settings, folder } = await dying(t, `sleep 0.3; echo "${pid} ${startTime}" >init`, 'rm -f conmon.pid; : >go');
  await settled(context, NUMBER);
  assert.equal(readRunState(settings, NUMBER).init?.pid, pid);
  assert.ok(existsSync(join(folder, 'go')));
});

test('one that has ended for good is settled when its conmon has left its note', async (t) => {
  const { context, settings } = await dying(t, 'sleep 0.3; echo "130 1700000000" >exited', ': >go');
  await settled(context, NUMBER);
  assert.equal(readRunState(settings, NUMBER).exited?.code, 130);
});

test('one whose conmon was killed is settled at once', async (t) => {
  const { context, settings, folder } = await dying(t, '', '');
  writeFileSync(join(folder, 'conmon.pid'), '0\n');
  await settled(context, NUMBER);
  assert.equal(readRunState(settings, NUMBER).between, true);
});
