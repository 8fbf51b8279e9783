/** `veld evacuate` */
import type { VeView } from '../../ve/types.ts';
import { defineCommand } from '../command.ts';
import { runForEach } from '../operations.ts';
import { BANDWIDTH } from '../rate.ts';
import { parsePositive, segment } from '../values.ts';

interface Options {
  atOnce?: number;
  dryRun?: boolean;
  dropSnapshots?: boolean;
  maxFreeze?: number;
  bandwidth?: number;
}

/** How many VEs are on their way at a time, unless said otherwise: they share a wire, a disk and the processors. */
const AT_ONCE = 2;

export const command = defineCommand<{ node: string }, Options>({
  name: 'evacuate',
  group: 'Nodes',
  summary: 'Move all VEs of this node to another one',
  description: ['As `veld migrate` does each of them, a few at a time: before the host is updated, or switched off. Those that cannot go stay as they are, and the others go all the same.'],
  args: [{ name: 'node', help: 'Name of a paired node (`veld node list`)' }],
  options: [
    { flags: '--at-once <n>', help: `How many are on their way at a time (default ${AT_ONCE})`, parse: parsePositive },
    { flags: '--dry-run', help: 'Only say which can go' },
    { flags: '--drop-snapshots', help: 'Leave snapshots behind: they are lost' },
    { flags: '--max-freeze <ms>', help: 'Not when it is expected to stand for longer than this, in milliseconds', parse: parsePositive },
    { ...BANDWIDTH, help: 'Send of each VE no more than this many bytes per second, such as 50M (default `migration.bandwidth` of the settings)' },
  ],
  examples: [['evacuate node2', 'All that is here'], ['evacuate --dry-run node2', 'What would stand in the way']],
  errors: ['ve.busy', 've.frozen', 've.name_taken', 'template.not_found', 'address.taken', 'port.taken', 'checkpoint.refused', 'checkpoint.failed', 'restore.failed', 'restore.unhealthy', 'migration.refused', 'migration.link',
    'migration.stream', 'migration.undecided', 'disk.full', 'engine.missing', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  async run(context, { node }, options) {
    const ves = await (await context.client()).request<VeView[]>('GET', '/v1/ves');
    if (ves.length === 0 && !context.json) context.out('There are no VEs here.\n');
    const given = { ...options.bandwidth !== undefined && { bandwidth: options.bandwidth }, ...options.maxFreeze !== undefined && { maxFreeze: options.maxFreeze } };
    const body = { node, dryRun: Boolean(options.dryRun), dropSnapshots: Boolean(options.dropSnapshots), ...given };
    const jobs = ves.map(({ name }) => ({ label: name, method: 'POST' as const, path: `/v1/ves/${segment(name)}/migrate`, body }));
    return runForEach(context, jobs, { atOnce: options.atOnce ?? AT_ONCE }, (label) => (options.dryRun ? `${label} can go to ${node}` : `${label} is on ${node}`));
  },
});
