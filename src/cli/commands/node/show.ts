/** `veld node show` */
import type { NodeView, OwnNode } from '../../../cluster/types.ts';
import { defineCommand } from '../../command.ts';
import type { Context } from '../../context.ts';
import { layoutFacts } from '../../show/table.ts';
import { formatTime, sanitise } from '../../show/text.ts';
import { segment } from '../../values.ts';
import { aboutClock, formatClockOffset, formatRtt } from './list.ts';
import { LOCAL } from './options.ts';

export const command = defineCommand<{ node: string | undefined }>({
  name: 'node show',
  group: 'Nodes',
  local: LOCAL,
  summary: 'Show a node that this one is paired with, or this node itself',
  args: [{ name: 'node', completes: 'node', help: 'Name of the node; left out: this node as others see it', required: false }],
  examples: [['node show node2', 'Versions, rights, distance, clock'], ['node show', 'Name, address and fingerprint of this node']],
  errors: ['node.not_found', 'node.failed'],
  json: 'the node',
  async run(context, { node: name }) {
    const client = await context.client();
    if (name === undefined) return showOwn(context, await client.request<OwnNode>('GET', '/v1/node'));
    const node = await client.request<NodeView>('GET', `/v1/nodes/${segment(name)}`);
    if (context.json) return context.printJson(node);
    const said = (text: string | null): string | undefined => text === null ? undefined : sanitise(text);
    context.out(layoutFacts([
      ['Name', node.name],
      ['Address', node.address ?? 'none: it does not listen'],
      ['State', node.state],
      ['Reason', said(node.reason)],
      ['May do here', node.allow.join(', ') || 'nothing'],
      ['Allows this node', node.allowed.map(sanitise).join(', ') || 'nothing'],
      ['Veld', said(node.version)],
      ['Protocol', node.protocol === null ? undefined : String(node.protocol)],
      ['Capabilities', node.capabilities.map(sanitise).join(', ') || undefined],
      ['Kernel', node.kernel === null ? undefined : `${sanitise(node.kernel)}, ${sanitise(node.architecture ?? '')}, cgroup ${node.cgroup}`],
      ['Engine', said(node.engine)],
      ['Uids', node.uids === null ? undefined : `${node.uids.base} to ${node.uids.base + node.uids.count - 1}${node.uidsOverlap ? ' (some of them are this node\'s, too)' : ''}`],
      ['Round trip', node.rtt === null ? undefined : formatRtt(node.rtt)],
      ['Clock', node.clock === null ? undefined : formatClockOffset(node.clock)],
      ['Paired', formatTime(node.pairedAt)],
      ...node.fingerprints.map((fingerprint, i): [string, string] => [i === 0 ? 'Authority' : 'Next authority', fingerprint]),
    ], context));
    const warning = aboutClock(node);
    if (warning !== undefined) context.err(`veld: ${warning}\n`);
  },
});

function showOwn(context: Context, node: OwnNode): void {
  if (context.json) return context.printJson(node);
  context.out(layoutFacts([
    ['Name', node.name],
    ['Address', node.address ?? 'none: this node does not listen for others (nodes.listen in the settings)'],
    ['Authority', node.fingerprint],
    ['Authority ends', node.authorityEnds.slice(0, 10)],
    ['Certificate ends', `${node.certificateEnds.slice(0, 10)}, renewed by itself before`],
    ['New authority', node.rotating === null ? undefined : node.rotating.length > 0 ? `waits for ${node.rotating.join(', ')}` : 'takes over within a minute'],
  ], context));
}
