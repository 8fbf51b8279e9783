/** `./check`, after the shell part has installed what is missing: runs the suites and ends with `N passed, N failed`. */
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { EMULATOR_BROKE } from './emulator.ts';
import { identity, removeGuard, writeGuard } from './guard.ts';
import { runFiles } from './runner.ts';
import type { Totals } from './runner.ts';
import { filesOf, leftToFull } from './suites.ts';
import type { SuiteName } from './suites.ts';
import { sweepAll } from './sweep.ts';

const ROOT = join(import.meta.dirname, '../..');
const LOGS = join(ROOT, '.cache/check', String(process.pid));
const MODES = ['lint', 'unit', 'system', 'full', 'vm'];

const started = Date.now();
const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
const abort = new AbortController();
const say = (line: string): void => { process.stdout.write(`${line}\n`); };

/** One program as one test. */
async function step(name: string, args: string[]): Promise<void> {
  const since = Date.now();
  const output: Buffer[] = [];
  const code = await new Promise<number>((resolve) => {
    const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], signal: abort.signal });
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => output.push(chunk));
    child.on('error', () => resolve(1));
    child.on('close', (status) => resolve(status ?? 1));
  });
  if (code === 0) totals.passed += 1;
  else totals.failed += 1;
  say(`${code === 0 ? 'ok  ' : 'FAIL'} ${name} (${((Date.now() - since) / 1000).toFixed(1)} s)`);
  if (code !== 0) say(Buffer.concat(output).toString('utf8').trimEnd());
}

async function suite(name: SuiteName, wanted: readonly string[], options: { concurrency: number; timeout: number; slow?: number; again?: string }): Promise<void> {
  const files = filesOf(name, wanted);
  if (files.length === 0) {
    say(`     no ${name} tests${wanted.length > 0 ? ` match ${wanted.join(' ')}` : ' yet'}`);
    return;
  }
  if (wanted.length === 0) sayLeft(name);
  const until = Number(process.env.VELD_TEST_UNTIL ?? Infinity) * 1000;
  const result = await runFiles(files, { ...options, until, logs: LOGS, signal: abort.signal, say });
  totals.passed += result.passed;
  totals.failed += result.failed;
  totals.skipped += result.skipped;
}

/** Which files of a suite an everyday run leaves out. */
function sayLeft(name: SuiteName): void {
  const left = process.env.VELD_TEST_FULL === undefined ? leftToFull(name) : [];
  if (left.length > 0) say(`     only in ${name === 'vm' ? 'VELD_TEST_FULL=1 ./check vm' : './check full'}: ${left.join(' ')}`);
}

async function lint(): Promise<void> {
  await step('lint', ['node_modules/oxlint/bin/oxlint', '--type-aware', '--deny-warnings', 'src', 'test', 'bench']);
  await step('typecheck', ['node_modules/typescript/bin/tsc', '--noEmit']);
  await suite('lint', [], { concurrency: 2, timeout: 60_000 });
}

async function system(wanted: readonly string[]): Promise<void> {
  if (process.getuid?.() !== 0) {
    totals.failed += 1;
    say('FAIL system tests need root: they make VEs, links and cgroups on this machine');
    return;
  }
  // Users run the bundles: so do these tests.
  await step('build', ['node_modules/rolldown/bin/cli.mjs', '-c', 'rolldown.config.ts']);
  process.env.VELD_TEST_BUNDLES = '1';
  const guard = writeGuard();
  process.env.VELD_TEST_OK = guard;
  process.env.VELD_TEST_LOGS = LOGS;
  const me = identity();
  try {
    for (const name of await sweepAll()) say(`     swept instance ${name} of an interrupted run`);
    // Loaded only now: these stand on Veld's own sources, and lint must run however broken those are.
    const [{ buildCache }, { startInstance }] = await Promise.all([import('./cache.ts'), import('./instance.ts')]);
    await buildCache(() => startInstance({ noTemplate: true }), (line) => say(`     ${line}`));
    const slow = process.env.VELD_TEST_SLOW;
    await suite('system', wanted, { concurrency: 1, timeout: process.env.VELD_TEST_FULL ? 3 * 3_600_000 : 1_200_000, ...slow !== undefined && { slow: Number(slow) * 1000 } });
  } catch (error) {
    totals.failed += 1;
    say(`FAIL system tests could not begin: ${(error as Error).stack}`);
  } finally {
    const left = await sweepAll(me);
    if (left.length > 0) say(`     swept what tests left: ${left.join(' ')}`);
    removeGuard(guard);
  }
}

async function vm(wanted: readonly string[]): Promise<void> {
  if (process.getuid?.() !== 0) {
    totals.failed += 1;
    say('FAIL vm tests need root: images are made by mmdebstrap, with the owners that their files shall have');
    return;
  }
  process.env.VELD_TEST_LOGS = LOGS;
  const { forgetProgram, prepareVms } = await import('./prepare-vms.ts');
  try {
    const files = filesOf('vm', wanted);
    if (wanted.length === 0) sayLeft('vm');
    await prepareVms(files, (line) => say(`     ${line}`), abort.signal);
    const options = { timeout: process.env.VELD_TEST_FULL === undefined ? 1_800_000 : 3_600_000, slow: 1000, again: EMULATOR_BROKE };
    // A pair is two machines; of the others two at a time: machines wait much, and what one leaves of two cores the other uses.
    const isPair = (file: string): boolean => /\/pair[.-]/.test(file);
    if (files.some(isPair)) await suite('vm', files.filter(isPair), { concurrency: 1, ...options });
    if (!files.every(isPair)) await suite('vm', files.filter((file) => !isPair(file)), { concurrency: 2, ...options });
  } catch (error) {
    totals.failed += 1;
    say(`FAIL vm tests could not begin: ${(error as Error).stack}`);
  } finally {
    forgetProgram();
  }
}

async function main(): Promise<void> {
  const [mode = 'all', ...wanted] = process.argv.slice(2);
  if (mode !== 'all' && !MODES.includes(mode)) {
    say(`check: usage: ./check [${MODES.join('|')}] [FILE...]`);
    process.exitCode = 2;
    return;
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (!abort.signal.aborted) say('check: interrupted; cleaning up');
      abort.abort();
    });
  }
  mkdirSync(LOGS, { recursive: true });
  const all = mode === 'all' || mode === 'full';
  if (mode === 'full') process.env.VELD_TEST_FULL = '1';
  if (all || mode === 'lint') await lint();
  if (all || mode === 'unit') await suite('unit', wanted, { concurrency: 2, timeout: 300_000 });
  if (all || mode === 'system') await system(wanted);
  if (mode === 'vm') await vm(wanted);

  if (abort.signal.aborted) totals.failed += 1;
  if (totals.failed > 0) say(`\nLogs of failed tests: ${LOGS}`);
  else rmSync(LOGS, { recursive: true, force: true });
  say(`${((Date.now() - started) / 1000).toFixed(0)} s${totals.skipped > 0 ? `, ${totals.skipped} skipped` : ''}`);
  say(`${totals.passed} passed, ${totals.failed} failed`);
  process.exitCode = totals.failed > 0 || totals.passed === 0 ? 1 : 0;
}

await main();
