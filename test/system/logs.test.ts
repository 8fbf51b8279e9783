/** `veld logs --follow`: lines as they come, and no watch that outlives its listener. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CLI } from '../lib/program.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
await veld.createRunning('web');
await veld.booted('web');

function follow(...words: string[]): { child: ChildProcess; seen: () => string; ended: Promise<number | null> } {
  const child = spawn(process.execPath, [...CLI, 'logs', '-f', 'web', ...words],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env.PATH, VELD_SETTINGS: veld.settingsFile } });
  let seen = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => { seen += chunk.toString('utf8'); });
  return { child, seen: () => seen, ended: new Promise((resolve) => { child.on('close', resolve); }) };
}

/** Watches that the daemon has on the folder of consoles. */
function watches(): number {
  const folder = `/proc/${veld.pid}/fdinfo`;
  return readdirSync(folder).reduce((sum, fd) => {
    try {
      return sum + (readFileSync(join(folder, fd), 'utf8').match(/^inotify wd:/gm)?.length ?? 0);
    } catch {
      return sum; // closed meanwhile
    }
  }, 0);
}

test('lines come as the VE writes them, each once; the watch goes with the listener', async () => {
  const before = watches();
  const { child, seen, ended } = follow('--tail', '0', '--json');
  try {
    await until('the daemon to watch', () => watches() > before);
    for (let i = 0; i < 20; i += 1) await veld.exec('web', 'sh', '-c', `echo line-${i}-. >/dev/console`);
    await until('the last line', () => seen().includes('line-19-.'));
    const lines = seen().trim().split('\n').map((line) => (JSON.parse(line) as { line: string }).line);
    assert.deepEqual(lines.flatMap((line) => /line-(\d+)-\./.exec(line)?.[1] ?? []), Array.from({ length: 20 }, (_, i) => String(i)));
  } finally {
    child.kill('SIGKILL');
  }
  await ended;
  await until('the watch to go', () => watches() === before);
});

test('it goes on over a reboot of the VE, and ends when that is destroyed', async () => {
  const { seen, ended } = follow('--tail', '0');
  await veld.cli('restart', 'web');
  await veld.booted('web');
  await veld.exec('web', 'sh', '-c', 'echo after the reboot >/dev/console');
  await until('a line of the second boot', () => seen().includes('after the reboot'));
  await veld.cli('destroy', '--force', '--yes', 'web');
  assert.equal(await ended, 4, seen());
  assert.match(seen(), /There is no VE/);
});
