/** `veld enter` */
import { defineCommand } from '../command.ts';
import { ownTerminal, runSession } from '../session.ts';
import { fromPairs, parseUser, parseVariable } from '../values.ts';

interface Options {
  user?: string;
  env?: [string, string][];
}

export const command = defineCommand<{ ve: string }, Options>({
  name: 'enter',
  group: 'Looking at VEs',
  summary: 'Open a login shell in a VE',
  description: [
    'The shell that the VE\'s own passwd names, as a login shell, in the user\'s home, with a terminal of the VE\'s own; no password is asked for. Should that shell not exist, bash or sh steps in.',
    'Without a terminal at standard input and output the shell reads its commands from standard input.',
  ],
  args: [{ name: 've', help: 'Name, number or UUID' }],
  options: [
    { flags: '-u, --user <user>', help: 'User name or uid in the VE; default root', parse: parseUser },
    { flags: '-e, --env <name=value>', help: 'Set a variable of the environment', parse: parseVariable, repeat: true },
  ],
  examples: [
    ['enter web', 'A shell of root'],
    ['enter -u www-data web', 'Of another user'],
  ],
  errors: ['ve.not_found', 've.not_running', 've.frozen', 'exec.not_found', 'exec.not_executable', 'exec.failed', 'session.invalid'],
  exits: [['other', 'of the shell; 128 and the number of the signal that ended it']],
  async run(context, { ve }, options) {
    const tty = ownTerminal();
    const client = await context.client();
    const session = await client.session(ve, 'shell', {
      ...(options.user !== undefined && { user: options.user }),
      ...(options.env && { env: fromPairs(options.env) }),
      tty,
    }, tty !== null);
    return runSession(context, session, { tty: tty !== null, input: true });
  },
});
