/** Runs operations of the daemon for a person: progress on one line of the terminal, Ctrl-C asks for cancellation, errors one by one. */
import type { OperationRecord } from '../store/types.ts';
import { toVeldError, VeldError } from '../lib/errors.ts';
import type { Context } from './context.ts';
import { reportFailure } from './failure.ts';
import { sanitise } from './show/text.ts';
import { truncate } from './show/table.ts';

/** A request that starts an operation. */
export interface Job {
  /** What it works on, as the user named it. */
  label: string;
  method: 'POST' | 'PATCH' | 'DELETE';
  path: string;
  body?: unknown;
}

/** Either a record or an error. A failed operation has both. */
export interface Outcome {
  label: string;
  record?: OperationRecord;
  error?: VeldError;
}

/** Options that every command with an operation has. */
export interface WaitOptions {
  /** `--no-wait`. */
  wait?: boolean;
  /** How many are begun before others have ended; default: all. */
  atOnce?: number;
}

/** The option `--no-wait`. */
export const NO_WAIT = { flags: '--no-wait', help: 'Return as soon as the daemon has taken the operation up; prints its id' } as const;

/**
 * Run one job to its end and give its record.
 * @throws VeldError the operation's error
 */
export async function runJob(context: Context, job: Job, options: WaitOptions = {}): Promise<OperationRecord> {
  const [outcome] = await runJobs(context, [job], options);
  if (outcome!.error) throw outcome!.error;
  return outcome!.record!;
}

/** Run jobs side by side. Never throws: each outcome has its record or its error, in the order of the jobs. */
export async function runJobs(context: Context, jobs: readonly Job[], { wait = true, atOnce = Infinity }: WaitOptions = {}): Promise<Outcome[]> {
  const client = await context.client();
  const latest = new Map<Job, OperationRecord>();
  const outcome = async (job: Job, work: () => Promise<OperationRecord>): Promise<Outcome> => {
    try {
      return { label: job.label, record: await work() };
    } catch (error) {
      const record = latest.get(job);
      return { label: job.label, ...(record && { record }), error: toVeldError(error) };
    }
  };
  if (!wait) return Promise.all(jobs.map((job) => outcome(job, () => client.request<OperationRecord>(job.method, job.path, job.body))));

  const running = new Set(jobs);
  const turn = turns(atOnce);
  const line = progressLine(context, jobs.length);
  let cancelling = false;
  const cancel = async (record: OperationRecord): Promise<void> => {
    try {
      await client.request('DELETE', `/v1/operations/${record.id}`);
    } catch (error) {
      line.note(`veld: ${toVeldError(error).message} Waiting for its end; Ctrl-C again leaves it alone.\n`);
    }
  };
  const onInterrupt = (): void => {
    if (cancelling) {
      line.clear();
      context.err('veld: left; the daemon goes on. See `veld operation list`.\n');
      process.exit(130);
    }
    cancelling = true;
    line.note('veld: cancelling (Ctrl-C again leaves without waiting)\n');
    for (const job of running) if (latest.has(job)) void cancel(latest.get(job)!);
  };
  process.on('SIGINT', onInterrupt);
  let outcomes: Outcome[] = [];
  try {
    outcomes = await Promise.all(jobs.map((job) => outcome(job, () => turn(async () => {
      if (cancelling) throw new VeldError('operation.cancelled', 'It was not begun.');
      try {
        return await client.operation(job.method, job.path, job.body, (record) => {
          const first = !latest.has(job);
          latest.set(job, record);
          // Asked to cancel before the daemon had told the operation's id.
          if (first && cancelling && record.state === 'running') void cancel(record);
          line.show(running, latest);
        });
      } finally {
        running.delete(job);
        line.show(running, latest);
      }
    }))));
  } finally {
    process.off('SIGINT', onInterrupt);
    line.clear();
  }
  for (const { record } of outcomes) {
    // What was done, and should be known all the same.
    for (const warning of (record?.result as { warnings?: string[] } | null | undefined)?.warnings ?? []) context.err(`veld: ${sanitise(warning)}\n`);
  }
  return outcomes;
}

/**
 * Do the same verb to several VEs and say how each went. One that is named twice is worked on once.
 * @param said what to print for one that succeeded, e.g. `web started`
 * @returns exit status: of the first that failed
 */
export async function runForEach(context: Context, given: readonly Job[], options: WaitOptions, said: (label: string, record?: OperationRecord) => string,
  afterwards?: (label: string) => Promise<void>): Promise<number> {
  const jobs = given.filter((job, i) => given.findIndex((other) => other.path === job.path) === i);
  const outcomes = await runJobs(context, jobs, options);
  if (afterwards && options.wait !== false) {
    await Promise.all(outcomes.map(async (outcome) => {
      if (outcome.error) return;
      try {
        await afterwards(outcome.label);
      } catch (error) {
        outcome.error = toVeldError(error);
      }
    }));
  }
  let status = 0;
  for (const { label, record, error } of outcomes) {
    if (error) {
      const exit = reportFailure(context, error, jobs.length > 1 ? label : undefined);
      status ||= exit;
    } else if (!context.json) context.out(options.wait === false ? `${record!.id}\n` : `${said(label, record)}\n`);
  }
  if (context.json) context.printJson(outcomes.flatMap(({ record }) => record ?? []));
  return status;
}

/** Lets so many works go on side by side; others wait for their turn. */
function turns(atOnce: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = atOnce;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free--;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free++;
    }
  };
}

interface ProgressLine {
  show(running: ReadonlySet<Job>, latest: ReadonlyMap<Job, OperationRecord>): void;
  /** A line of its own, above the progress. */
  note(text: string): void;
  clear(): void;
}

/** One line on standard error, drawn over itself; nothing when that is no terminal. */
function progressLine(context: Context, total: number): ProgressLine {
  let drawn = '';
  const clear = (): void => {
    if (drawn !== '') context.err('\r\x1b[K');
    drawn = '';
  };
  const draw = (text: string): void => {
    if (!context.errIsTerminal || text === drawn) return;
    context.err(text === '' ? '\r\x1b[K' : `\r${text}\x1b[K`);
    drawn = text;
  };
  return {
    clear,
    note(text) {
      const was = drawn;
      clear();
      context.err(text);
      draw(was);
    },
    show(running, latest) {
      const job = [...running].find((one) => latest.has(one));
      const record = job && latest.get(job);
      if (!job || !record) return;
      const done = total > 1 ? `${total - running.size} of ${total} done, ` : '';
      const text = `${done}${job.label}: ${String(Math.round(record.percent)).padStart(3)} %  ${sanitise(record.message)}`;
      draw(truncate(text, (process.stderr.columns || 80) - 1));
    },
  };
}
