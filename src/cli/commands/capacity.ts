/** `veld capacity` */
import type { Capacity, Promised } from '../../resources/capacity.ts';
import { defineCommand } from '../command.ts';
import { layoutTable } from '../show/table.ts';
import { formatBytes } from '../show/text.ts';

export const command = defineCommand<object, { ves?: boolean }>({
  name: 'capacity',
  group: 'This node',
  summary: 'Show what of this node is promised to VEs, and what they use',
  description: [
    'Promised is the sum of limits (cpu.limit, memory.limit, memory.swap) of VEs that run; a VE without a limit promises nothing that could be counted, and is counted apart. Used is what they take now, without page cache.',
    'Whether more may be promised than there is say `overcommit.memory.ratio` and `overcommit.memory.action` of the settings.',
  ],
  options: [{ flags: '--ves', help: 'And a line for each VE' }],
  examples: [['capacity', 'Is there room for one more?'], ['capacity --ves', 'Who has been promised what']],
  json: 'an object: cpu (percent of one CPU), memory, memoryAndSwap, disk (bytes), and ves',
  async run(context, _args, { ves }) {
    const capacity = await (await context.client()).request<Capacity>('GET', '/v1/capacity');
    if (context.json) {
      context.printJson(capacity);
      return;
    }
    const { cpu, memory, memoryAndSwap, disk } = capacity;
    context.out(layoutTable([{ title: 'RESOURCE' }, { title: 'HOST', right: true }, { title: 'PROMISED', right: true }, { title: '%', right: true }, { title: 'TO ALL', right: true }, { title: 'WITHOUT LIMIT', right: true }, { title: 'USED', right: true }], [
      row('CPU', cpu, cpus), row('memory', memory, formatBytes), row('memory and swap', memoryAndSwap, formatBytes),
      ['disk', formatBytes(disk.total), '-', '-', '-', '-', `${formatBytes(disk.total - disk.free)} by all`],
    ], context));
    if (!ves) return;
    context.out(`\n${layoutTable([{ title: 'NAME', shrink: true }, { title: 'RUNS' }, { title: 'CPU', right: true }, { title: 'SHARE %', right: true }, { title: 'USED', right: true }, { title: 'MEMORY', right: true }, { title: 'OF HOST %', right: true }, { title: 'USED', right: true }], capacity.ves.map((ve) => [
      ve.name, ve.running ? 'yes' : 'no', orDash(ve.cpuPercent, cpus), orDash(ve.cpuShare, percent), orDash(ve.used?.cpuPercent, cpus), orDash(ve.memoryBytes, formatBytes),
      orDash(ve.memoryBytes, (bytes) => percent(bytes / memory.total)), orDash(ve.used?.memoryBytes, formatBytes),
    ]), context)}`);
  },
});

const percent = (share: number): string => (100 * share).toFixed(1);
const cpus = (value: number): string => `${value.toFixed(0)}%`;
const orDash = (value: number | null | undefined, format: (value: number) => string): string => (value === null || value === undefined ? '-' : format(value));

function row(title: string, of: Promised, format: (value: number) => string): string[] {
  return [title, format(of.total), format(of.promised), percent(of.ratio), format(of.promisedToAll), String(of.unlimited), orDash(of.used, format)];
}
