/** `veld snapshot list` */
import type { SnapshotRecord } from '../../../store/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';
import { formatClock } from '../../show/text.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ ve: string }>({
  name: 'snapshot list',
  group: 'Checkpoints',
  summary: 'List the snapshots of a VE',
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }],
  examples: [['snapshot list web', 'Oldest first']],
  errors: ['ve.not_found'],
  json: 'an array of snapshots, the oldest first',
  async run(context, { ve }) {
    const snapshots = await (await context.client()).request<SnapshotRecord[]>('GET', `/v1/ves/${segment(ve)}/snapshots`);
    if (context.json) return context.printJson(snapshots);
    context.out(layoutTable([{ title: 'NAME' }, { title: 'MADE' }, { title: 'HOLDS' }],
      snapshots.map(({ name, createdAt, engine }) => [name, formatClock(new Date(createdAt)), engine === null ? 'disk' : 'disk and processes']), context));
  },
});
