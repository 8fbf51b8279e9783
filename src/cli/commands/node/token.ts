/** `veld node token` */
import type { Right } from '../../../cluster/rights.ts';
import { defineCommand } from '../../command.ts';
import { formatTime } from '../../show/text.ts';
import { ALLOW, LOCAL } from './options.ts';

export const command = defineCommand<object, { name?: string; allow?: Right[]; address?: string }>({
  name: 'node token',
  group: 'Nodes',
  local: LOCAL,
  summary: 'Print a token that lets another node pair with this one',
  description: [
    'The token is one word. It is good once, within 10 minutes, and holds the address of this node and the fingerprint of its certificate authority, so that the other knows '
    + 'whom it talks to. Whoever has it can pair: give it away as you would a password.',
    'This node must listen (nodes.listen in the settings).',
  ],
  options: [
    ALLOW,
    { flags: '-n, --name <name>', help: 'What the other node is called here; default: what it calls itself' },
    { flags: '-a, --address <address>', help: 'HOST:PORT of this node as the other reaches it; default: nodes.address or nodes.listen of the settings' },
  ],
  examples: [['node token', 'A token for a node that may move VEs to and from this one'], ['node token --allow manage,migrate', 'It may use the whole API of this node, too']],
  errors: ['node.not_listening', 'name.invalid', 'daemon.overloaded', 'node.failed'],
  json: 'the token, the address in it, and when it ends',
  async run(context, _args, options) {
    const made = await (await context.client()).request<{ token: string; address: string; expiresAt: string }>('POST', '/v1/node/tokens', options);
    if (context.json) return context.printJson(made);
    context.out(`${made.token}\n`);
    if (context.errIsTerminal) context.err(`Good once, until ${formatTime(made.expiresAt).split(' (')[0]}. On the other node: veld node add NAME --address ${made.address}\n`);
  },
});
