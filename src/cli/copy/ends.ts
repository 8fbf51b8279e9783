/** The two ends of a copy: where the stream of files comes from, and where it goes to. */
import type { Readable, Writable } from 'node:stream';
import { once } from 'node:events';
import type { Client, ExecSession } from '../../client/client.ts';
import { VeldError } from '../../lib/errors.ts';
import { sanitise } from '../show/text.ts';

export interface Source {
  stream: Readable;
  /** Settles when all of it has come. @returns what was odd, for the user @throws VeldError when it is not whole */
  finished(): Promise<string>;
  abort(): void;
}

export interface Target {
  write(chunk: Buffer): Promise<void>;
  /** All has come: put it in its place. */
  commit(): Promise<void>;
  /** Leave nothing behind. */
  abort(): Promise<void>;
}

/** A place in a VE, which may be gone at any time. */
export interface VeTarget extends Target {
  /** Settles when it takes no more, whatever the reason: whoever waits for something to write need not wait any longer. */
  over: Promise<void>;
  /** @throws VeldError why it takes no more, if that is so */
  check(): void;
}

/** What a program said, in one line for a message. The program may be a VE's. */
export function lastWords(text: string): string {
  const lines = sanitise(text).trim().split('\n').filter((line) => !/Exiting with failure status/.test(line));
  return lines.slice(-2).map((line) => line.replace(/^(tar|busybox|cat|mv): /, '')).join('; ').slice(-400);
}

/** Keeps the end of a stream's text. */
export function listenTo(stream: Readable | null): () => string {
  let said = '';
  stream?.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-4000); });
  return () => said;
}

/** Write with back-pressure. A stream that breaks does not hold the caller, who hears of it by other ways. */
export async function pour(into: Writable, chunk: Buffer): Promise<void> {
  if (into.destroyed || into.write(chunk)) return;
  const left = new AbortController();
  try {
    await Promise.race([once(into, 'drain', { signal: left.signal }), once(into, 'close', { signal: left.signal })]).catch(() => {});
  } finally {
    left.abort();
  }
}

/** A tree or a file's content in a VE. */
export async function veSource(client: Client, ve: string, request: { path: string; as: 'tree' | 'content'; follow?: boolean }): Promise<Source> {
  const session = await client.session(ve, 'files/read', request, false);
  const said = listenTo(session.stderr);
  session.stdin.end();
  return {
    stream: session.stdout,
    async finished() {
      const code = await session.exit;
      // 1: a file changed while it was read, as with cp.
      if (code > 1 || (code === 1 && request.as === 'content')) throw failed(ve, said(), code);
      return said();
    },
    abort: () => session.kill('SIGHUP'),
  };
}

/** A place in a VE to be written. */
export async function veTarget(client: Client, ve: string, request: { path: string; as: 'tree' | 'content'; folder?: boolean; name?: string }): Promise<VeTarget> {
  const session: ExecSession = await client.session(ve, 'files/write', request, false);
  const said = listenTo(session.stderr);
  session.stdout.resume();
  let ended: number | undefined;
  let broken: unknown;
  const exit = session.exit.then((code) => { ended = code; }, (error: unknown) => { broken = error; });
  const check = (): void => {
    if (broken !== undefined) throw broken as Error;
    if (ended !== undefined) throw failed(ve, said(), ended);
  };
  return {
    over: exit,
    check,
    async write(chunk) {
      check(); // it has refused: no use in sending the rest
      await Promise.race([pour(session.stdin, chunk), exit]);
    },
    async commit() {
      session.stdin.end();
      await exit;
      if (ended !== 0) check();
    },
    async abort() {
      session.kill('SIGHUP');
      await exit;
    },
  };
}

function failed(ve: string, said: string, code: number): VeldError {
  return new VeldError('copy.failed', `${ve}: ${lastWords(said) || `the copy ended with status ${code}`}.`);
}
