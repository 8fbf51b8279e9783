/** `veld exec` */
import type { ExecSession } from '../../client/client.ts';
import { VeldError } from '../../lib/errors.ts';
import type { Context } from '../context.ts';
import { defineCommand } from '../command.ts';
import { rawTerminal } from '../raw-terminal.ts';
import { fromPairs, parseVariable } from '../values.ts';

interface Options {
  /** `-t` true, `-T` false, neither: as the streams are. */
  tty?: boolean;
  user?: string;
  env?: [string, string][];
  cwd?: string;
  stdin: boolean;
}

/** Signals that are the command's business, not ours, while it runs without a terminal. */
const PASSED_ON: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'];

export const command = defineCommand<{ ve: string; command: string[] }, Options>({
  name: 'exec',
  group: 'Looking at VEs',
  summary: 'Run a command in a VE',
  description: [
    'Streams standard input, output and error. With a terminal the command gets one of the VE\'s own, and Ctrl-C goes to the command. A terminal is the default when standard input and output both are terminals.',
    'No shell is involved: for pipes and variables write `-- sh -c "..."`.',
  ],
  args: [{ name: 've', help: 'Name, number or UUID' }, { name: 'command', help: 'Program and arguments; everything from here on (or behind --) is theirs', commandLine: true }],
  options: [
    { flags: '-t, --tty', help: 'With a terminal' },
    { flags: '-T, --no-tty', help: 'Without a terminal' },
    { flags: '-u, --user <user>', help: 'User name or uid in the VE; default root', parse: parseUser },
    { flags: '-e, --env <name=value>', help: 'Set a variable of the environment', parse: parseVariable, repeat: true },
    { flags: '-C, --cwd <path>', help: 'Folder in the VE to start in', parse: parseFolder },
    { flags: '-n, --no-stdin', help: 'Standard input is empty' },
  ],
  examples: [
    ['exec web -- bash -l', 'A shell'],
    ['exec web systemctl status nginx', 'Without --, everything behind the VE is the command'],
    ['exec -u www-data -C /srv web -- tar c . > site.tar', 'Streams'],
  ],
  errors: ['ve.not_found', 've.not_running', 've.frozen', 'exec.not_found', 'exec.not_executable', 'exec.failed', 'session.invalid'],
  exits: [['other', 'of the command; 128 and the number of the signal that ended it']],
  async run(context, { ve, command: words }, options) {
    const { stdin, stdout } = process;
    const tty = options.tty ?? (stdin.isTTY && stdout.isTTY);
    const client = await context.client();
    const session = await client.exec(ve, {
      command: words,
      ...(options.user !== undefined && { user: options.user }),
      ...(options.env && { env: fromPairs(options.env) }),
      ...(options.cwd !== undefined && { cwd: options.cwd }),
      tty: tty ? { columns: stdout.columns || 80, rows: stdout.rows || 24, term: process.env.TERM || 'dumb' } : null,
    });
    return tty ? withTerminal(session, options.stdin) : withStreams(session, options.stdin, context);
  },
});

/** What may name a user, as the API takes it. */
function parseUser(text: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.$-]{0,63}$/.test(text)) throw new VeldError('usage', `${JSON.stringify(text)} is neither the name of a user nor a uid.`);
  return text;
}

function parseFolder(text: string): string {
  if (!text.startsWith('/')) throw new VeldError('usage', `${JSON.stringify(text)} is not an absolute path.`);
  return text;
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
