/** `veld node add` */
import type { NodeView } from '../../../cluster/types.ts';
import type { Right } from '../../../cluster/rights.ts';
import { VeldError } from '../../../lib/errors.ts';
import { defineCommand } from '../../command.ts';
import type { Context } from '../../context.ts';
import { sanitise } from '../../show/text.ts';
import { ALLOW, LOCAL } from './options.ts';
import { aboutClock } from './list.ts';

interface Options {
  token?: string;
  address?: string;
  allow?: Right[];
}

export const command = defineCommand<{ name: string }, Options>({
  name: 'node add',
  group: 'Nodes',
  local: LOCAL,
  summary: 'Pair with another node, by a token that was made there',
  description: [
    'Make the token on the other node with `veld node token`. Without --token it is read from standard input, where no other user of the host can see it.',
    'Nothing is sent before the other has shown that it is the node that made the token. The token is used up by the attempt. Afterwards each of the two knows the other by its certificate.',
  ],
  args: [{ name: 'name', help: 'What the other node is called here' }],
  options: [
    { flags: '-t, --token <token>', help: 'The token; `-` or left out: from standard input' },
    { flags: '-a, --address <address>', help: 'HOST:PORT of the other node, when the address in the token is not the way to it from here' },
    ALLOW,
  ],
  examples: [['node add node2 --address node2.example.org:7430', 'Pair; the token is asked for'], ['node add node2 --token -', 'In a script, with the token on standard input']],
  errors: ['node.token_invalid', 'node.untrusted', 'node.unreachable', 'node.name_taken', 'node.paired', 'node.protocol', 'node.failed', 'name.invalid', 'daemon.overloaded'],
  json: 'the node',
  async run(context, { name }, { token, address, allow }) {
    const word = token === undefined || token === '-' ? await readToken(context) : token.trim();
    const node = await (await context.client()).request<NodeView>('POST', '/v1/nodes', { name, token: word, address, allow });
    if (context.json) return context.printJson(node);
    const warning = aboutClock(node);
    context.out(`${name} is paired: ${sanitise(node.address ?? '-')}, Veld ${sanitise(node.version ?? '?')}\n`);
    if (warning !== undefined) context.err(`veld: ${warning}\n`);
    if (node.uidsOverlap) context.err(`veld: ${name} uses uids that this node uses, too: a VE that moves between them gets other ones.\n`);
  },
});

/** One line of standard input. */
async function readToken(context: Context): Promise<string> {
  if (process.stdin.isTTY && context.errIsTerminal) context.err('Token (from `veld node token` on the other node): ');
  const { createInterface } = await import('node:readline');
  const reader = createInterface({ input: process.stdin, terminal: false });
  try {
    for await (const line of reader) if (line.trim() !== '') return line.trim();
  } finally {
    reader.close();
  }
  throw new VeldError('usage', 'node add: no token came on standard input.', { hint: 'Make one on the other node with `veld node token`.' });
}
