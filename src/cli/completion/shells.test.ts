/** Completion in the real shells: what is on the command line after the tab key. A shell that is not there is skipped; `./check` installs them. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { COMPILED, startTestDaemon, ve } from '../test-daemon.ts';

const SHARE = join(import.meta.dirname, '../../../share/completion');
const has = (shell: string): { timeout: number; skip?: string } =>
  ({ timeout: 100_000, ...spawnSync('/bin/sh', ['-c', `command -v ${shell}`]).status !== 0 && { skip: `${shell} is not installed` } });

/** A folder with `veld` that talks to a daemon with the VEs web (runs) and db (stopped), and says with what it was called. */
async function prepare(t: TestContext, socket?: string): Promise<{ folder: string; env: Record<string, string> }> {
  const daemon = await startTestDaemon(t, { 'GET /v1/ves': () => [ve({ name: 'web' }), ve({ name: 'db', status: 'stopped' })] });
  const folder = mkdtempSync(join(tmpdir(), 'veld-shell-'));
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })); // a shell that was ended may still write its history
  const program = `#!/bin/sh\nif [ "$1" = __complete ]; then exec '${process.execPath}' '${join(import.meta.dirname, '../main.ts')}' "$@"; fi\n`
    + 'printf "ran:"; printf "<%s>" "$@"; echo ";"\n';
  writeFileSync(join(folder, 'veld'), program);
  chmodSync(join(folder, 'veld'), 0o755);
  writeFileSync(join(folder, 'archive.tar'), '');
  return {
    folder,
    env: {
      PATH: `${folder}:${process.env.PATH}`, HOME: folder, TERM: 'dumb', VELD_SOCKET: socket ?? daemon.socket, VELD_SETTINGS: '/nonexistent', LC_ALL: 'C.UTF-8',
      XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder, fish_greeting: '', ...COMPILED,
    },
  };
}

/** Type lines into a shell on a terminal, each after the last was answered. @returns what `veld` was called with, by line */
async function type(t: TestContext, command: string, folder: string, env: Record<string, string>, setup: string, lines: readonly string[]): Promise<string[]> {
  const child = spawn('script', ['-qec', command, '/dev/null'], { cwd: folder, env, stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  let seen = '';
  let heard = (): void => {};
  child.stdout.on('data', (chunk: Buffer) => {
    seen += chunk.toString('utf8');
    heard();
  });
  const until = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (;;) {
      const match = pattern.exec(seen);
      if (match) return match;
      await new Promise<void>((resolve) => { heard = resolve; });
    }
  };
  child.stdin.write(`${setup}\n`);
  await until(/ready-now/);
  const calls: string[] = [];
  for (const line of lines) {
    seen = '';
    child.stdin.write(`${line}\n`);
    calls.push((await until(/ran:((?:<[^>]*>)*);/))[1]!);
  }
  child.stdin.end('exit\n');
  return calls;
}

/** What is typed, and what `veld` is then called with. Each has one answer only, or the shell would ask back. */
const LINES: [typed: string, called: string][] = [
  ['veld resta\twe\t', '<restart><web>'],
  ['veld start \t', '<start><db>'],
  ['veld set web memory.l\tunl\t', '<set><web><memory.limit=unlimited>'],
  ['veld set web restart.policy=on\t', '<set><web><restart.policy=on-failure>'],
  ['veld template im\tarch\tx', '<template><import><archive.tar><x>'],
  ['veld top --sort=mem\t', '<top><--sort=memory>'],
  ['veld stop --fo\tweb', '<stop><--force><web>'],
];

test('bash', has('bash'), async (t) => {
  const { folder, env } = await prepare(t);
  const setup = `source '${SHARE}/veld.bash'; bind 'set bell-style none'; echo ready-$(echo now)`;
  const calls = await type(t, 'bash --norc --noprofile -i', folder, env, setup, [...LINES.map(([typed]) => typed), 'veld set web "memory.limit=1G" cpu.w\t50', '  veld  show   w\t']);
  assert.deepEqual(calls, [...LINES.map(([, called]) => called), '<set><web><memory.limit=1G><cpu.weight=50>', '<show><web>']);
});

test('zsh', has('zsh'), async (t) => {
  const { folder, env } = await prepare(t);
  const setup = `autoload -U compinit; compinit -u -D; source '${SHARE}/veld.zsh'; unsetopt zle_bracketed_paste beep; unset zle_bracketed_paste; echo ready-$(echo now)`;
  assert.deepEqual(await type(t, 'zsh -f -i', folder, { ...env, TERM: 'xterm' }, setup, LINES.map(([typed]) => typed)), LINES.map(([, called]) => called));
});

test('zsh, loaded by its own name from a folder of fpath', has('zsh'), async (t) => {
  const { folder, env } = await prepare(t);
  spawnSync('cp', [join(SHARE, 'veld.zsh'), join(folder, '_veld')]);
  const setup = `fpath=('${folder}' $fpath); autoload -U compinit; compinit -u -D; unset zle_bracketed_paste; echo ready-$(echo now)`;
  assert.deepEqual(await type(t, 'zsh -f -i', folder, { ...env, TERM: 'xterm' }, setup, ['veld resta\twe\t', 'veld thaw x']), ['<restart><web>', '<thaw><x>']);
});

test('fish', has('fish'), async (t) => {
  const { folder, env } = await prepare(t);
  const ask = (line: string): string[] => {
    const { stdout, stderr } = spawnSync('fish', ['--no-config', '-c', `source '${SHARE}/veld.fish'; complete -C '${line}'`], { env, cwd: folder, encoding: 'utf8' });
    assert.equal(stderr, '');
    return stdout.trim().split('\n');
  };
  // A child of a synchronous call cannot be answered by this process: names need the daemon, and come in the next test.
  assert.deepEqual(ask('veld resta'), ['restart\tStop VEs and start them again']);
  assert.deepEqual(ask('veld template im'), ['import\tMake a template of a root file system archive']);
  assert.deepEqual(ask('veld set web restart.policy=on').map((line) => line.split('\t')[0]), ['restart.policy=on-failure']);
  assert.deepEqual(ask('veld template import arch').map((line) => line.split('\t')[0]), ['archive.tar']);
  assert.deepEqual(ask('veld exec web -- '), ['']);
});

test('fish asks the daemon for names', has('fish'), async (t) => {
  const { folder, env } = await prepare(t);
  const child = spawn('fish', ['--no-config', '-c', `source '${SHARE}/veld.fish'; complete -C 'veld start '; complete -C 'veld stop w'`], { env, cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  for await (const chunk of child.stdout) out += String(chunk);
  assert.equal(out, 'db\tstopped\nweb\trunning\n');
});

test('nothing is said when the daemon is down, and the rest still works', has('bash'), async (t) => {
  const { folder, env } = await prepare(t, '/nonexistent/veld.sock');
  const run = (...words: string[]) => spawnSync(join(folder, 'veld'), ['__complete', ...words], { env, encoding: 'utf8' });
  for (const words of [['start', ''], ['create', 'x', '-t', '']]) {
    const { stdout, stderr, status } = run(...words);
    assert.deepEqual([stdout, stderr, status], [':\n', '', 0]);
  }
  assert.match(run('sto').stdout, /^:\nstop\t/);
});

test('a daemon that does not answer costs a moment, not for ever', async (t) => {
  const daemon = await startTestDaemon(t, { 'GET /v1/ves': () => undefined });
  const { stdout, status } = await daemon.veld(['__complete', 'start', '']);
  assert.deepEqual([stdout, status], [':\n', 0]);
});
