/** `veld node set` */
import type { NodeView } from '../../../cluster/types.ts';
import { formatRights, parseRights } from '../../../cluster/rights.ts';
import { VeldError } from '../../../lib/errors.ts';
import { defineCommand } from '../../command.ts';
import { parsePair, propertiesOf, segment } from '../../values.ts';
import { LOCAL } from './options.ts';

export const command = defineCommand<{ 'node': string; 'name=value': string[] }>({
  name: 'node set',
  group: 'Nodes',
  local: LOCAL,
  summary: 'Change what a node may do here, its address, or its name',
  description: ['`allow` takes rights separated by commas (manage, migrate), or none, and holds at once: taking a right away ends what the node is doing here. `address` is HOST:PORT. `name` is what the node is called here.'],
  args: [{ name: 'node', completes: 'node', help: 'Name of the node' }, { name: 'name=value', help: 'allow=RIGHTS, address=HOST:PORT, name=NAME', variadic: true }],
  examples: [['node set node2 allow=manage,migrate', 'node2 may use the API of this node'], ['node set node2 allow=none', 'It may only ask how this node is'], ['node set node2 address=192.0.2.9:7430', 'It has moved']],
  errors: ['node.not_found', 'node.name_taken', 'name.invalid'],
  json: 'the node',
  async run(context, { node, 'name=value': pairs }) {
    const { allow, ...rest } = propertiesOf(pairs.map(parsePair), 'node set');
    const unknown = Object.keys(rest).find((key) => key !== 'address' && key !== 'name');
    if (unknown !== undefined) throw new VeldError('usage', `node set: a node has no ${unknown}.`, { hint: 'There are allow, address and name.' });
    const body = { ...rest, ...allow !== undefined && { allow: parseRights(allow) } };
    const changed = await (await context.client()).request<NodeView>('PATCH', `/v1/nodes/${segment(node)}`, body);
    if (context.json) context.printJson(changed);
    else context.out(`${changed.name}: address ${changed.address ?? '-'}, may ${formatRights(changed.allow)} here\n`);
  },
});
