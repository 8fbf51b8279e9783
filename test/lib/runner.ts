/** Runs test files by node:test, says in one line how each went, and keeps what a failed one printed. */
import { appendFileSync, mkdirSync, rmSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { run } from 'node:test';
import { inspect } from 'node:util';

const ROOT = join(import.meta.dirname, '../..');

/** Lines of an error that are said; all of it goes to the log. */
const SHOWN = 25;

export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

export interface RunnerOptions {
  /** Files at the same time. */
  concurrency: number;
  /** Milliseconds that one file may take in all; a file that holds something open never ends by itself. */
  timeout: number;
  /** Folder for logs of failed files. */
  logs: string;
  signal: AbortSignal;
  say: (line: string) => void;
  /** Tests that took longer are named with their time, in milliseconds; never when not given. */
  slow?: number;
  /** Files whose turn comes later are not begun, in milliseconds since 1970: each counts as one that was skipped, and is named. Default: never. */
  until?: number;
  /** A failed file that printed this runs once more, and only that run counts. */
  again?: string;
}

/** Run the files. @returns totals; a file that could not run, or did not end, counts as one failure */
export async function runFiles(files: readonly string[], options: RunnerOptions): Promise<Totals> {
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  const queue = [...files];
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined && !options.signal.aborted; file = queue.shift()) {
      if (Date.now() > (options.until ?? Infinity)) {
        options.say(`     skipped: ${file} (no time is left for it)`);
        totals.skipped += 1;
        continue;
      }
      let result = await runFile(file, options);
      if (result.again && !options.signal.aborted) {
        options.say(`     ${file} runs once more: ${options.again}`);
        result = await runFile(file, options);
      }
      totals.passed += result.passed;
      totals.failed += result.failed;
      totals.skipped += result.skipped;
    }
  };
  await Promise.all(Array.from({ length: options.concurrency }, worker));
  return totals;
}

async function runFile(file: string, options: RunnerOptions): Promise<Totals & { again: boolean }> {
  const result: Totals = { passed: 0, failed: 0, skipped: 0 };
  const since = Date.now();
  // Lines of a file are said together at its end, so that files that run side by side do not mix; a lone file is said as it goes.
  const lines: string[] = [];
  // Except where a file takes many minutes.
  const name = basename(file, '.test.ts');
  const say = options.slow !== undefined ? (line: string): void => options.say(line.replace(/^ {5}/, `     ${name}: `))
    : options.concurrency > 1 ? (line: string): void => { lines.push(line); } : options.say;
  const output: string[] = [];
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), options.timeout);
  const stream = run({ files: [join(ROOT, file)], isolation: 'process', signal: AbortSignal.any([options.signal, deadline.signal]), cwd: ROOT });
  stream.on('test:stdout', (data) => output.push(data.message));
  stream.on('test:stderr', (data) => output.push(data.message));
  stream.on('test:diagnostic', (data) => {
    // The summary of a file comes as diagnostics too, at the outermost level.
    if (data.message.startsWith('| ')) say(`     ${data.message}`); // a table is what its test is for
    if (data.nesting > 0 || !/^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /.test(data.message)) output.push(`# ${data.message}\n`);
  });
  stream.on('test:pass', (data) => {
    if (data.details.type === 'suite') return;
    if (data.skip !== undefined || data.todo !== undefined) {
      result.skipped += 1;
      say(`     skipped: ${data.name}${typeof data.skip === 'string' ? ` (${data.skip})` : ''}`);
    } else result.passed += 1;
    if (data.details.duration_ms > (options.slow ?? Infinity)) say(`     ${(data.details.duration_ms / 1000).toFixed(1).padStart(6)} s  ${data.name}`);
  });
  stream.on('test:fail', (data) => {
    const error = data.details.error as Error & { failureType?: string; cause?: unknown };
    // A parent that failed only because its parts did is no failure of its own.
    if (error.failureType === 'subtestsFailed') return;
    result.failed += 1;
    const text = inspect(error.cause ?? error, { depth: 2 }).split('\n').slice(0, SHOWN).join('\n       ');
    say(`  ✖  ${data.name} (${relative(ROOT, data.file ?? file)}:${data.line})\n       ${text}`);
    output.push(`\n✖ ${data.name}\n${inspect(error, { depth: 8 })}\n`);
  });
  await new Promise<void>((resolve) => {
    stream.on('end', resolve);
    stream.on('error', (error) => {
      output.push(inspect(error));
      resolve();
    });
    stream.resume();
  });
  clearTimeout(timer);
  if (deadline.signal.aborted) {
    result.failed += 1;
    say(`  ✖  ${file} did not end within ${options.timeout / 1000} s: a test hangs, or left something open`);
  } else if (result.passed + result.failed + result.skipped === 0) {
    result.failed += 1;
    say(`  ✖  ${file} holds no test`);
  }
  const skipped = result.skipped > 0 ? `, ${result.skipped} skipped` : '';
  lines.unshift(`${result.failed > 0 ? 'FAIL' : 'ok  '} ${file}: ${result.passed} passed, ${result.failed} failed${skipped} (${((Date.now() - since) / 1000).toFixed(1)} s)`);
  for (const line of lines) options.say(line);
  // An instance's logs lie under the file's name, written by instance.ts.
  const folder = join(options.logs, basename(file));
  if (result.failed === 0) rmSync(folder, { recursive: true, force: true });
  else {
    mkdirSync(folder, { recursive: true });
    appendFileSync(join(folder, 'output.log'), `${output.join('')}\n`);
  }
  return { ...result, again: result.failed > 0 && options.again !== undefined && output.some((text) => text.includes(options.again ?? '')) };
}
