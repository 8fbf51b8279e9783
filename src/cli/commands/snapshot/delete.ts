/** `veld snapshot delete` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runForEach } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ ve: string; name: string[] }, { wait: boolean }>({
  name: 'snapshot delete',
  group: 'Checkpoints',
  summary: 'Delete snapshots of a VE',
  description: ['The VE is not touched. What other snapshots, clones or the VE itself still stand on is kept for them.'],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }, { name: 'name', help: 'Names of snapshots', variadic: true }],
  options: [NO_WAIT],
  examples: [['snapshot delete web before-upgrade', 'Delete one']],
  errors: ['ve.not_found', 've.busy', 'snapshot.not_found', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  async run(context, { ve, name }, options) {
    let status = 0;
    // One after the other: they work on the same VE.
    for (const label of name) {
      const ended = await runForEach(context, [{ label, method: 'DELETE', path: `/v1/ves/${segment(ve)}/snapshots/${segment(label)}` }], options, () => `snapshot ${label} of ${ve} deleted`);
      status ||= ended;
    }
    return status;
  },
});
