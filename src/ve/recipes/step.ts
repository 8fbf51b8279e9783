/** A step of a build: one command in a VE, logged, ended by a cancel and when its time is over. */
import { VeldError } from '../../lib/errors.ts';
import type { VeRecord } from '../../store/types.ts';
import type { VeContext } from '../context.ts';
import { execInVe } from '../exec.ts';
import type { BuildLog } from './log.ts';

export interface Step {
  command: readonly string[];
  /** What is being done, for the log and the error: `recipe.yaml:12: a2enmod rewrite`. */
  title: string;
  input?: string | Buffer;
  env?: Record<string, string>;
  /** Milliseconds. */
  patience: number;
}

/** What a build works with. */
export interface Bench {
  context: VeContext;
  ve: VeRecord;
  log: BuildLog;
  signal: AbortSignal;
}

/** What every line finds: nobody to ask, and the day that belongs to a build, so that the same lines leave the same tree. */
const ENVIRONMENT = { DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8', SOURCE_DATE_EPOCH: '1704067200' };

/** Run a command, and throw when it fails. @throws VeldError `template.build_failed` with the last lines that it said; `operation.cancelled` */
export async function runStep(bench: Bench, step: Step): Promise<void> {
  const code = await statusOf(bench, step);
  if (code !== 0) throw stepFailed(bench.log, step, `ended with status ${code}`);
}

/** Run a command. @returns its exit status @throws VeldError `template.build_failed` when it could not be begun, or takes too long */
export async function statusOf({ context, ve, log, signal }: Bench, step: Step): Promise<number> {
  signal.throwIfAborted();
  log.say(step.title);
  try {
    const session = await execInVe(context, ve, { command: [...step.command], env: { ...ENVIRONMENT, ...step.env }, cwd: '/' });
    for (const stream of [session.stdout, session.stderr]) stream?.on('data', (chunk: Buffer) => log.write(chunk));
    if (step.input !== undefined) session.stdin.write(step.input);
    session.stdin.end();
    return await new Promise<number>((resolve, reject) => {
      const end = (error: Error): void => {
        session.kill('SIGKILL');
        reject(error);
      };
      const abort = (): void => end(signal.reason as Error);
      const timer = setTimeout(() => end(new VeldError('timeout', `did not end within ${step.patience / 1000} s`)), step.patience);
      signal.addEventListener('abort', abort, { once: true });
      if (signal.aborted) abort();
      session.exit.then(resolve, reject).finally(() => {
        clearTimeout(timer);
        signal.removeEventListener('abort', abort);
      });
    });
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof VeldError)) throw error;
    throw stepFailed(log, step, error.code === 'timeout' ? error.message : `failed: ${error.message.replace(/\.$/, '')}`, error);
  }
}

/** @param what goes on from the step's title */
export function stepFailed(log: BuildLog, { title }: Pick<Step, 'title'>, what: string, cause?: unknown): VeldError {
  const lines = log.last();
  return new VeldError('template.build_failed', `${title} ${what}${lines.length === 0 ? '.' : `; its last words were: ${lines.slice(-3).join(' / ')}`}`, { details: { lines }, ...cause !== undefined && { cause } });
}
