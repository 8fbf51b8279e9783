/** `veld pool show` */
import type { PoolView } from '../../../ve/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutFacts } from '../../show/table.ts';
import { formatBytes, formatTime } from '../../show/text.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ pool: string }>({
  name: 'pool show',
  group: 'This node',
  summary: 'Show a pool, and what can be limited there',
  args: [{ name: 'pool', completes: 'pool', help: 'Name of the pool' }],
  examples: [['pool show default', 'What the state folder\'s file system can hold']],
  errors: ['pool.not_found'],
  json: 'the pool',
  async run(context, { pool: name }) {
    const pool = await (await context.client()).request<PoolView>('GET', `/v1/pools/${segment(name)}`);
    if (context.json) return context.printJson(pool);
    context.out(layoutFacts([
      ['Name', pool.name],
      ['Folder', pool.path],
      ['Driver', pool.driver],
      ['Image', pool.image ? `${pool.image.file}, ${pool.image.fileSystem}, ${formatBytes(pool.image.bytes)}` : undefined],
      ['Size', pool.room ? formatBytes(pool.room.bytes) : 'it is not there'],
      ['Free', pool.room ? formatBytes(pool.room.freeBytes) : undefined],
      ['Free inodes', pool.room && pool.room.inodes > 0 ? `${pool.room.freeInodes} of ${pool.room.inodes}` : undefined],
      ['Templates', pool.shared ? `${formatBytes(pool.shared.bytes)}, shared by their VEs: ${formatBytes(pool.shared.saves)} less than if each had its own` : undefined],
      ['Reclaimable', pool.reclaimable ? `${formatBytes(pool.reclaimable)} (fstrim ${pool.path})` : undefined],
      ['VEs', pool.ves.join(', ') || 'none'],
      ...Object.entries(pool.holds ?? {}).map(([property, held]): [string, string] => [property === 'soft' ? 'Soft limits' : property, held === true ? 'can be held' : `cannot be held: ${held}`]),
      ['Created', pool.createdAt === null ? undefined : formatTime(pool.createdAt)],
    ], context));
  },
});
