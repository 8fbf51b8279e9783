/** `veld snapshot diff` */
import type { Difference } from '../../../storage/differences.ts';
import { defineCommand } from '../../command.ts';
import { sanitise } from '../../show/text.ts';
import { segment } from '../../values.ts';

const LETTERS: Record<Difference['change'], string> = { added: 'A', removed: 'D', changed: 'M' };

export const command = defineCommand<{ ve: string; name: string; other: string | undefined }>({
  name: 'snapshot diff',
  group: 'Checkpoints',
  summary: 'List what has changed on the disk since a snapshot',
  description: ['A line for each file that has come (A), gone (D) or changed (M), and for each folder that has come or gone; of what was in a folder that is gone nothing is said. With two snapshots: from the first to the second.'],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }, { name: 'name', help: 'Name of the snapshot' }, { name: 'other', help: 'Another snapshot; default: the VE as it is now', required: false }],
  examples: [['snapshot diff web before-upgrade', 'What the upgrade has changed'], ['snapshot diff web before after', 'Between two of them']],
  errors: ['ve.not_found', 'snapshot.not_found', 'storage.failed', 'pool.unavailable'],
  json: 'an array of paths with what has become of them',
  async run(context, { ve, name, other }) {
    const query = other === undefined ? '' : `?to=${encodeURIComponent(other)}`;
    const found = await (await context.client()).request<Difference[]>('GET', `/v1/ves/${segment(ve)}/snapshots/${segment(name)}/diff${query}`);
    if (context.json) return context.printJson(found);
    // Names come from inside the VE: bytes, of which most are UTF-8, and hostile.
    context.out(found.map(({ change, path, type }) => `${LETTERS[change]} ${sanitise(Buffer.from(path, 'latin1').toString('utf8')).replaceAll('\n', '\uFFFD')}${type === 'folder' ? '/' : ''}\n`).join(''));
  },
});
