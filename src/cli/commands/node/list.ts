/** `veld node list` */
import type { NodeView } from '../../../cluster/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';
import { sanitise } from '../../show/text.ts';
import { LOCAL } from './options.ts';

/** Clocks that differ by more are worth a warning, in milliseconds. */
const CLOCK_TOLERANCE = 1000;

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'node list',
  group: 'Nodes',
  local: LOCAL,
  summary: 'List the nodes that this one is paired with, each asked how it is',
  description: ['RTT is the time of a question and its answer, CLOCK how far the other clock is ahead. A node that does not answer within 4 s is unreachable.'],
  options: [{ flags: '-q, --quiet', help: 'Names only, one a line; nobody is asked' }],
  examples: [['node list', 'A table']],
  json: 'an array of nodes; with --quiet an array of names',
  async run(context, _args, { quiet }) {
    const nodes = await (await context.client()).request<NodeView[]>('GET', `/v1/nodes${quiet ? '' : '?look=true'}`);
    if (quiet) return context.json ? context.printJson(nodes.map(({ name }) => name)) : context.out(nodes.map(({ name }) => `${name}\n`).join(''));
    if (context.json) return context.printJson(nodes);
    context.out(layoutTable([
      { title: 'NAME', shrink: true }, { title: 'ADDRESS', shrink: true }, { title: 'STATE' }, { title: 'VERSION' }, { title: 'RTT', right: true }, { title: 'CLOCK', right: true },
    ], nodes.map((node) => [node.name, node.address ?? '-', node.state, sanitise(node.version ?? '-'), node.rtt === null ? '-' : formatRtt(node.rtt), node.clock === null ? '-' : formatClockOffset(node.clock)]), context));
    for (const node of nodes) {
      const warning = aboutClock(node);
      if (warning !== undefined) context.err(`veld: ${warning}\n`);
    }
  },
});

/** `0.42 ms`, `12 ms`, `1.2 s`. */
export function formatRtt(milliseconds: number): string {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${milliseconds < 10 ? milliseconds.toFixed(2) : String(Math.round(milliseconds))} ms`;
}

/** `+3 ms`, `-1.5 s`. */
export function formatClockOffset(milliseconds: number): string {
  const sign = milliseconds < 0 ? '-' : '+';
  const size = Math.abs(milliseconds);
  return size < 1000 ? `${sign}${Math.round(size)} ms` : `${sign}${(size / 1000).toFixed(1)} s`;
}

/** A warning about a clock that is too far off. */
export function aboutClock({ name, clock }: NodeView): string | undefined {
  if (clock === null || Math.abs(clock) <= CLOCK_TOLERANCE) return undefined;
  return `The clock of ${name} is ${(Math.abs(clock) / 1000).toFixed(1)} s ${clock > 0 ? 'ahead of' : 'behind'} this node's: run a time service on both.`;
}
