/** `veld exec` */
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import { ownTerminal, runSession } from '../session.ts';
import { fromPairs, parseUser, parseVariable } from '../values.ts';

interface Options {
  /** `-t` true, `-T` false, neither: as the streams are. */
  tty?: boolean;
  user?: string;
  env?: [string, string][];
  cwd?: string;
  stdin: boolean;
}

export const command = defineCommand<{ ve: string; command: string[] }, Options>({
  name: 'exec',
  group: 'Looking at VEs',
  summary: 'Run a command in a VE',
  description: [
    'Streams standard input, output and error. With a terminal the command gets one of the VE\'s own, and Ctrl-C goes to the command. A terminal is the default when standard input and output both are terminals.',
    'No shell is involved: for pipes and variables write `-- sh -c "..."`.',
  ],
  args: [{ name: 've', completes: 'running ve', help: 'Name, number or UUID' }, { name: 'command', help: 'Program and arguments; everything from here on (or behind --) is theirs', commandLine: true }],
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
    const tty = ownTerminal(options.tty);
    const client = await context.client();
    const session = await client.exec(ve, {
      command: words,
      ...(options.user !== undefined && { user: options.user }),
      ...(options.env && { env: fromPairs(options.env) }),
      ...(options.cwd !== undefined && { cwd: options.cwd }),
      tty,
    });
    return runSession(context, session, { tty: tty !== null, input: options.stdin });
  },
});

function parseFolder(text: string): string {
  if (!text.startsWith('/')) throw new VeldError('usage', `${JSON.stringify(text)} is not an absolute path.`);
  return text;
}
