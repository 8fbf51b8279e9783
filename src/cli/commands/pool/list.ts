/** `veld pool list` */
import type { PoolView } from '../../../ve/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';
import { formatBytes } from '../../show/text.ts';

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'pool list',
  group: 'This node',
  summary: 'List all pools',
  options: [{ flags: '-q, --quiet', help: 'Names only, one a line' }],
  examples: [['pool list', 'A table']],
  json: 'an array of pools; with --quiet an array of names',
  async run(context, _args, { quiet }) {
    const pools = await (await context.client()).request<PoolView[]>('GET', '/v1/pools');
    if (context.json) context.printJson(quiet ? pools.map(({ name }) => name) : pools);
    else if (quiet) context.out(pools.map(({ name }) => `${name}\n`).join(''));
    else {
      context.out(layoutTable([
        { title: 'NAME' }, { title: 'DRIVER' }, { title: 'SIZE', right: true }, { title: 'FREE', right: true }, { title: 'VES', right: true }, { title: 'HOLDS', shrink: true }, { title: 'PATH', shrink: true },
      ], pools.map(({ name, driver, room, ves, holds, path }) => [
        name, driver, room ? formatBytes(room.bytes) : 'not there', room ? formatBytes(room.freeBytes) : '-', String(ves.length), heldOf(holds), path,
      ]), context));
    }
  },
});

/** The quotas that it holds, shortly. */
function heldOf(holds: PoolView['holds']): string {
  if (holds === null) return '-';
  return Object.entries(holds).filter(([name, held]) => held === true && name !== 'soft').map(([name]) => name.replace('disk.', '')).join(', ') || 'no limits';
}
