/** Runs programs: argument vectors only, a fixed environment, bounded output, and an error that holds everything needed to debug. */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { basename } from 'node:path';
import { VeldError } from './errors.ts';
import { faultPoint } from './faults.ts';

/** PATH of every program that the daemon runs. */
export const SAFE_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** What is kept of each output stream, in bytes. */
const OUTPUT_LIMIT = 1 << 20;

export interface RunOptions {
  /** Text or bytes for standard input; without it standard input is /dev/null. */
  input?: string | Uint8Array;
  /** Added to the fixed environment (PATH, LC_ALL=C). */
  env?: Record<string, string>;
  cwd?: string;
  signal?: AbortSignal;
  /** Milliseconds after which the program is killed. */
  timeout?: number;
  /** Exit statuses other than 0 that are answers, not failures; `true` for all. */
  allow?: readonly number[] | true;
  /** What is kept of each output stream, in bytes; default 1 MiB. */
  keep?: number;
  /** Called for each line of standard error and standard output as it comes (progress of long programs). */
  onLine?: (line: string) => void;
}

export interface RunResult {
  /** Exit status; 128 + signal number when a signal ended it. */
  code: number;
  stdout: string;
  stderr: string;
}

/**
 * Run `file` with `args` and wait for its end (`exit`, not `close`: a daemonised grandchild may hold the pipes).
 * @throws VeldError `command.failed` with the status and the end of stderr; `timeout`; `operation.cancelled`
 */
export function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    options.signal?.throwIfAborted();
    const child = spawn(file, args, {
      cwd: options.cwd ?? '/',
      env: { PATH: SAFE_PATH, LC_ALL: 'C', HOME: '/root', ...options.env },
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      ...(options.signal && { signal: options.signal, killSignal: 'SIGTERM' as const }),
    });
    let timedOut = false;
    const timer = options.timeout === undefined ? undefined : setTimeout(() => { timedOut = true; child.kill('SIGKILL'); }, options.timeout);
    const out = collect(child.stdout, options.keep, options.onLine);
    const err = collect(child.stderr, options.keep, options.onLine);
    if (options.input !== undefined) {
      child.stdin?.on('error', () => {}); // the program may end without reading everything
      child.stdin?.end(options.input);
    }
    let settled = false;
    const finish = (code: number): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      child.stdout?.destroy();
      child.stderr?.destroy();
      const result = { code, stdout: out(), stderr: err() };
      const name = basename(file);
      try { faultPoint(`ran:${name}`); } catch (error) { reject(error); return; }
      if (timedOut) reject(new VeldError('timeout', `${name} did not end within ${options.timeout} ms.`, { details: { args } }));
      else if (code === 0 || options.allow === true || options.allow?.includes(code)) resolve(result);
      else reject(new VeldError('command.failed', `${name} ended with status ${code}: ${lastLines(result.stderr || result.stdout)}`,
        { details: { file, args, code, stderr: result.stderr.slice(-4000) } }));
    };
    child.on('error', (error) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      if (error.name === 'AbortError') reject(new VeldError('operation.cancelled', `${basename(file)} was cancelled.`, { cause: error }));
      else reject(new VeldError('command.failed', `${basename(file)} could not be run: ${error.message}`, { cause: error, details: { file, args } }));
    });
    child.on('close', (code, signal) => finish(status(code, signal)));
    // Pipes that a daemonised grandchild keeps open never close. What the program itself wrote is in them at its end, and all of it has been read
    // when a turn of the loop brought nothing new: Node may see the end first, and timers that are due go before reading, so time alone says nothing.
    const drain = (code: number, before: number): void => {
      setTimeout(() => setImmediate(() => {
        const now = bytesOf(child.stdout) + bytesOf(child.stderr);
        if (now === before) finish(code);
        else drain(code, now);
      }), 20);
    };
    child.on('exit', (code, signal) => drain(status(code, signal), -1));
  });
}

const SIGNALS: Record<string, number> = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGPIPE: 13, SIGTERM: 15, SIGSYS: 31 };

function status(code: number | null, signal: string | null): number {
  return code ?? 128 + (SIGNALS[signal ?? ''] ?? 0);
}

/** What was read so far; the pipes of a child are sockets to Node. */
function bytesOf(stream: unknown): number {
  return (stream as Socket | null)?.bytesRead ?? 0;
}

function collect(stream: NodeJS.ReadableStream | null, limit = OUTPUT_LIMIT, onLine?: (line: string) => void): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  let rest = '';
  stream?.on('data', (chunk: Buffer) => {
    if (size < limit) { chunks.push(chunk); size += chunk.length; }
    if (!onLine) return;
    const lines = (rest + chunk.toString('utf8')).split(/[\n\r]/);
    rest = (lines.pop() ?? '').slice(-4096);
    for (const line of lines) if (line) onLine(line);
  });
  return () => Buffer.concat(chunks).toString('utf8');
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-3).join(' / ').slice(-600) || 'it printed nothing';
}
