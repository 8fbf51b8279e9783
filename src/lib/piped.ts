/** Programs behind each other: what one writes the next one reads. */
import { spawn } from 'node:child_process';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { VeldError } from './errors.ts';
import { SAFE_PATH } from './run.ts';

export interface Piped {
  output: Readable;
  /** Settles at its end. Rejects with a VeldError `command.failed`, `disk.full`, `operation.cancelled`. */
  ended: Promise<void>;
}

/** Wait for all programs of a chain. One that ended because the next one took no more is not what went wrong. @throws VeldError of the first of the others */
export async function allEnded(chain: readonly Piped[]): Promise<void> {
  const failures = (await Promise.allSettled(chain.map(({ ended }) => ended))).flatMap((result) => (result.status === 'rejected' ? [result.reason as VeldError] : []));
  // (Between Node and a program there is a socket, not a pipe: what writes to one that is closed may be told so in words, too.)
  const cause = failures.find((error) => error.details?.signal !== 'SIGPIPE' && !/Broken pipe|Connection reset by peer/.test(error.message)) ?? failures[0];
  if (cause !== undefined) throw cause;
}

/** A program of a chain. @param input default: nothing to read */
export function runPiped(program: string, args: readonly string[], signal: AbortSignal, input?: Readable): Piped {
  // gpg looks for root's keys there, or where the daemon was told that they are.
  const { HOME = '/root', GNUPGHOME } = process.env;
  const child = spawn(program, args, { cwd: '/', env: { PATH: SAFE_PATH, LC_ALL: 'C.UTF-8', HOME, ...GNUPGHOME !== undefined && { GNUPGHOME } }, stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'], signal });
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-2000); });
  const fed = input ? pipeline(input, child.stdin!) : Promise.resolve();
  const exit = new Promise<void>((resolve, reject) => {
    child.on('error', (error) => reject(error.name === 'AbortError' ? new VeldError('operation.cancelled', 'The operation was cancelled.', { cause: error })
      : (error as NodeJS.ErrnoException).code === 'ENOENT' ? new VeldError('command.failed', `${program} is not installed on this node.`, { hint: `apt-get install ${program}` }) : error));
    child.on('close', (code, killed) => {
      const how = killed === null ? `with status ${code}` : `by ${killed}`;
      if (code === 0) resolve();
      else reject(new VeldError(/No space left/.test(said) ? 'disk.full' : 'command.failed', `${basename(program)} ended ${how}: ${said.trim().slice(-500)}`, { details: { signal: killed } }));
    });
  });
  // A program that has ended well has had all that it wanted: that its end came before we saw the last of it taken is no failure.
  const unfed = (error: NodeJS.ErrnoException): void => { if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error; };
  const ended = Promise.all([exit, fed.catch((error: unknown) => exit.then(() => unfed(error as NodeJS.ErrnoException)))]).then(() => {});
  ended.catch(() => {}); // whoever waits hears of it
  return { output: child.stdout!, ended };
}
