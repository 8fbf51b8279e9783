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
  description: ['Each snapshot stands below the one that the VE was made, or brought back to, last before it; where it has gone two ways since, both are set in.'],
  examples: [['snapshot list web', 'A tree, oldest first']],
  errors: ['ve.not_found'],
  json: 'an array of snapshots, the oldest first',
  async run(context, { ve }) {
    const snapshots = await (await context.client()).request<SnapshotRecord[]>('GET', `/v1/ves/${segment(ve)}/snapshots`);
    if (context.json) return context.printJson(snapshots);
    context.out(layoutTable([{ title: 'NAME' }, { title: 'MADE' }, { title: 'HOLDS' }, { title: 'DESCRIPTION', shrink: true }],
      tree(snapshots).map(({ depth, snapshot: { name, createdAt, engine, description } }) => [`${'  '.repeat(depth)}${name}`, formatClock(new Date(createdAt)), engine === null ? 'disk' : 'disk and processes', description]), context));
  },
});

/** Each snapshot below the one that it came after, oldest first. */
function tree(snapshots: readonly SnapshotRecord[], parent: string | null = null, depth = 0): { depth: number; snapshot: SnapshotRecord }[] {
  const known = new Set(snapshots.map(({ id }) => id));
  return snapshots.filter((one) => (one.parent !== null && known.has(one.parent) ? one.parent : null) === parent)
    // A line of descent, as most are, is no staircase: only where it parts does it go in.
    .flatMap((snapshot, _i, siblings) => [{ depth: depth + (siblings.length > 1 && parent !== null ? 1 : 0), snapshot }, ...tree(snapshots, snapshot.id, depth + (siblings.length > 1 && parent !== null ? 1 : 0))]);
}
