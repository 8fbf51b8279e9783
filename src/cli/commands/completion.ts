/** `veld completion` */
import { defineCommand } from '../command.ts';
import { completionScript } from '../completion/answer.ts';

export const command = defineCommand<{ shell: string }>({
  name: 'completion',
  group: 'Help',
  summary: 'Print the script that completes command lines in a shell',
  description: [
    '`./quickstart` puts these scripts where the shells look; this is for other places. Commands, options, properties and their values come from the '
    + 'tables of the program, names of VEs, templates and operations from the daemon; when that does not answer there are none.',
  ],
  args: [{ name: 'shell', help: 'Of which shell', choices: ['bash', 'zsh', 'fish'] }],
  examples: [
    ['completion bash >~/.local/share/bash-completion/completions/veld', 'For one user, with the package bash-completion'],
    ['completion zsh >/usr/local/share/zsh/site-functions/_veld', 'For all users of zsh'],
    ['completion fish | source', 'In this fish, now'],
  ],
  async run(context, { shell }) {
    context.out(completionScript(shell));
  },
});
