/** `veld node remove` */
import { VeldError } from '../../../lib/errors.ts';
import { confirm } from '../../confirm.ts';
import { defineCommand } from '../../command.ts';
import { sanitise } from '../../show/text.ts';
import { segment } from '../../values.ts';
import { LOCAL } from './options.ts';

export const command = defineCommand<{ node: string }, { yes?: boolean }>({
  name: 'node remove',
  group: 'Nodes',
  local: LOCAL,
  summary: 'End the pairing with a node at once',
  description: ['Its certificate counts for nothing here from this moment, and all connections with it end. It is told, if it can be reached; if not, it finds out when it asks. Asks first when standard input is a terminal.'],
  args: [{ name: 'node', completes: 'node', help: 'Name of the node' }],
  options: [{ flags: '-y, --yes', help: 'Do not ask' }],
  examples: [['node remove node2', 'No more trust in node2']],
  errors: ['node.not_found', 'operation.cancelled'],
  json: 'whether the other side could be told, and why not',
  async run(context, { node }, { yes }) {
    if (!yes && process.stdin.isTTY && context.errIsTerminal && !await confirm(context, `End the pairing with ${node}?`)) throw new VeldError('operation.cancelled', 'Not removed.');
    const answer = await (await context.client()).request<{ told: boolean; reason: string | null }>('DELETE', `/v1/nodes/${segment(node)}`);
    if (context.json) return context.printJson(answer);
    context.out(`${node} removed${answer.told ? ', and told so' : ''}\n`);
    if (!answer.told) context.err(`veld: ${node} was not told: ${sanitise(answer.reason ?? 'unknown')}\n`);
  },
});
