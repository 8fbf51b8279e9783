/** `veld migrate` */
import type { MigrateResult } from '../../migration/types.ts';
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import { NO_WAIT, runJob } from '../operations.ts';
import { BANDWIDTH } from '../rate.ts';
import { parsePositive, segment } from '../values.ts';

interface Options {
  dryRun?: boolean;
  dropSnapshots?: boolean;
  maxFreeze?: number;
  takeBack?: boolean;
  bandwidth?: number;
  copy?: boolean;
  as?: string;
  wait?: boolean;
}

export const command = defineCommand<{ ve: string; node?: string }, Options>({
  name: 'migrate',
  group: 'Nodes',
  summary: 'Move a VE to another node, without shutting it down',
  description: [
    'The VE keeps its UUID, name, addresses, limits and disk, and when it runs its processes and connections: its disk is sent while it runs, then it stands for a moment, and goes on there. Until the other node has all of it, it can go on here, and does when anything fails.',
    'When a node or the wire is lost in the one moment in which only the other node knows whether it has the VE, the VE stands here with all that it is, and the other node is asked until it answers. --take-back does not wait for that: only for a node that will never run again.',
    'With --copy another VE is made there, as `veld clone --live` does here: with UUID, addresses, machine-id and host keys of its own, and with the processes of one that runs, which stands for a moment only. Connections go on here, and are closed in the copy.',
  ],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }, { name: 'node', help: 'Name of a paired node (`veld node list`)', required: false }],
  options: [
    { flags: '--dry-run', help: 'Only say whether it can go, and what would be otherwise there' },
    { flags: '--drop-snapshots', help: 'Leave its snapshots behind: they are lost' },
    { flags: '--max-freeze <ms>', help: 'Not when it is expected to stand for longer than this, in milliseconds', parse: parsePositive },
    { flags: '--take-back', help: 'Bring a VE back that was granted to a node which is gone for good' },
    { flags: '--copy', help: 'Make a copy of it there, which is another VE with addresses and keys of its own, and let it go on here' },
    { flags: '--as <name>', help: 'Name of the copy (default: that of the VE)' },
    { ...BANDWIDTH, help: 'Send no more than this many bytes per second, such as 50M: also while it stands, which it does for longer then (default `migration.bandwidth` of the settings)' },
    NO_WAIT,
  ],
  examples: [['migrate web node2', 'With its processes, when it runs'], ['migrate web node2 --copy --as web2', 'A copy of it, while it goes on here'], ['migrate --dry-run web node2', 'What would stand in the way']],
  errors: ['ve.not_found', 'name.invalid', 've.busy', 've.frozen', 've.name_taken', 'template.not_found', 'address.taken', 'port.taken', 'checkpoint.refused', 'checkpoint.failed', 'restore.failed', 'restore.unhealthy', 'migration.refused',
    'migration.link', 'migration.stream', 'migration.undecided', 'disk.full', 'storage.failed', 'engine.missing', 'operation.cancelled', 'operation.interrupted'],
  json: 'what has become of it: node, number, kind, copy (its name), notes, bytes as sent and uncompressed, took, stood and expected (how long it was to stand) in milliseconds, memoryRounds, phases (what it stood for); with --no-wait or --take-back the operation',
  async run(context, { ve, node }, options) {
    if (options.takeBack ? node !== undefined : node === undefined) {
      throw new VeldError('usage', options.takeBack ? '--take-back takes no node.' : 'To which node?', { hint: 'veld migrate VE NODE, or veld migrate --take-back VE' });
    }
    if (options.as !== undefined && !options.copy) throw new VeldError('usage', 'Only a copy gets another name.', { hint: 'veld migrate VE NODE --copy --as NAME' });
    if (options.copy && (options.takeBack || options.dropSnapshots)) throw new VeldError('usage', `--copy leaves the VE and its snapshots where they are: there is nothing to ${options.takeBack ? 'take back' : 'drop'}.`);
    const path = `/v1/ves/${segment(ve)}/${options.takeBack ? 'take-back' : 'migrate'}`;
    const given = { ...options.bandwidth !== undefined && { bandwidth: options.bandwidth }, ...options.maxFreeze !== undefined && { maxFreeze: options.maxFreeze }, ...options.copy && { copy: true }, ...options.as !== undefined && { as: options.as } };
    const body = options.takeBack ? {} : { node, dryRun: Boolean(options.dryRun), dropSnapshots: Boolean(options.dropSnapshots), ...given };
    const record = await runJob(context, { label: ve, method: 'POST', path, body }, options);
    if (options.wait === false) return context.json ? context.printJson(record) : context.out(`${record.id}\n`);
    if (options.takeBack) return context.json ? context.printJson(record) : context.out(`${ve} is back\n`);
    const result = record.result as MigrateResult;
    if (context.json) return context.printJson(result);
    for (const note of result.notes) context.out(`Note: ${note}\n`);
    if (options.dryRun) return context.out(result.copy === null ? `${ve} (${result.kind}) can go to ${result.node}\n` : `${ve} (${result.kind}) can have a copy on ${result.node}: ${result.copy}\n`);
    const stood = result.stood === null ? '' : `, stood for ${Math.round(result.stood)} ms`;
    const before = result.bytes < result.uncompressed ? ` (compressed, of ${mib(result.uncompressed)})` : '';
    const what = result.copy === null ? ve : `${result.copy}, a copy of ${ve},`;
    context.out(`${what} is on ${result.node}: ${mib(result.bytes)}${before} in ${(result.took / 1000).toFixed(1)} s${stood}\n`);
    if (result.trouble !== null) context.out(`But: ${result.trouble}\n`);
  },
});

function mib(bytes: number): string {
  return `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}
