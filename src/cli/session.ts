/** Ties a session of the daemon (a command, a shell, a console) to this process's streams or terminal. */
import { isatty } from 'node:tty';
import type { ExecSession } from '../client/client.ts';
import type { TerminalRequest } from '../ve/types.ts';
import type { Context } from './context.ts';
import { rawTerminal } from './raw-terminal.ts';

/** Signals that are the command's business, not ours, while it runs without a terminal. */
const PASSED_ON: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'];

export interface SessionOptions {
  /** Whether the other side has a terminal. */
  tty: boolean;
  /** Whether standard input is passed on. */
  input: boolean;
}

/**
 * The terminal to ask for: like the user's own.
 * @param wanted `-t` true, `-T` false, neither: when standard input and output both are terminals
 */
export function ownTerminal(wanted?: boolean): TerminalRequest | null {
  // By descriptor: process.stdin and its like are made when they are first named, which takes a while, and is better done while the daemon works.
  if (!(wanted ?? (isatty(0) && isatty(1)))) return null;
  const { stdout } = process;
  const term = process.env.TERM ?? '';
  return { columns: stdout.columns || 80, rows: stdout.rows || 24, term: /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/.test(term) ? term : 'dumb' };
}

/** Pass everything on until the session ends. @returns its exit status */
export function runSession(context: Context, session: ExecSession, { tty, input }: SessionOptions): Promise<number> {
  return tty ? withTerminal(session, input) : withStreams(session, input, context);
}

/** Keys, output and size changes of the user's terminal to and from the VE's; the user's is restored on every way out. */
async function withTerminal(session: ExecSession, input: boolean): Promise<number> {
  const { stdin, stdout } = process;
  const restore = rawTerminal(stdin, stdout);
  const resize = (): void => session.resize(stdout.columns || 80, stdout.rows || 24);
  stdout.on('resize', resize);
  try {
    if (input) stdin.pipe(session.stdin);
    session.stdout.pipe(stdout, { end: false });
    return await session.exit;
  } finally {
    stdout.off('resize', resize);
    endInput(session);
    restore();
  }
}

/** The three streams, with back-pressure; signals go to the command. */
async function withStreams(session: ExecSession, input: boolean, context: Context): Promise<number> {
  const { stdin, stdout, stderr } = process;
  const pass = (signal: NodeJS.Signals): void => session.kill(signal);
  for (const signal of PASSED_ON) process.on(signal, pass);
  // When the reader of our output goes away, main.ts ends this process; the daemon sends SIGHUP to a command whose client is gone.
  try {
    if (input) {
      stdin.on('error', (error) => {
        context.err(`veld: standard input: ${error.message}\n`);
        session.stdin.end();
      });
      stdin.pipe(session.stdin);
    } else session.stdin.end();
    session.stdout.pipe(stdout, { end: false });
    session.stderr?.pipe(stderr, { end: false });
    return await session.exit;
  } finally {
    for (const signal of PASSED_ON) process.off(signal, pass);
    endInput(session);
  }
}

/** The command has ended: nobody wants the rest of standard input, and it must not keep this process. */
function endInput(session: ExecSession): void {
  process.stdin.unpipe(session.stdin);
  process.stdin.pause();
  process.stdin.unref?.();
}
